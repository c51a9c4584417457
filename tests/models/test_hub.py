"""Model folders for the Hub: saved, loaded, described; nothing is uploaded here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fathom.errors import CheckpointError
from fathom.models.hub import HubModel, from_pretrained, push_to_hub, save_pretrained, write_half
from fathom.models.saved import Trained, load_model
from fathom.training.recipe import from_table
from fathom.training.train import train
from tests.training import painted


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(from_table(painted.recipe(3)), painted.painted(), out=tmp_path_factory.mktemp("hub"), device="cpu")


def test_a_saved_model_comes_back_the_same(trained: Trained, tmp_path: Path) -> None:
    folder = save_pretrained(trained, tmp_path / "model")
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "manifest.json",
        "model.safetensors",
        "README.md",
    }
    again = from_pretrained(folder)
    image = torch.rand(1, 3, 16, 24)
    assert torch.equal(again.model(image), trained.model(image))
    assert again.train_scenes == trained.train_scenes and again.recipe == trained.recipe


def test_the_model_card_is_filled_from_the_run(trained: Trained, tmp_path: Path) -> None:
    card = (save_pretrained(trained, tmp_path) / "README.md").read_text()
    summary = trained.summary()
    assert card.startswith("---\n")
    assert f"{trained.info['parameters']:,} parameters" in card
    assert trained.info["train_fingerprint"] in card
    for row in ("model", "mean_map", "constant"):
        assert f"| unseen | {row} |" in card
        assert f"{summary['scores']['unseen'][row]['rmse']:.4g}" in card


def test_pushing_uploads_the_model_folder_through_the_mixin(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: dict[str, Any] = {}

    class Api:
        def __init__(self, **_: Any) -> None: ...

        def create_repo(self, repo_id: str, **_: Any) -> Any:
            return type("Repo", (), {"repo_id": repo_id})

        def upload_folder(self, *, repo_id: str, folder_path: str | Path, **_: Any) -> str:
            sent[repo_id] = sorted(path.name for path in Path(folder_path).iterdir())
            return f"commit of {repo_id}"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    assert push_to_hub(trained, "someone/depth") == "commit of someone/depth"
    assert sent == {"someone/depth": ["README.md", "config.json", "manifest.json", "model.safetensors"]}


def test_a_repository_that_cannot_be_reached_is_one_sentence() -> None:
    with pytest.raises(CheckpointError, match="neither a folder nor a repository that can be reached"):
        from_pretrained("someone/there-is-none", local_files_only=True)
    with pytest.raises(CheckpointError, match="neither a folder"):
        from_pretrained("not//a name")


def test_an_upload_that_fails_is_one_sentence(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    base = HfHubHTTPError.__bases__[0]
    for error in (base("Name or service not known"), HFValidationError("no such name"), ConnectionError("refused")):

        def refuse(*_: Any, error: BaseException = error, **__: Any) -> None:
            raise error

        monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi.create_repo", refuse)
        with pytest.raises(CheckpointError, match=r"could not be uploaded to 'someone/depth' \(\w+: .*check the name"):
            push_to_hub(trained, "someone/depth")


def test_the_three_methods_are_the_mixins_own() -> None:
    from huggingface_hub import ModelHubMixin

    assert issubclass(HubModel, ModelHubMixin)
    assert HubModel.push_to_hub is ModelHubMixin.push_to_hub


def test_half_precision_halves_the_file_and_hardly_moves_the_prediction(trained: Trained, tmp_path: Path) -> None:
    about = {"licence": "apache-2.0", "provenance": ["Trained with love."], "results": ["rmse 1"]}
    folder = save_pretrained(trained, tmp_path / "half", half=True, about=about)
    sizes = [(path / "model.safetensors").stat().st_size for path in (folder, trained.path)]
    assert sizes[0] < 0.7 * sizes[1]
    again = from_pretrained(folder)
    assert all(
        tensor.dtype == torch.float32 for tensor in again.model.state_dict().values() if tensor.is_floating_point()
    )
    image = torch.rand(1, 3, 16, 24)
    torch.testing.assert_close(again.model(image), trained.model(image), rtol=1e-2, atol=1e-2)
    card = (folder / "README.md").read_text()
    assert 'license: "apache-2.0"' in card and "- Trained with love." in card and "- rmse 1" in card
    assert again.info["licence"] == "apache-2.0"


def test_weights_beyond_half_precision_are_refused(trained: Trained, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"w": torch.tensor([1e6])}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="beyond float16 in 'w'"):
        write_half(tmp_path / "a.safetensors", tmp_path / "b.safetensors")


def test_the_card_tells_the_coverage_of_the_intervals(trained: Trained, tmp_path: Path) -> None:
    import json
    import shutil
    from dataclasses import replace

    copy = Path(shutil.copytree(trained.path, tmp_path / "run"))
    measured = {"coverage": 0.91, "low": 0.88, "high": 0.94, "relative_width": 0.7}
    table = {"scenes": 12, "data": "rooms", "facts": {"promise": "most pixels", "left_out": {"0.9": measured}}}
    (copy / "calibration.json").write_text(json.dumps(table))
    card = (save_pretrained(replace(trained, path=copy), tmp_path / "out") / "README.md").read_text()
    assert "| 0.9 | 0.910 (0.880 - 0.940) | 0.70 |" in card
    assert (tmp_path / "out" / "calibration.json").is_file()
    (tmp_path / "out" / "calibration.json").write_text("of other scenes")  # as calibrating again writes it
    assert load_model(tmp_path / "out").model_name == trained.model_name
