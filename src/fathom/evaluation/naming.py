"""Telling models and data apart on a command line: models first, then data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from fathom.data.sources import SOURCES
from fathom.depth_models.opening import DEPTH_MODELS, is_model, recognise
from fathom.errors import UsageError, nearest
from fathom.files.inputs import exists, expand
from fathom.models.shipped import shipped

Meaning = Literal["model", "data", "either"]


def split_models_and_data(given: Sequence[str]) -> tuple[list[str], list[str]]:
    """(models, data). Data is ``rooms``, ``KIND:...`` or a path that is no model; the first of them ends the models.

    ``hf:`` names models and data: it is a model before the first data, and data after it or where it is the last word.

    Raises:
        UsageError: a path may mean either, a model stands after data, or one of the two is missing.
        CheckpointError: a word means neither.
    """
    meanings = [meaning(text) for text in given]
    last = len(given) - 1 if meanings[-1] == "either" else len(given)
    first = meanings.index("data") if "data" in meanings else last
    models, data = list(given[:first]), list(given[first:])
    for text in models:
        if not is_model(text):
            if ":" not in text and not Path(text).exists():
                raise UsageError(
                    f"'{text}' is no depth model and no data: there is no such path{nearest(text, shipped())}."
                )
            recognise(text)  # says that there is no such model
    for text, found in zip(data, meanings[first:], strict=True):
        if found == "model":
            raise UsageError(f"'{text}' stands after data and is none; name all models before the first DATA.")
    if not models:
        raise UsageError(f"No model is named before '{data[0]}'; write fathom evaluate MODEL ... DATA ....")
    if not data:
        raise UsageError(f"'{models[-1]}' is a depth model; name the data to measure on after it.")
    return models, data


def meaning(text: str) -> Meaning:
    """What a word names; what is no data is a model. `UsageError` where a path may be either."""
    body = text.partition("?")[0]
    kind = body.partition(":")[0]
    if kind in SOURCES and (kind != body or not SOURCES[kind].needs_path):
        return "either" if kind in DEPTH_MODELS else "data"
    path = expand(body)
    if not exists(path) or kind in DEPTH_MODELS:
        return "model"
    data, model = any(source.recognises(path) for source in SOURCES.values()), is_model(text)
    if data and model:
        raise UsageError(f"'{text}' may be a model or data; write checkpoint:{text} or KIND:{text} to say which it is.")
    return "model" if model else "data"
