"""Checkpoints are whole or not there; what is no checkpoint is refused in a sentence."""

from __future__ import annotations

import errno
import json
import pickle
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from fathom.errors import CheckpointError, UsageError
from fathom.models import build
from fathom.models import saved as checkpoint
from fathom.models.hub import save_pretrained
from fathom.models.saved import load_model, verify, write_checkpoint, write_manifest
from fathom.training.recipe import from_table
from fathom.training.train import train
from tests.training import painted

TENSORS = {"w": torch.arange(6.0).reshape(2, 3)}


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run") / "r"
    train(from_table(painted.recipe(6, train={"keep": 9})), painted.painted(), out=run, device="cpu")
    return run


@pytest.fixture
def run(trained_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained_run, tmp_path / "run"))


def test_what_is_written_verifies_and_reads_back(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints" / "5"
    write_checkpoint(folder, {"model.safetensors": TENSORS, "state.json": {"a": 0.1}}, 5)
    verify(folder)
    assert torch.equal(checkpoint.read_tensors(folder / "model.safetensors")["w"], TENSORS["w"])
    assert json.loads((folder / "state.json").read_text()) == {"a": 0.1}
    assert checkpoint.saved_steps(tmp_path) == [5]
    assert [path.name for path in folder.parent.iterdir()] == ["5"]


@pytest.mark.parametrize("damage", ["cut", "flipped", "missing", "manifest"])
def test_any_damage_is_recognised(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "1"
    write_checkpoint(folder, {"model.safetensors": TENSORS}, 1)
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    if damage == "cut":
        file.write_bytes(content[:-1])
    elif damage == "flipped":
        content[-1] ^= 128
        file.write_bytes(content)
    elif damage == "missing":
        file.unlink()
    else:
        (folder / "manifest.json").write_text("{}")
    with pytest.raises(CheckpointError):
        verify(folder)


@pytest.mark.parametrize("moment", ["first file", "manifest", "rename"])
def test_a_full_disk_leaves_the_old_checkpoint_and_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    folder = tmp_path / "checkpoints" / "1"
    write_checkpoint(folder, {"model.safetensors": TENSORS}, 1)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    full = OSError(errno.ENOSPC, "No space left on device")
    open_, rename = Path.open, Path.rename

    def failing_open(self: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        wanted = "manifest.json" if moment == "manifest" else "model.safetensors"
        if "w" in mode and self.name == wanted and moment != "rename":
            with open_(self, mode) as file:
                file.write(b"half")
            raise full
        return open_(self, mode, *rest, **more)

    def failing_rename(self: Path, target: Path) -> Any:
        if moment == "rename" and self.suffix == ".tmp":
            raise full
        return rename(self, target)

    monkeypatch.setattr(Path, "open", failing_open)
    monkeypatch.setattr(Path, "rename", failing_rename)
    with pytest.raises(CheckpointError, match="No space left on device"):
        write_checkpoint(folder.with_name("2"), {"model.safetensors": {"w": torch.zeros(9)}}, 2)
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["1"]


def test_a_real_limit_of_the_system_on_file_size_is_survived_too(tmp_path: Path) -> None:
    import resource
    import signal

    folder = tmp_path / "1"
    write_checkpoint(folder, {"model.safetensors": TENSORS}, 1)
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(CheckpointError, match="cannot be saved"):
            write_checkpoint(tmp_path / "2", {"model.safetensors": {"w": torch.zeros(9000)}}, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    verify(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_the_last_ones_and_the_best_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        write_checkpoint(tmp_path / "checkpoints" / str(step), {"model.safetensors": TENSORS}, step)
    checkpoint.prune(tmp_path, keep=2, best=1)
    assert checkpoint.saved_steps(tmp_path) == [1, 3, 4]


def test_leftovers_of_killed_processes_are_no_checkpoints_and_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    write_checkpoint(folder / "3", {"model.safetensors": TENSORS}, 3)
    (folder / ".4.123.tmp").mkdir()
    (folder / ".2.123.old").mkdir()
    assert checkpoint.latest(tmp_path) == (folder / "3", [])
    checkpoint.sweep_leftovers(tmp_path)
    assert [path.name for path in folder.iterdir()] == ["3"]


def test_a_run_a_checkpoint_and_a_model_folder_load(run: Path, tmp_path: Path) -> None:
    whole, step, old = load_model(run), load_model(run / "checkpoints" / "6"), load_model(run / "checkpoints" / "3")
    assert whole.path == step.path and whole.info["step"] == 6 and old.info["step"] == 3
    assert whole.model_name == "unet" and whole.input_size == (painted.H, painted.W)
    assert not whole.model.training
    assert set(whole.train_scenes) < set(painted.painted().scenes)
    assert from_table(whole.recipe) == from_table(painted.recipe(6, train={"keep": 9}))
    image = torch.rand(2, 3, 16, 24)
    folder = save_pretrained(whole, tmp_path / "model")
    again = load_model(folder)
    assert torch.equal(again.model(image), whole.model(image))
    assert not torch.equal(old.model(image), whole.model(image))


def rewrite_manifest(folder: Path) -> None:
    """Make the manifest fit what the folder holds, as somebody who means harm would."""
    write_manifest(folder, [path.name for path in folder.iterdir() if path.name != "manifest.json"], 6)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_one_changed_bit_is_found_on_every_way_to_a_checkpoint(run: Path, tmp_path: Path, name: str) -> None:
    exported = save_pretrained(load_model(run), tmp_path / "model")
    for folder in (run / "checkpoints" / "6", exported):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
        for path in (folder, folder / "model.safetensors"):
            with pytest.raises(CheckpointError, match=r"is not what was saved \(its checksum differs\)"):
                load_model(path)
    assert load_model(run).info["step"] == 3, "a run has another checkpoint"


@pytest.mark.parametrize(
    "config",
    [
        {"groups": 1_000_000},
        {"width": 1_000_000},
        {"blocks": 10**7},
        {"groups": 64},
        {"bottleneck": 2**62},
        {"groups": 10**30},
    ],
    ids=str,
)
def test_a_network_of_too_many_layers_or_parameters_is_refused_at_once(config: dict[str, int]) -> None:
    before = time.monotonic()
    with pytest.raises(UsageError, match=r"more than .* (layers|parameters)|cannot be built"):
        build("autoencoder", config)
    assert time.monotonic() - before < 20


def test_a_truncated_model_file_is_refused_by_name(run: Path) -> None:
    for step in (3, 6):
        file = run / "checkpoints" / str(step) / "model.safetensors"
        file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: is cut short or altered"):
        load_model(run / "checkpoints" / "6")
    with pytest.raises(CheckpointError, match="holds no whole checkpoint"):
        load_model(run)


def test_a_run_whose_last_checkpoint_is_torn_loads_the_one_before(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = run / "checkpoints" / "6" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert load_model(run).info["step"] == 3
    assert "Checkpoint 6 is torn" in capsys.readouterr().err


def test_weights_of_another_model_are_refused(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    table = painted.recipe(3, model={"widths": [16, 32]})
    train(from_table(table), painted.painted(), out=other, device="cpu")
    folder = run / "checkpoints" / "6"
    shutil.copy(other / "checkpoints" / "3" / "model.safetensors", folder)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: is cut short or altered"):
        load_model(folder)
    rewrite_manifest(folder)
    with pytest.raises(CheckpointError, match="holds the weights of another model than UNet: it has another shape of"):
        load_model(folder)
    from safetensors.torch import save_file

    save_file(TENSORS, folder / "model.safetensors")
    rewrite_manifest(folder)
    with pytest.raises(CheckpointError, match="it lacks"):
        load_model(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 99}, "schema_version 99"),
        ({"model": "nerf"}, "which this Fathom does not know"),
        ({"model": "plain_cnn"}, "names the model 'plain_cnn'"),
        ({"recipe": {"name": "a", "model": {"name": "unet", "depth": 3}}}, "is not a description of a model"),
        ({"recipe": None}, "is not a description of a model"),
        ({"input_size": 5}, "is not a description of a model"),
        ({"input_size": [5, -1]}, "is not a description of a model"),
        ({"train_scenes": [1]}, "is not a description of a model"),
        ({"model": ["unet"]}, "which this Fathom does not know"),
    ],
)
def test_a_foreign_config_is_refused(run: Path, change: dict[str, Any], message: str) -> None:
    file = run / "checkpoints" / "6" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(CheckpointError, match=r"config\.json: is cut short or altered|checksum differs"):
        load_model(run / "checkpoints" / "6")
    rewrite_manifest(run / "checkpoints" / "6")
    with pytest.raises(CheckpointError, match=message):
        load_model(run / "checkpoints" / "6")


class Bomb:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("boom"),)


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "model.ckpt", "pytorch_model.bin", "model.pkl"])
def test_a_pickle_is_refused_without_being_read(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "given" / name
    file.parent.mkdir()
    file.write_bytes(pickle.dumps(Bomb()))
    file.chmod(0)
    for path in (file, file.parent):
        with pytest.raises(CheckpointError, match=r"is a pickle.*was not opened"):
            load_model(path)
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize("content", [None, b"", b"text"])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "thing"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match="does not exist" if content is None else "is no checkpoint"):
        load_model(path)
    with pytest.raises(CheckpointError, match=r"manifest\.json: is missing"):
        load_model(tmp_path)
