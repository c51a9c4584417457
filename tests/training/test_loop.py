"""The loop: gradients that do not depend on how a batch is divided, and the reasons to stop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fathom.devices import fast_bf16
from fathom.errors import DataError, FathomError, UsageError
from fathom.models import MODELS
from fathom.models import saved as checkpoint
from fathom.report.images.training import draw_examples
from fathom.sample import Batch
from fathom.training import loop
from fathom.training.devices import explained, resolve_precision
from fathom.training.frames.feed import Frames
from fathom.training.frames.holdout import divide
from fathom.training.frames.order import Order
from fathom.training.loop import DivergedError, batch_gradient
from fathom.training.losses import objective
from fathom.training.recipe import LossSection, from_table, load_recipe
from fathom.training.run import journal
from fathom.training.session import spread
from fathom.training.train import train
from tests.training import painted


def fit(out: Path, steps: int = 6, data: Any = None, test: Any = None, **sections: Any) -> Any:
    table = from_table(painted.recipe(steps, **sections))
    return train(table, data or painted.painted(), test=test, out=out, device="cpu")


def gradients(parts: list[Batch], precision: str = "32-true", **options: Any) -> list[torch.Tensor]:
    from lightning_fabric import Fabric

    torch.manual_seed(0)
    network = MODELS["unet"](MODELS["unet"].Config(widths=(8, 16), blocks=1, attention_levels=1, head_width=16))
    for name, value in options.items():
        setattr(network, name, value)
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
    model, _ = fabric.setup(network, torch.optim.SGD(network.parameters(), lr=0.1))
    loss = objective(LossSection(mae=1.0, mse=0.3, gradient=1.0, ssim=1.0, silog=0.1))
    batch_gradient(fabric, model, network, loss, parts, sum(len(part.ids) for part in parts))
    return [parameter.grad.clone() for parameter in network.parameters()]


def test_accumulated_parts_give_the_gradient_of_the_whole_batch_with_unequal_valid_counts() -> None:
    frames = Frames(painted.painted(holes=True), (16, 24))
    samples = [frames[i] for i in range(7)]
    samples[2].valid[:] = False
    samples[5].valid[..., 4:] = False
    whole = gradients([Batch.of(samples)])
    divided = gradients([Batch.of(samples[:3]), Batch.of(samples[3:4]), Batch.of(samples[4:])])
    for a, b in zip(whole, divided, strict=True):
        assert (a - b).abs().max() <= 1e-5 * max(1.0, float(a.abs().max()))


def test_recomputed_activations_give_the_same_gradient() -> None:
    frames = Frames(painted.painted(), (16, 24))
    parts = [Batch.of([frames[i] for i in range(3)])]
    for a, b in zip(gradients(parts), gradients(parts, checkpointing=True), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_bf16_computes_the_loss_in_float32() -> None:
    kinds = []
    make = loop.objective

    def spy(section: LossSection) -> Any:
        inner = make(section)

        def watched(prediction: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> Any:
            value, terms = inner(prediction, target, valid)
            kinds.append((prediction.dtype, value.dtype))
            return value, terms

        return watched

    frames = Frames(painted.painted(), (16, 24))
    from lightning_fabric import Fabric

    network = MODELS["autoencoder"](MODELS["autoencoder"].Config(width=8, groups=2, blocks=1))
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    model, _ = fabric.setup(network, torch.optim.SGD(network.parameters(), lr=0.1))
    seen: list[torch.dtype] = []
    network.encoder["input"].register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    parts = [Batch.of([frames[0], frames[1]])]
    batch_gradient(fabric, model, network, spy(LossSection(mse=1.0)), parts, 2)
    assert seen == [torch.bfloat16]
    assert kinds == [(torch.float32, torch.float32)]
    assert all(p.dtype == torch.float32 and p.grad.dtype == torch.float32 for p in network.parameters())


def test_a_run_folder_holds_what_is_promised(tmp_path: Path) -> None:
    trained = fit(tmp_path, 6, validation={"pictures": 2}, train={"ema": 0.9})
    assert {path.name for path in tmp_path.iterdir()} == {
        "recipe.toml", "checkpoints", "metrics.jsonl", "summary.json", "examples.safetensors",
    }  # fmt: skip
    assert load_recipe(tmp_path / "recipe.toml") == from_table(
        painted.recipe(6, validation={"pictures": 2}, train={"ema": 0.9})
    )
    assert checkpoint.saved_steps(tmp_path) == [3, 6]
    picture = draw_examples(trained)
    assert picture is not None and picture.stat().st_size > 10_000
    lines = journal.read(tmp_path)
    assert [line["step"] for line in lines if "loss" in line] == [2, 4, 6]
    assert {"loss", "loss/mae", "loss/gradient", "lr", "images_per_second"} <= lines[0].keys()
    for line in lines:
        if "loss" in line:
            assert line["loss"] == pytest.approx(line["loss/mae"] + 0.5 * line["loss/gradient"], rel=1e-5)
    validations = [line for line in lines if "validation" in line]
    assert [line["step"] for line in validations] == [4, 6]
    assert validations[0]["validation"].keys() == {"seen", "unseen"}


def test_the_summary_scores_network_and_baselines_on_the_same_frames(tmp_path: Path) -> None:
    data, other = painted.painted(scenes=8), painted.painted(scenes=3, views=2)
    trained = fit(tmp_path, 150, data, other, train={"save_every": 100}, augment={"brightness": 0.0})
    summary = json.loads((tmp_path / "summary.json").read_text())
    unseen = data.of_scenes(trained.info["unseen_scenes"])
    kept = [s for s in data if s.scene in trained.train_scenes]
    frames = summary["data"]["frames"]
    assert frames["train"] + frames["seen"] == len(kept) and frames["unseen"] == len(unseen)
    assert frames["test"] == 6
    # The scores again, by hand, from the checkpoint and the data.
    images = torch.stack([sample.float_image() for sample in unseen])
    with torch.no_grad():
        predicted = trained.model(images).double().numpy()
    truth = np.stack([sample.depth.double().numpy() for sample in unseen])
    rmse = np.sqrt(((predicted - truth) ** 2).mean((1, 2, 3))).mean()
    assert summary["scores"]["unseen"]["model"]["rmse"] == pytest.approx(rmse, rel=1e-4)
    ratio = np.maximum(predicted / truth, truth / predicted) < 1.25
    assert summary["scores"]["unseen"]["model"]["delta1"] == pytest.approx(ratio.mean(), abs=1e-6)
    scores = summary["scores"]
    assert scores["unseen"]["model"]["rmse"] < 0.9 * scores["unseen"]["mean_map"]["rmse"]
    assert scores["unseen"]["mean_map"]["rmse"] != scores["unseen"]["constant"]["rmse"]
    leak = scores["unseen"]["model"]["rmse"] / scores["seen"]["model"]["rmse"]
    assert summary["unseen_over_seen"] == {"metric": "rmse", "value": pytest.approx(leak)}
    shares = [scores[part]["model"]["rmse"] / scores[part]["mean_map"]["rmse"] for part in ("unseen", "seen")]
    assert summary["leak"]["value"] == pytest.approx(shares[0] / shares[1])
    assert any("test score is too good" in line for line in summary["notes"])


def test_the_mean_map_is_that_of_the_training_frames(tmp_path: Path) -> None:
    data = painted.painted(views=1, holes=True)
    trained = fit(tmp_path, 1, data)
    summary = json.loads((tmp_path / "summary.json").read_text())
    rows = [s for s in data if s.scene in trained.train_scenes]
    depth = np.stack([np.where(s.valid, s.depth, 0).astype(float) for s in rows])
    count = np.stack([s.valid.numpy() for s in rows])
    constant = depth.sum() / count.sum()
    mean = np.where(count.sum(0) > 0, depth.sum(0) / count.sum(0).clip(1), constant)
    mae = [np.abs(mean - s.depth.numpy())[s.valid.numpy()].mean() for s in data if s.scene not in trained.train_scenes]
    assert summary["scores"]["unseen"]["mean_map"]["mae"] == pytest.approx(np.mean(mae), rel=1e-5)
    assert "seen" not in summary["scores"]
    assert any("single frame" in line for line in summary["notes"])


def test_divergence_stops_with_step_frames_and_the_last_good_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(DivergedError) as caught:
        fit(tmp_path / "bad", 50, optim={"name": "sgd", "lr": 1e6, "clip": 0.0}, train={"save_every": 1})
    message = str(caught.value)
    steps = checkpoint.saved_steps(tmp_path / "bad")
    assert caught.value.exit_code != 0
    assert f"diverged at step {steps[-1] + 1}:" in message if steps else "none yet" in message
    step = int(message.split("at step ")[1].split(":")[0])
    parts = divide(painted.painted(), 0.3, 0.2)
    drawn = Order(len(parts.train)).draws(step - 1, 4)
    assert f"on the frames {', '.join(parts.train.ids[position] for position, _ in drawn)};" in message
    for saved in steps:
        for tensor in load_file(tmp_path / "bad" / "checkpoints" / str(saved) / "model.safetensors").values():
            assert tensor.isfinite().all()


def test_early_stopping_keeps_and_returns_the_best(tmp_path: Path) -> None:
    trained = fit(
        tmp_path, 400, optim={"name": "sgd", "lr": 0.003, "momentum": 0.9},
        validation={"every": 2, "patience": 2}, train={"save_every": 1000, "keep": 1, "batch": 1},
        schedule={"name": "constant"},
    )  # fmt: skip
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["stopped_early"]
    validations = {
        line["step"]: line["validation"]["unseen"]["rmse"] for line in journal.read(tmp_path) if "validation" in line
    }
    best = min(validations, key=validations.__getitem__)
    assert summary["best_step"] == best == trained.info["step"]
    assert max(validations) == best + 4
    assert summary["scores"]["unseen"]["model"]["rmse"] == pytest.approx(validations[best], rel=1e-6)
    assert checkpoint.load_model(tmp_path).info["step"] == best
    assert any("little too good" in line for line in summary["notes"])


@pytest.mark.parametrize(
    "name", ["autoencoder", "residual_cnn", "unet", "plain_cnn", "gradient", "edge_guided", "pretrained-unet"]
)
def test_every_tiny_recipe_trains_and_loads(tmp_path: Path, name: str) -> None:
    recipe = load_recipe(
        f"tiny-{name}", ["train.steps=2", "first.steps=2", "train.batch=2", "data.size=32x32", "validation.pictures=1"]
    )
    data = painted.painted(scenes=4, views=2, size=(32, 32), blind=name == "autoencoder")
    trained = train(recipe, data, out=tmp_path, device="cpu")
    assert trained.model_name == name.replace("-", "_")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["target"] == MODELS[trained.model_name].predicts
    assert summary["scores"]["unseen"]["model"]["mse"] > 0
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert trained.model(image).shape[-2:] == trained.model.output_size((32, 32))


def test_edge_guided_trains_the_gradient_network_first_and_holds_it_still(tmp_path: Path) -> None:
    settings = ["train.steps=3", "first.steps=3", "train.batch=2", "data.size=24x32", "validation.pictures=0"]
    data = painted.painted(scenes=5, views=2, size=(24, 32))
    trained = train(load_recipe("tiny-edge_guided", settings), data, out=tmp_path / "a", device="cpu")
    first = checkpoint.load_model(tmp_path / "a" / "first")
    assert first.model_name == "gradient" and first.train_scenes == trained.train_scenes
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(trained.model.gradient.state_dict()[name], tensor)
    given = [*settings, f"first.checkpoint={json.dumps(str(tmp_path / 'a' / 'first'))}"]
    again = train(load_recipe("tiny-edge_guided", given), data, out=tmp_path / "b", device="cpu")
    assert not (tmp_path / "b" / "first").exists()
    for name, tensor in trained.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor)
    wrong = [*settings, f"first.checkpoint={json.dumps(str(tmp_path / 'a'))}"]
    with pytest.raises(FathomError, match="needs a gradient network"):
        train(load_recipe("tiny-edge_guided", wrong), data, out=tmp_path / "c", device="cpu")


def test_data_without_a_valid_pixel_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no pixel of 13 training frames has a valid depth"):
        fit(tmp_path, data=painted.painted(blind=True))


def test_images_smaller_than_the_stride_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="1x24 are smaller than the stride 2"):
        train(
            from_table(painted.recipe(2) | {"data": {"size": [1, 24]}}), painted.painted(), out=tmp_path, device="cpu"
        )


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_out_of_memory_says_which_settings_lower_it(error: BaseException) -> None:
    recipe = load_recipe("unet")
    with (
        pytest.raises(FathomError, match=r"train\.accumulate=2.*memory\.checkpoint=true.*data\.size"),
        explained(recipe),
    ):
        raise error
    with pytest.raises(RuntimeError, match="else"), explained(recipe):
        raise RuntimeError("something else")


def test_a_real_failed_allocation_is_recognised() -> None:
    with pytest.raises(FathomError, match="Out of memory"), explained(load_recipe("unet")):
        torch.empty(1 << 60, dtype=torch.uint8)


def test_automatic_precision_follows_the_device_and_fp16_needs_a_gpu() -> None:
    expected = "bf16" if fast_bf16("cpu") else "float32"
    assert resolve_precision(load_recipe("unet"), "cpu").precision.compute == expected
    with pytest.raises(UsageError, match="needs a GPU"):
        resolve_precision(load_recipe("unet", ["precision.compute=fp16"]), "cpu")


def test_in_disparity_space_the_loss_compares_ten_metres_over_depth() -> None:
    loss = objective(LossSection(mae=1.0, space="disparity"))
    prediction, target = torch.full((1, 1, 2, 2), 2.0), torch.full((1, 1, 2, 2), 4.0)
    value, _ = loss(prediction, target, torch.ones(1, 1, 2, 2, dtype=torch.bool))
    assert float(value) == pytest.approx(10 / 2 - 10 / 4)


def test_spread_positions_are_even_and_unique() -> None:
    assert spread(5, None) == spread(5, 9) == [0, 1, 2, 3, 4]
    chosen = spread(1000, 7)
    assert len(set(chosen)) == 7 and min(chosen) >= 0 and max(chosen) < 1000
    assert max(np.diff(chosen)) - min(np.diff(chosen)) <= 1


def test_tensorboard_files_hold_the_journal(tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    fit(tmp_path, 4, train={"tensorboard": True})
    events = event_accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    losses = {event.step: event.value for event in events.Scalars("loss")}
    assert losses == {line["step"]: pytest.approx(line["loss"]) for line in journal.read(tmp_path) if "loss" in line}
    assert [event.step for event in events.Scalars("validation/unseen/rmse")] == [4]
