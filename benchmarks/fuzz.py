"""Coverage-guided fuzzing of the binary readers, with atheris (extra ``fuzz``).

python benchmarks/fuzz.py npy|mat5|json|toml|zip [-runs=100000] [-max_total_time=600] [CORPUS]

Further arguments are libFuzzer's. What is read may only be refused by a `FathomError` of one line; anything else ends the run and
is kept as ``crash-*``.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["fathom.files.inputs", "fathom.files.archives", "fathom.data.formats"]):
    from fathom.data.formats.benchmarks.mat5 import read_vectors
    from fathom.data.formats.npy import from_stream
    from fathom.files.archives import open_archive
    from fathom.files.inputs import parse_json, parse_toml

from fathom.errors import FathomError

FOLDER = Path(tempfile.mkdtemp())


def npy(data: bytes) -> None:
    from_stream(BytesIO(data), len(data), Path("a.npy"))


def mat5(data: bytes) -> None:
    path = FOLDER / "a.mat"
    path.write_bytes(b"x".ljust(124) + b"\x00\x01IM" + data)
    read_vectors(path, ("trainNdxs",), "")


def json(data: bytes) -> None:
    parse_json(data, "a.json", dict[str, list[int] | str | None])  # type: ignore[arg-type]


def toml(data: bytes) -> None:
    parse_toml(data, "a.toml")


def zip_(data: bytes) -> None:
    with open_archive(Path("a.zip"), "a zip", "", data) as archive:
        for name in archive.members:
            archive.read(name)


READERS: dict[str, Callable[[bytes], None]] = {"npy": npy, "mat5": mat5, "json": json, "toml": toml, "zip": zip_}


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in READERS:
        raise SystemExit(__doc__)
    read = READERS[sys.argv.pop(1)]

    def once(data: bytes) -> None:
        try:
            read(data)
        except FathomError as error:
            assert "\n" not in str(error)

    atheris.Setup(sys.argv, once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
