"""Python code of the user's own, by name: ``package.module`` or ``file.py``, with its options and its digest."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from fathom.errors import DataError, UsageError, nearest
from fathom.files.inputs import expand

_NEIGHBOURS: dict[str, ModuleType] = {}
"""Modules that files of the user's imported from their own folders, by the name they were imported under."""


@dataclass(frozen=True)
class UserFunction:
    """A function of the user's own.

    Attributes:
        function: itself.
        file: the file it comes from, None where there is none (a notebook, a compiled module).
        script: whether it was named by its file, so that it may import what lies in the file's folder.
    """

    function: Callable[..., Any]
    file: Path | None
    script: bool

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Call it; imports that it makes only now find its neighbours too."""
        with _kept_running(self.function.__name__ if hasattr(self.function, "__name__") else "the function"):
            if not self.script or self.file is None:
                return self.function(*arguments, **options)
            with neighbours(self.file.parent):
                return self.function(*arguments, **options)

    def digest(self) -> str | None:
        """See `code_digest`."""
        return code_digest(self.file) if self.file is not None else None


def find_function(what: str, body: str, kind: str = "factory") -> UserFunction:
    """The function that ``package.module:function`` or ``file.py:function`` names.

    Args:
        what: what is being opened, for messages.
        body: what names the function.
        kind: what the function is called in messages.
    """
    where, _, name = body.rpartition(":")
    if not where or not name:
        raise UsageError(f"{what} is not module:package.module:{kind} or module:file.py:{kind}.")
    module = load_code(where)
    function = getattr(module, name, None)
    if not callable(function):
        raise UsageError(f"{what}: {where} has no {kind} '{name}'.")
    file = getattr(module, "__file__", None)
    return UserFunction(function, Path(file) if file else None, where.endswith(".py"))


def load_code(where: str) -> Any:
    """The module `where`: a name that Python can import, or a file, which may import what lies in its folder."""
    if not where.endswith(".py"):
        try:
            with _kept_running(where):
                return importlib.import_module(where)
        except ImportError as error:
            raise UsageError(f"Module '{where}' cannot be imported ({error}); is it installed?") from error
    path = expand(where).resolve()
    if not path.is_file():
        raise DataError(
            where,
            "does not exist",
            "name the Python file that holds the function, where it lies now (module:FILE.py:FUNCTION)",
        )
    tag = hashlib.sha256(str(path).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    unit = importlib.util.spec_from_file_location(f"fathom_user_{path.stem}_{tag}", path)
    if unit is None or unit.loader is None:
        raise DataError(path, "is no Python file")
    module = importlib.util.module_from_spec(unit)
    sys.modules[unit.name] = module
    try:
        with _kept_running(where), neighbours(path.parent, anew=True):
            unit.loader.exec_module(module)
    except (ImportError, SyntaxError, NameError, AttributeError, TypeError, ValueError) as error:
        raise DataError(path, f"cannot be imported ({type(error).__name__}: {error})") from error
    return module


@contextmanager
def _kept_running(what: str) -> Iterator[None]:
    """Turn a user's ``sys.exit()``, which would end the command as if it had succeeded, into an error."""
    try:
        yield
    except SystemExit as error:
        if type(error) is not SystemExit:  # ours, after a signal
            raise
        raise UsageError(f"{what} ends the program (sys.exit); name a function that returns a model.") from error


@contextmanager
def neighbours(folder: Path, anew: bool = False) -> Iterator[None]:
    """Within it, code can import what lies in `folder`, as a script can.

    Two folders may each hold a ``layers.py``: what code of another folder imported is set aside first, and with `anew`
    what code of this one did, so that edited files are read again.
    """
    for name, module in list(_NEIGHBOURS.items()):
        if anew or folder not in Path(module.__file__ or "").resolve().parents:
            if sys.modules.get(name) is module:
                del sys.modules[name]
            del _NEIGHBOURS[name]
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            if file and folder in Path(file).resolve().parents:
                _NEIGHBOURS[name] = sys.modules[name]


def code_digest(file: Path) -> str:
    """SHA-256 of a Python file and of every ``.py`` file in its folder that its import brought in."""
    folder = file.resolve().parent
    imported = (Path(module.__file__).resolve() for module in _NEIGHBOURS.values() if module.__file__)
    digest = hashlib.sha256()
    for path in sorted({file.resolve(), *(path for path in imported if folder in path.parents)}):
        digest.update(path.relative_to(folder).as_posix().encode("utf-8", "surrogateescape"))
        digest.update(path.read_bytes())
    return digest.hexdigest()


def digest_of_code(function: Callable[..., Any]) -> str | None:
    """SHA-256 of the file that a function is defined in, else of its own source (a notebook's cell); None where neither is known."""
    try:
        file = inspect.getsourcefile(function)
        if file is not None and Path(file).is_file():
            return code_digest(Path(file))
        return hashlib.sha256(inspect.getsource(function).encode()).hexdigest()
    except (OSError, TypeError):
        return None


def typed_options(function: Callable[..., Any], options: Mapping[str, str]) -> dict[str, Any]:
    """Option text to int or float where it reads as one; names that the function does not take are refused."""
    parameters = inspect.signature(function).parameters
    open_ended = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    typed: dict[str, Any] = {}
    for key, value in options.items():
        if key not in parameters and not open_ended:
            raise UsageError(f"The factory has no option '{key}'{nearest(key, parameters)}.")
        typed[key] = value
        for number in (int, float):
            try:
                typed[key] = number(value)
                break
            except ValueError:
                continue
    return typed
