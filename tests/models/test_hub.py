"""Model folders for the Hub: saved, loaded, described; nothing is uploaded here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fathom.errors import CheckpointError
from fathom.models.hub import HubModel, from_pretrained, push_to_hub, save_pretrained
from fathom.models.saved import Trained
from fathom.training.recipe import from_table
from fathom.training.train import train
from tests.training import painted


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(from_table(painted.recipe(3)), painted.painted(), out=tmp_path_factory.mktemp("hub"), device="cpu")


def test_a_saved_model_comes_back_the_same(trained: Trained, tmp_path: Path) -> None:
    folder = save_pretrained(trained, tmp_path / "model")
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "README.md"}
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
    assert sent == {"someone/depth": ["README.md", "config.json", "model.safetensors"]}


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
