"""Dataclasses from plain values, as TOML and JSON hold them: every key known, every value of its type."""

from __future__ import annotations

import dataclasses
import re
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from fathom.errors import UsageError, nearest


def build(kind: Any, table: Any, where: str) -> Any:
    """An instance of the dataclass `kind` from plain values, every key known and every value of its type."""
    if not isinstance(table, Mapping):
        raise UsageError(f"{where} should be a section of keys, not {table!r}.")
    hints = get_type_hints(kind)
    known = {f.name for f in dataclasses.fields(kind) if f.init}
    for key in table:
        if key not in known:
            raise UsageError(f"{where} has no key '{key}'{nearest(str(key), known)}.")
    try:
        return kind(**{key: convert(hints[key], value, f"{where}.{key}") for key, value in table.items()})
    except (
        TypeError,
        ValueError,
    ) as error:  # a required key is missing, or the dataclass's own check refused one
        raise UsageError(f"{where}: {error}.") from error


FLOAT_MAX = sys.float_info.max
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def convert(kind: Any, value: Any, where: str) -> Any:
    """`value` as the type `kind`; a `UsageError` says what was wanted. A whole number serves as a number."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        if value not in arguments:
            hint = nearest(value, map(str, arguments)) if isinstance(value, str) else ""
            raise UsageError(f"{where} should be one of {', '.join(map(str, arguments))}, not {value!r}{hint}.")
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        wanted = [argument for argument in arguments if argument is not type(None)]
        return convert(wanted[0], value, where) if len(wanted) == 1 else _any_of(wanted, value, where)
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise UsageError(f"{where} should be a table such as {{name = 1}}, not {value!r}.")
        return {str(key): convert(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if origin is tuple:
        return _convert_tuple(arguments, value, where)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return build(kind, value, where)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not -FLOAT_MAX <= value <= FLOAT_MAX:  # NaN too, and integers of any length
            raise UsageError(f"{where} should be a finite number.")
        return float(value)
    if kind is int and isinstance(value, int) and not -(2**62) < value < 2**62:
        raise UsageError(f"{where} should be a whole number of at most 18 digits.")
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UsageError(f"{where} should be {_WORDS.get(kind, kind.__name__)}, not {value!r}.")
    return value


def _any_of(kinds: Sequence[Any], value: Any, where: str) -> Any:
    for kind in kinds:
        try:
            return convert(kind, value, where)
        except UsageError:
            continue
    raise UsageError(f"{where} cannot be {value!r}.")


def _convert_tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if isinstance(value, str) and arguments == (int, int) and "x" in value:
        # HxW, as on the command line
        value = [int(part) if re.fullmatch("[0-9]{1,6}", part.strip()) else part for part in value.split("x")]
    if not isinstance(value, list | tuple):
        raise UsageError(f"{where} should be a list, not {value!r}.")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(convert(arguments[0], item, where) for item in value)
    if len(value) != len(arguments):
        raise UsageError(f"{where} should be a list of {len(arguments)}, not {value!r}.")
    return tuple(convert(kind, item, where) for kind, item in zip(arguments, value, strict=True))
