"""Opening data: a DATA spec to a `Dataset`.

A spec is ``rooms``, ``KIND:PATH``, or a bare path whose kind is recognised. Options of the source follow as a query:
``folder:PATH?depth-scale=1000&border=8``.
"""

from __future__ import annotations

import importlib
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from fathom.data.dataset import Dataset, Source
from fathom.data.formats.folders import folder_pairs
from fathom.data.formats.folders.exported import refuse_unfinished
from fathom.errors import DataError, UsageError, nearest
from fathom.files.inputs import exists, expand


@dataclass(frozen=True)
class Kind:
    """One kind of source.

    Attributes:
        opener: ``module:function``, imported when used; takes the path and keyword-only typed options.
        shape: one line on what such data look like, for help.
        recognise: whether a path looks like it, mostly from names alone; by default ``recognise`` of the opener's module.
        needs_path: whether a spec must name a path.
        remote: whether the path may also be a name on a hub.
    """

    opener: str
    shape: str
    recognise: Callable[[Path], bool] | None = None
    needs_path: bool = True
    remote: bool = False

    def load(self) -> Callable[..., Source]:
        """The opener itself."""
        module, _, name = self.opener.partition(":")
        function: Callable[..., Source] = getattr(importlib.import_module(module), name)
        return function

    def recognises(self, path: Path) -> bool:
        """Whether `path` looks like this kind."""
        if self.recognise is not None:
            return self.recognise(path)
        module = importlib.import_module(self.opener.partition(":")[0])
        return bool(module.recognise(path))


def _any(path: Path, *patterns: str) -> bool:
    return path.is_dir() and any(next(path.glob(pattern), None) is not None for pattern in patterns)


SOURCES: dict[str, Kind] = {
    "rooms": Kind(
        "fathom.data.formats.rooms:open_rooms",
        "the rendered rooms that come with fathom",
        lambda path: _any(path, "rooms.json"),
        needs_path=False,
    ),
    "nyu-mat": Kind(
        "fathom.data.formats.benchmarks.nyu_mat:open_nyu_mat",
        "nyu_depth_v2_labeled.mat",
        lambda path: path.suffix.lower() == ".mat" or _any(path, "nyu_depth_v2_labeled.mat"),
    ),
    "packed": Kind(
        "fathom.data.packed.source:open_packed",
        "shards written by 'fathom data pack' (pack.json)",
        lambda path: _any(path, "pack.json"),
    ),
    "record3d": Kind(
        "fathom.data.formats.recordings.record3d:open_record3d",
        ".r3d archives, or an EXR export with metadata.json, rgb/ and depth/",
        lambda path: (
            path.suffix.lower() == ".r3d"
            or _any(path, "*.r3d")
            or ((path / "metadata.json").is_file() and _any(path, "depth/*.exr"))
        ),
    ),
    "diode": Kind(
        "fathom.data.formats.benchmarks.diode:open_diode",
        "DIODE's train|val/indoors|outdoor/scene_#/scan_#",
        lambda path: _any(path, "*/*/scene_*/scan_*", "*/scene_*/scan_*", "scene_*/scan_*", "scan_*/*_depth.npy"),
    ),
    "nyu-folder": Kind(
        "fathom.data.formats.benchmarks.nyu_folder:open_nyu_folder",
        "NYU Depth V2 as folders: BTS (sync_depth_N.png) or Kaggle (nyu2_train.csv)",
        lambda path: _any(
            path, "nyu2_train*", "data/nyu2_train*", "nyu2_test*", "*/sync_depth_*.png", "*/*/sync_depth_*.png"
        ),
    ),
    "seven-scenes": Kind(
        "fathom.data.formats.recordings.seven_scenes:open_seven_scenes",
        "7-Scenes: frame-000000.color.png with frame-000000.depth.png, in seq-NN/ or side by side",
    ),
    "tum": Kind(
        "fathom.data.formats.recordings.tum:open_tum",
        "TUM RGB-D, ICL-NUIM, BONN, ORB-SLAM: rgb.txt with depth.txt, associations.txt, or rgb/ and depth/ named by times",
    ),
    "scannet": Kind(
        "fathom.data.formats.recordings.scannet:open_scannet",
        "ScanNet, exported: <scene>/color, depth, pose, intrinsic",
    ),
    "stray-scanner": Kind(
        "fathom.data.formats.recordings.stray_scanner:open_stray_scanner",
        "Stray Scanner: rgb.mp4, depth/, odometry.csv",
    ),
    "polycam": Kind(
        "fathom.data.formats.recordings.polycam:open_polycam",
        "Polycam's raw export: keyframes/",
    ),
    "sun-rgbd": Kind(
        "fathom.data.formats.benchmarks.sun_rgbd:open_sun_rgbd",
        "SUN RGB-D: kv1, kv2, realsense, xtion",
    ),
    "kitti": Kind(
        "fathom.data.formats.benchmarks.kitti:open_kitti",
        "KITTI depth: <drive>/proj_depth/groundtruth, or val_selection_cropped",
    ),
    "hypersim": Kind(
        "fathom.data.formats.benchmarks.hypersim:open_hypersim",
        "Hypersim: ai_VVV_NNN/images/scene_cam_XX_geometry_hdf5",
    ),
    "ibims": Kind(
        "fathom.data.formats.benchmarks.ibims:open_ibims",
        "iBims-1: ibims1_core_raw with imagelist.txt, rgb, depth, calib",
    ),
    "virtual-kitti": Kind(
        "fathom.data.formats.benchmarks.virtual_kitti:open_virtual_kitti",
        "Virtual KITTI 2: SceneXX/<variant>/frames",
    ),
    "nyu-hdf5": Kind(
        "fathom.data.formats.benchmarks.nyu_hdf5:open_nyu_hdf5",
        "NYU Depth V2 as FastDepth's HDF5 files, in folders or tar shards",
    ),
    "hf": Kind(
        "fathom.data.formats.huggingface:open_hf",
        "a data set of Hugging Face: a folder of save_to_disk or parquet, or ORG/NAME",
        remote=True,
    ),
    "portrait": Kind(
        "fathom.data.formats.portrait:open_portrait",
        "HEIC photos with a depth map inside",
    ),
    "folder": Kind(
        "fathom.data.formats.folders.folder:open_folder",
        "a folder with rgb/ and depth/ or target/, an index.csv, or pairs such as x_rgb.png + x_depth.png",
        folder_pairs.looks_like_pairs,
    ),
}
"""Every kind of source, in the order in which a bare path is tried."""


def parse_spec(spec: str) -> tuple[str | None, Path | None, dict[str, str]]:
    """Split a DATA spec into kind (None where bare), path (None for ``rooms``) and options as text."""
    body, _, query = spec.partition("?")
    options = {}
    for part in query.split("&") if query else ():
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise UsageError(f"'{part}' in '{spec}' is no option; write key=value, several joined by '&'.")
        options[key.strip().replace("-", "_")] = unquote(value)
    kind, colon, rest = body.partition(":")
    if colon and kind in SOURCES:
        if not rest and SOURCES[kind].needs_path:
            raise UsageError(f"'{spec}' names no path; write {kind}:PATH.")
        return kind, expand(rest) if rest else None, options
    if body in SOURCES and not SOURCES[body].needs_path:
        return body, None, options
    if colon and not exists(body) and kind.replace("-", "").isalnum() and len(kind) > 1:
        raise UsageError(f"There is no kind of data '{kind}'{nearest(kind, SOURCES)}.")
    if not body:
        raise UsageError("No data is named; write rooms, KIND:PATH or a path.")
    return None, expand(body), options


def recognise(path: Path) -> str:
    """The kind of data at `path`, by its names; raises `DataError` saying what was looked for."""
    if not exists(path):
        raise DataError(path, "does not exist", f"name a path, or one of the kinds {', '.join(SOURCES)}")
    for name, kind in SOURCES.items():
        if kind.recognises(path):
            return name
    if path.is_dir() and next(path.iterdir(), None) is None:
        raise DataError(path, "is empty", "name a folder that holds images and depth maps")
    if path.is_dir() and folder_pairs.holds_images(path):
        raise folder_pairs.no_pairs(path)
    known = ", ".join(name for name, kind in SOURCES.items() if kind.needs_path)
    raise DataError(
        path,
        f"is no kind of data known here (it holds {_seen(path)})" if path.is_dir() else "is no kind of data known here",
        f"write KIND:PATH to say which it is ({known}); docs/data.md shows the layout of each",
    )


def _seen(path: Path) -> str:
    """What a folder holds, in few words."""
    names = sorted(p.name + "/" * p.is_dir() for p in path.iterdir())
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def load(spec: str | Path, *, skip_bad: bool = False, **options: Any) -> Dataset:
    """Open the data that `spec` names; frames are read later, one at a time.

    Args:
        spec: ``rooms``, ``KIND:PATH`` or a path, with options of the source as a query.
        skip_bad: sources that list pairs leave out incomplete ones instead of raising.
        options: of the source, by name; they go before those of the query.

    Raises:
        DataError: when the path does not exist or is not what it should be.
        UsageError: for an unknown kind or option.
    """
    kind, path, given = parse_spec(str(spec))
    if path is not None and not exists(path) and not (kind is not None and SOURCES[kind].remote):
        raise DataError(path, "does not exist", "check the path")
    if kind is None:
        assert path is not None
        # Whoever says how files pair has a folder of pairs, whatever its names look like.
        kind = "folder" if {"images", "csv"} & {*given, *options} and path.is_dir() else recognise(path)
    if path is not None:
        refuse_unfinished(path)
    opener = SOURCES[kind].load()
    wanted = {**given, **{key: value for key, value in options.items() if value is not None}}
    arguments = convert_options(kind, opener, wanted)
    if skip_bad and "skip_bad" in inspect.signature(opener).parameters:
        arguments["skip_bad"] = True
    try:
        return Dataset.whole(opener(path, **arguments))
    except OSError as error:  # a folder that may not be read, a network drive that has gone
        named = error.filename or path or kind
        raise DataError(named, f"cannot be read ({error.strerror or error})", "check your permissions") from error


def convert_options(kind: str, opener: Callable[..., Source], given: Mapping[str, Any]) -> dict[str, Any]:
    """Values of `given` brought to the types that the opener's keyword-only parameters declare."""
    known = {
        name: parameter
        for name, parameter in inspect.signature(opener).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name != "skip_bad"
    }
    hints = typing.get_type_hints(opener)
    converted = {}
    for key, value in given.items():
        if key not in known:
            spelt, all_spelt = _spelt(key), [_spelt(name) for name in known]
            raise UsageError(f"{kind} has no option '{spelt}'{nearest(spelt, all_spelt)}.")
        converted[key] = _convert(kind, key, value, hints[key])
    return converted


def _spelt(key: str) -> str:
    """An option as a spec spells it."""
    return key.replace("_", "-")


_IN_WORDS = {bool: "true or false", int: "a whole number", float: "a number"}


def _convert(kind: str, key: str, value: Any, hint: Any) -> Any:
    if not isinstance(value, str):
        return value
    choices = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if type(None) in choices and value.lower() in ("none", ""):
        return None
    for target in (bool, int, float, Path, str):
        if target not in choices:
            continue
        if target is bool:
            if value.lower() in ("1", "true", "yes", "on", "0", "false", "no", "off"):
                return value.lower() in ("1", "true", "yes", "on")
            continue
        try:
            return target(value)
        except ValueError:
            continue
    literal = [
        item for choice in choices if typing.get_origin(choice) is typing.Literal for item in typing.get_args(choice)
    ]
    literal += list(typing.get_args(hint)) if typing.get_origin(hint) is typing.Literal else []
    if value in literal:
        return value
    wanted = (
        f"one of {', '.join(dict.fromkeys(map(str, literal)))}"
        if literal
        else " or ".join(_IN_WORDS.get(choice, str(choice)) for choice in choices if choice is not type(None))
    )
    raise UsageError(f"{kind} option {_spelt(key)}={value} is not {wanted}.")
