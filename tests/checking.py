"""How types in signatures are checked while the tests run."""

from typing import BinaryIO

import typer
from beartype import BeartypeConf, BeartypeHintOverrides, beartype

# As for every type checker, an int may stand for a float. Typer gives a command a context, and io a stream, of classes of their own.
checked = beartype(
    conf=BeartypeConf(
        is_pep484_tower=True, hint_overrides=BeartypeHintOverrides({typer.Context: object, BinaryIO: object})
    )
)
