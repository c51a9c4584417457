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


def short_name(spec: str, most: int = 24) -> str:
    """An encoder SPEC brought to what fits over a picture: paths lose their folders, queries go."""
    kind, colon, rest = spec.partition(":")
    if not colon:
        return spec
    body, at, layers = rest.partition("@")
    body = body.partition("?")[0]
    if kind in ("random", "permuted"):
        return shorten_middle(f"{kind} {short_name(body, most)}", most)
    last = body.rstrip("/").rsplit("/", 1)[-1]
    last = last.rpartition(":")[2] or last
    return shorten_middle(last + (f"@{layers}" if at else ""), most)


def short_names(specs: Iterable[str], most: int = 24) -> dict[str, str]:
    """Short names of several SPECs, no two alike: what does not differ by its short name gets more of its SPEC, or all."""
    names = {spec: short_name(spec, most) for spec in specs}
    for fuller in (lambda spec: shorten_middle(spec, 2 * most), str):
        taken = Counter(names.values())
        names = {spec: fuller(spec) if taken[name] > 1 else name for spec, name in names.items()}
    return names


def shorten_middle(text: str, most: int) -> str:
    """Cut the middle out of a text that is too long."""
    return text if len(text) <= most else f"{text[: most // 2 - 1]}…{text[-(most - most // 2) :]}"
