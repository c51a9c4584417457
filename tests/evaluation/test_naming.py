"""Models first, then data."""

from __future__ import annotations

from pathlib import Path

import pytest

from fathom.errors import UsageError
from fathom.evaluation.naming import split_models_and_data


def test_the_first_data_ends_the_models(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    folder = str(tmp_path / "photos")
    assert split_models_and_data(["module:a.py:net", "rooms-residual_cnn", "rooms"]) == (
        ["module:a.py:net", "rooms-residual_cnn"],
        ["rooms"],
    )
    given = ["rooms-residual_cnn", "diode:some/where", folder, "rooms?size=3"]
    assert split_models_and_data(given) == (given[:1], given[1:])


def test_a_name_on_the_hub_is_a_model_before_data_and_data_after_it() -> None:
    assert split_models_and_data(["hf:a/model", "rooms"]) == (["hf:a/model"], ["rooms"])
    assert split_models_and_data(["hf:a/model", "hf:b/data"]) == (["hf:a/model"], ["hf:b/data"])
    assert split_models_and_data(["hf:a/m", "hf:b/m", "rooms", "hf:c/d"]) == (["hf:a/m", "hf:b/m"], ["rooms", "hf:c/d"])
    with pytest.raises(UsageError, match="No model is named before 'hf:b/data'"):
        split_models_and_data(["hf:b/data"])
