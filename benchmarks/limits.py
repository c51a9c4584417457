"""Peak memory of each reader on the largest input that its limits let through; the numbers of docs/limits.md.

python benchmarks/limits.py [NAME ...]

Every case runs in a process of its own: the input is made, then read, and the growth of the peak over a process that only
imports the reader is printed.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def image(folder: Path) -> Callable[[], object]:
    """A PNG of 100 million pixels of one colour, some 300 kB."""
    from PIL import Image

    from fathom.data.formats.files import read_rgb

    if not (folder / "a.png").exists():
        Image.new("RGB", (10_000, 10_000)).save(folder / "a.png")
    return lambda: read_rgb(folder / "a.png")


def array(folder: Path) -> Callable[[], object]:
    """A NumPy file of 300 million float32 values, sparse on disk."""
    from fathom.data.formats.npy import load_npy

    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (10000, 10000, 3), }".ljust(117) + b"\n"
    with (folder / "a.npy").open("wb") as file:
        file.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
        file.truncate(file.tell() + 1_200_000_000)
    return lambda: load_npy(folder / "a.npy")


def exr(folder: Path) -> Callable[[], object]:
    """An EXR file of 12 channels of 25 million pixels, of zeros."""
    import OpenEXR

    from fathom.data.formats.exr import read_exr_channels

    if not (folder / "a.exr").exists():
        channels = {f"c{index}": np.zeros((5000, 5000), np.float32) for index in range(12)}
        header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
        OpenEXR.File(header, channels).write(str(folder / "a.exr"))
    return lambda: read_exr_channels(folder / "a.exr")


def member(folder: Path) -> Callable[[], object]:
    """A zip member of 64 MiB of zeros, some 65 kB packed."""
    from fathom.files.archives import open_archive

    if not (folder / "a.zip").exists():
        with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a", bytes(64 << 20))

    def read() -> object:
        with open_archive(folder / "a.zip", "a zip", "") as archive:
            return archive.read("a")

    return read


def numbers(folder: Path) -> Callable[[], object]:
    """JSON of 32 MiB of small numbers."""
    from fathom.files.inputs import read_json

    if not (folder / "a.json").exists():
        (folder / "a.json").write_text('{"a": [' + "7.5," * (8 * (1 << 20) - 10) + "1]}")
    return lambda: read_json(folder / "a.json", dict)


def objects(folder: Path) -> Callable[[], object]:
    """JSON of 32 MiB of empty objects, the most that Python makes of a byte."""
    from fathom.files.inputs import read_json

    if not (folder / "a.json").exists():
        (folder / "a.json").write_text('{"a": [' + "{}," * (11_184_000) + "{}]}")
    return lambda: read_json(folder / "a.json", dict)


def hdf5(folder: Path) -> Callable[[], object]:
    """An HDF5 frame of 50 million pixels: image and depth, compressed zeros."""
    import h5py

    from fathom.data.sources import load

    path = folder / "train" / "hall_0001" / "00001.h5"
    if not path.exists():
        path.parent.mkdir(parents=True)
        with h5py.File(path, "w") as file:
            options = {"compression": "gzip", "compression_opts": 1}
            file.create_dataset("rgb", (3, 5000, 10_000), np.uint8, chunks=(3, 500, 1000), **options)
            file.create_dataset("depth", (5000, 10_000), np.float32, chunks=(500, 1000), **options)
    return lambda: load(f"nyu-hdf5:{folder}")[0]


def tiff(folder: Path) -> Callable[[], object]:
    """A TIFF target of 3 channels of 33 million float32 values, compressed zeros."""
    import imagecodecs

    from fathom.data.formats.folders.target_files import TargetFormat, read_target

    path = folder / "a.tif"
    if not path.exists():
        content = np.zeros((5500, 6000, 3), np.float32)
        encoded = imagecodecs.tiff_encode(content, photometric="rgb", planarconfig="contig", compression="deflate")
        path.write_bytes(encoded)
    return lambda: read_target(path, TargetFormat())


def r3d(folder: Path) -> Callable[[], object]:
    """A Record3D capture of one frame, whose depth unpacks to 64 MiB."""
    from fathom.data.sources import load
    from tests.data.files import r3d as write

    if not (folder / "a.r3d").exists():
        write(folder / "a.r3d", 1, (4096, 4096), (4096, 4096), confidence=False)
    return lambda: load(folder / "a.r3d")[0]


def packed(folder: Path) -> Callable[[], object]:
    """A packed frame of 50 million pixels: image and float32 depth."""
    from PIL import Image

    from fathom.data.packed.pack import pack
    from fathom.data.sources import load

    if not (folder / "p").exists():
        for kind, mode in (("rgb", "RGB"), ("depth", "I;16")):
            (folder / "d" / kind).mkdir(parents=True)
            Image.new(mode, (10_000, 5000), 1000 if kind == "depth" else 0).save(folder / "d" / kind / "a.png")
        pack(load(f"{folder / 'd'}?depth-scale=1000"), folder / "p")
    return lambda: load(f"packed:{folder / 'p'}")[0]


def toml(folder: Path) -> Callable[[], object]:
    """TOML of 1 MiB of keys."""
    from fathom.files.inputs import parse_toml

    text = "\n".join(f"k{index} = {{}}" for index in range(70_000)).encode()
    return lambda: parse_toml(text, "a.toml")


def matlab(folder: Path) -> Callable[[], object]:
    """A MATLAB v5 file whose compressed element unpacks beyond 32 MiB."""
    from fathom.data.formats.benchmarks.mat5 import read_vectors
    from fathom.errors import DataError

    if not (folder / "a.mat").exists():
        packed = zlib.compress(bytes(1 << 30))
        head = b"x".ljust(124) + b"\x00\x01IM"
        (folder / "a.mat").write_bytes(head + (15).to_bytes(4, "little") + len(packed).to_bytes(4, "little") + packed)

    def read() -> object:
        try:
            return read_vectors(folder / "a.mat", ["a"], "")
        except DataError as error:
            return error

    return read


def network(folder: Path) -> Callable[[], object]:
    """A network of more than 2 billion parameters, counted before it is built."""
    from fathom.errors import UsageError
    from fathom.models import build

    def read() -> object:
        try:
            return build("autoencoder", {"width": 1_000_000})
        except UsageError as error:
            return error

    return read


CASES = {
    case.__name__: case
    for case in (image, array, exr, hdf5, tiff, r3d, packed, member, numbers, objects, toml, matlab, network)
}


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(name: str, folder: Path) -> None:
    """Read the input that stands in `folder`; prints the peak before and its growth."""
    read = CASES[name](folder)
    before = peak_mb()
    kept = read()
    print(json.dumps({"before_mb": round(before), "growth_mb": round(peak_mb() - before)}))
    del kept


def main() -> None:
    if len(sys.argv) == 4 and sys.argv[1] == "--make":
        CASES[sys.argv[2]](Path(sys.argv[3]))
        return
    if len(sys.argv) == 4 and sys.argv[1] == "--measure":
        measure(sys.argv[2], Path(sys.argv[3]))
        return
    print("| input | peak MB before reading | growth MB |\n|---|---|---|", flush=True)
    for name in sys.argv[1:] or CASES:
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([sys.executable, __file__, "--make", name, folder], check=True)
            command = [sys.executable, __file__, "--measure", name, folder]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        print(f"| {(CASES[name].__doc__ or name).strip()} | {found['before_mb']} | {found['growth_mb']} |", flush=True)


if __name__ == "__main__":
    main()
