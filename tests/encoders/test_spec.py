"""The grammar of encoder SPECs, and what `open_encoder` says to one that cannot be meant."""

from __future__ import annotations

import pytest

from fathom.encoders import ENCODERS, open_encoder
from fathom.encoders.spec import Spec, parse, short_name
from fathom.errors import UsageError


@pytest.mark.parametrize(
    ("text", "kind", "body", "options", "layers"),
    [
        ("pixels", "pixels", "", {}, ()),
        ("hf:facebook/convnext-tiny-224", "hf", "facebook/convnext-tiny-224", {}, ()),
        ("hf:org/name@stage2, stage4", "hf", "org/name", {}, ("stage2", "stage4")),
        ("module:a.b:make?width=8&k-n=2@0", "module", "a.b:make", {"width": "8", "k_n": "2"}, ("0",)),
        ("hf:x/y?mean=0.5%2C0,1", "hf", "x/y", {"mean": "0.5,0,1"}, ()),
        ("checkpoint:/runs/ae/checkpoints/30", "checkpoint", "/runs/ae/checkpoints/30", {}, ()),
    ],
)
def test_kind_body_options_and_layers_are_told_apart(
    text: str, kind: str, body: str, options: dict[str, str], layers: tuple[str, ...]
) -> None:
    assert parse(text) == Spec(text, kind, body, options, layers)


def test_a_control_keeps_the_whole_spec_it_wraps() -> None:
    assert parse("random:hf:org/name?seed=3@stage1").inner == "hf:org/name?seed=3@stage1"


@pytest.mark.parametrize(("text", "problem"), [("hf:a/b@", "names no layer"), ("hf:a/b?width", "no option")])
def test_half_a_spec_is_refused(text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        parse(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("pixel", "There is no encoder 'pixel' .did you mean 'pixels'"),
        ("checkpiont:x", "did you mean 'checkpoint'"),
        ("hf:", "names nothing after 'hf:'"),
        ("random:pixels", "pixels has no weights to make random"),
        ("permuted:position", "position has no weights to make random"),
    ],
)
def test_what_cannot_be_opened_is_one_sentence(text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        open_encoder(text)


def test_every_kind_has_its_opener() -> None:
    import importlib

    for target in ENCODERS.values():
        module, _, name = target.partition(":")
        assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("pixels", "pixels"),
        ("hf:facebook/dinov2-small@stage12", "dinov2-small@stage12"),
        ("random:checkpoint:/long/way/to/run?seed=1", "random run"),
        ("module:net.py:factory?width=8", "factory"),
    ],
)
def test_names_over_pictures_are_short(text: str, short: str) -> None:
    assert short_name(text) == short
    assert len(short_name("hf:org/" + "x" * 80)) == 24
