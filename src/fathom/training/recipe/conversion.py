"""Plain values, as TOML and JSON hold them, to typed structs by msgspec; what does not fit is said in one sentence."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from fathom.errors import UsageError, nearest

OTHER_NAMES = {
    "l1": "mae", "l2": "mse", "learning_rate": "lr", "wd": "weight_decay", "decay": "weight_decay", "optimizer": "name",
    "batch_size": "batch", "iterations": "steps", "epochs": "steps", "grad_clip": "clip", "image_size": "size",
}  # fmt: skip
"""Names that other tools give to keys of ours, for hints."""

_WORDS = {
    "float": "a number", "int": "a whole number", "bool": "true or false", "str": "text", "array": "a list",
    "object": "a table of keys", "null": "nothing",
}  # fmt: skip


def convert(table: Mapping[str, Any], kind: Any, origin: str, section: str = "") -> Any:
    """`table` as the struct or dataclass `kind`; `origin` and `section` name it in messages.

    Raises:
        UsageError: a key is not known, a value is of another type or out of its bounds.
    """
    _refuse_unknown(table, kind, origin, section)
    _refuse_unbounded(table, origin, section)
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).removesuffix("`").partition(" - at `$")
    value: Any = table
    where = [section] if section else []
    # Keys of a table of any names stand as [...] in the path, which is then left at the table.
    for name, index in re.findall(r"\.(\w+)|\[(\d+)\]", path):
        key = name or int(index)
        value, kind = value[key], _type_of(kind, key)
        where += [name] if name else []
    if unknown := re.match(r"Object contains unknown field `(.*)`", problem):
        _refuse_unknown({unknown[1]: None}, kind, origin, ".".join(where))
    raise UsageError(
        f"{origin}: {'.'.join(where)} should be {_wanted(problem, kind)}, not {value!r}{_hint(kind, value)}."
    )


def _type_of(kind: Any, key: str | int) -> Any:
    """The type of a field, or of an item of a list."""
    if isinstance(key, str):
        return get_type_hints(kind)[key]
    items = get_args(kind)
    return items[0] if items[-1] is Ellipsis else items[key]


def _refuse_unknown(table: Mapping[str, Any], kind: Any, origin: str, where: str) -> None:
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else msgspec.structs.fields(kind)
    known = {field.name for field in fields}
    for key in table:
        if key not in known:
            other = OTHER_NAMES.get(key)
            hint = f" (did you mean '{other}'?)" if other in known else nearest(key, known)
            what = f"{where} has no key" if where else "there is no section"
            raise UsageError(f"{origin}: {what} '{key}'{hint}.")


def _refuse_unbounded(value: Any, origin: str, where: str) -> None:
    """Refuse infinities, NaN and integers of any length wherever they stand."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _refuse_unbounded(item, origin, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_unbounded(item, origin, where)
    elif isinstance(value, int | float) and not -1e18 < value < 1e18:
        raise UsageError(f"{origin}: {where} should be a finite number of at most 18 digits.")


def _wanted(problem: str, kind: Any) -> str:
    """What msgspec expected, in words."""
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    expected = problem.removeprefix("Expected ").partition(", got")[0]
    return re.sub(r"`([^`]*)`", lambda m: " or ".join(_WORDS.get(t, t) for t in m[1].split(" | ")), expected)


def _hint(kind: Any, value: Any) -> str:
    if get_origin(kind) is Literal and isinstance(value, str):
        hint = nearest(value, map(str, get_args(kind)))
        return hint if "did you mean" in hint else ""
    if kind == tuple[int, int] and isinstance(value, int):
        return f" (height x width: did you mean {value}x{value}?)"
    return ""
