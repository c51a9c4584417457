"""The grammar of encoder SPECs, and what `open_encoder` says to one that cannot be meant."""

from __future__ import annotations

import pytest

from fathom.encoders import ENCODERS, as_encoder, open_encoder
from fathom.encoders.spec import Spec, parse, short_name, short_names, split_alias
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
        ("permuted:position", "position has no weights to permute"),
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
        ("permuted:checkpoint:rooms-autoencoder", "permuted rooms-autoencoder"),
        ("patch:5", "patch:5"),
        ("base", "base"),
    ],
)
def test_names_over_pictures_are_short(text: str, short: str) -> None:
    assert short_name(text) == short
    assert len(short_name("hf:org/" + "x" * 80)) == 24


@pytest.mark.parametrize(
    ("specs", "names"),
    [
        (("module:a.py:net", "module:b.py:net"), ("a.py/net", "b.py/net")),
        (("module:net.py:f?width=8", "module:net.py:f?width=16"), ("f?width=8", "f?width=16")),
        (("hf:/one/convnext@stage1", "hf:/two/convnext@stage1"), ("one/convnext@stage1", "two/convnext@stage1")),
        (("random:hf:a/net?seed=1", "random:hf:a/net?seed=2"), ("random net?seed=1", "random net?seed=2")),
        (("patch:3", "patch:5", "patch"), ("patch:3", "patch:5", "patch")),
    ],
)
def test_short_names_say_what_tells_encoders_apart(specs: tuple[str, ...], names: tuple[str, ...]) -> None:
    assert tuple(short_names(specs).values()) == names


def test_names_that_the_cut_would_make_alike_are_given_whole() -> None:
    """They differ in the middle alone, which a cut takes out."""
    specs = [f"hf:org/{'x' * 30}{letter}{'y' * 30}" for letter in "ab"]
    assert tuple(short_names(specs).values()) == tuple(specs)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("base=hf:org/name?seed=3@stage1", ("base", "hf:org/name?seed=3@stage1")),
        ("my net=patch:5", ("my net", "patch:5")),
        ("hf:org/name?seed=3", (None, "hf:org/name?seed=3")),
        ("hf:/runs/width=8/model", (None, "hf:/runs/width=8/model")),
        ("pixels+position", (None, "pixels+position")),
    ],
)
def test_an_alias_is_told_from_the_options_of_a_spec(text: str, parts: tuple[str | None, str]) -> None:
    assert split_alias(text) == parts


def test_an_alias_is_the_encoders_name_and_half_of_one_is_refused() -> None:
    encoder = open_encoder("near=patch:3")
    assert encoder.name == "near" and encoder.provenance().spec == "patch:3"
    for text in ("=pixels", "near="):
        with pytest.raises(UsageError, match="is not NAME=SPEC"):
            open_encoder(text)


@pytest.mark.usefixtures("unchecked")
def test_anything_that_is_no_encoder_is_refused_with_the_remedy() -> None:
    with pytest.raises(UsageError, match=r"torch\.nn\.Module, not int; fathom\.Encoder\.from_module"):
        as_encoder(3)  # type: ignore[arg-type]
