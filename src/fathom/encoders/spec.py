"""The grammar of an encoder SPEC: ``KIND:BODY?key=value&key=value@layer,layer``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from fathom.errors import UsageError


@dataclass(frozen=True)
class Spec:
    """A parsed SPEC.

    Attributes:
        text: as given.
        kind: ``hf``, ``timm``, ``module``, ``checkpoint``, ``random``, ``permuted`` or the name of a baseline.
        body: what follows the kind's colon.
        options: of the query.
        layers: named after the last ``@``; empty for the encoder's own choice.
    """

    text: str
    kind: str
    body: str
    options: dict[str, str]
    layers: tuple[str, ...]

    @property
    def inner(self) -> str:
        """What a wrapping kind (``random:``, ``permuted:``) wraps, with its options and layers."""
        return self.text.partition(":")[2]


def parse(text: str) -> Spec:
    """Split a SPEC; raises `UsageError` where it cannot be meant as given."""
    head, _, layers = text.partition("@")
    body, _, query = head.partition("?")
    kind, _, body = body.partition(":")
    options = {}
    for part in query.split("&") if query else ():
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise UsageError(f"'{part}' in encoder '{text}' is no option; write key=value, several joined by '&'.")
        options[key.strip().replace("-", "_")] = unquote(value)
    names = tuple(name.strip() for name in layers.split(",") if name.strip())
    if "@" in text and not names:
        raise UsageError(f"Encoder '{text}' names no layer after '@'.")
    return Spec(text, kind.strip(), body, options, names)


def split_alias(text: str) -> tuple[str | None, str]:
    """``NAME=SPEC`` to its two parts; None and the SPEC where it has no name.

    A name holds none of ``: / ? @ & ,``, so that the ``=`` of a SPEC's own options is not taken for one.
    """
    name, equals, spec = text.partition("=")
    if not equals or any(letter in name for letter in ":/\\?@&,"):
        return None, text
    if not name.strip() or not spec.strip():
        raise UsageError(f"'{text}' is not NAME=SPEC, such as base=hf:org/name.")
    return name.strip(), spec.strip()


CONTROLS = ("random", "permuted")


def short_name(spec: str, most: int = 24) -> str:
    """An encoder SPEC brought to what fits over a picture: paths lose their folders, queries go.

    The words ``random`` and ``permuted`` of a control stand before its encoder's short name and do not count.
    """
    return _fitted(spec, _form(spec, 0), most)


def short_names(specs: Iterable[str], most: int = 24) -> dict[str, str]:
    """Short names of several SPECs, no two alike: each says as much of its SPEC as tells it from the others.

    First paths lose their folders and queries go; where two names are then alike, or alike after the cut to `most`
    letters, they say more: the options, the file, the folders, at last the whole SPEC.
    """
    listed = list(dict.fromkeys(specs))
    levels = dict.fromkeys(listed, 0)
    while True:
        names = {
            spec: _fitted(spec, _form(spec, levels[spec]), most if levels[spec] < _WHOLE else 10**6) for spec in listed
        }
        taken = Counter(names.values())
        alike = [spec for spec in listed if taken[names[spec]] > 1 and levels[spec] < _WHOLE]
        if not alike:
            return names
        for spec in alike:
            levels[spec] += 1


_WHOLE = 4


def _form(spec: str, level: int) -> str:
    """The SPEC, without the kinds of controls, at one of five lengths: the last is the whole."""
    kind, colon, rest = spec.partition(":")
    if kind in CONTROLS and colon:
        return _form(rest, level)
    if not colon or level >= _WHOLE or kind == "patch":
        return spec
    head, at, layers = rest.partition("@")
    body, mark, query = head.partition("?")
    parts = [part for part in body.rstrip("/").replace(":", "/").split("/") if part]
    name = "/".join(parts[-1 if level < 2 else -level :]) or body
    return name + (mark + query if level else "") + at + layers


def _fitted(spec: str, form: str, most: int) -> str:
    kind, colon, rest = spec.partition(":")
    if kind in CONTROLS and colon:
        return f"{kind} {_fitted(rest, form, most)}"
    return shorten_middle(form, most)


def shorten_middle(text: str, most: int) -> str:
    """Cut the middle out of a text that is too long."""
    return text if len(text) <= most else f"{text[: most // 2 - 1]}…{text[-(most - most // 2) :]}"
