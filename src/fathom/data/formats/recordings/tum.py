"""``tum:`` — recordings in the layout of the TUM RGB-D benchmark (Sturm et al. 2012): TUM, ICL-NUIM, BONN, ORB-SLAM's own.

The layout does not settle the unit of depth. TUM's, ICL-NUIM's and BONN's own recordings, which their names tell, have 5000
counts a metre; recordings by others in the same layout have 1000 or anything else, so that those need ``depth-scale``. A
settings file of ORB-SLAM beside the frames (``DepthMapFactor``) says it too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fathom.data.formats.files import IMAGE_SUFFIXES, UnknownUnitError, metres_per_count
from fathom.data.formats.poses import given_camera, nearest, pair_in_time, quaternion_pose, read_text, table_rows
from fathom.data.formats.views import CountedDepth, View, ViewSource, view_source
from fathom.errors import DataError
from fathom.files.inputs import inside, regular_file
from fathom.sample import Intrinsics

FOLDERS = ("rgb", "depth")

WITHIN = 0.02
"""Seconds between colour, depth and pose at most, as in the benchmark's own tools."""


@dataclass(frozen=True)
class Family:
    """Recordings whose name tells camera and unit."""

    name: str
    pattern: str
    camera: Intrinsics
    counts: float = 5000.0


def _centred(fx: float, fy: float, cx: float, cy: float) -> Intrinsics:
    """Published numbers count pixel centres from 0; here the first is at 0.5."""
    return Intrinsics(fx, fy, cx + 0.5, cy + 0.5)


FAMILIES = (
    Family("TUM freiburg1", r"freiburg1|fr1[_/]", _centred(517.3, 516.5, 318.6, 255.3)),
    Family("TUM freiburg2", r"freiburg2|fr2[_/]", _centred(520.9, 521.0, 325.1, 249.7)),
    Family("TUM freiburg3", r"freiburg3|fr3[_/]", _centred(535.4, 539.2, 320.1, 247.6)),
    Family("ICL-NUIM", r"traj\d_frei_png|living_?room.*traj\d|office.*traj\d", _centred(481.2, 480.0, 319.5, 239.5)),
    Family("BONN", r"rgbd_bonn_", _centred(542.822841, 542.576870, 315.593520, 237.756098)),
)


def is_sequence(path: Path) -> bool:
    """Whether a folder is one recording in this layout."""
    if not path.is_dir():
        return False
    if all((path / f"{name}.txt").is_file() for name in FOLDERS) or _associations(path) is not None:
        return True
    return all(any(_stamped(file) for file in _frame_files(path / name)) for name in FOLDERS)


def _frame_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if _is_image(p.name)) if folder.is_dir() else []


def _stamped(file: Path) -> bool:
    """Whether a file is named by its time: seconds with decimals."""
    return re.fullmatch(r"\d{1,12}\.\d{2,9}", file.stem) is not None


def recognise(path: Path) -> bool:
    """Whether a folder is a recording or holds some."""
    return path.is_dir() and (is_sequence(path) or any(is_sequence(p) for p in path.iterdir() if p.is_dir()))


def open_tum(
    path: Path,
    *,
    depth_scale: float | None = None,
    intrinsics: str | None = None,
    every: int = 1,
    skip_bad: bool = False,
) -> ViewSource:
    """Open one recording or a folder of them; each is a scene.

    Args:
        path: a folder with ``rgb.txt`` and ``depth.txt`` or an associations file, or a folder of such folders.
        depth_scale: below 1 metres a count (0.001), else counts a metre (1000); needed where the name does not tell it.
        intrinsics: ``fx,fy,cx,cy`` of the stored images; by default those of the family that the name tells, else unknown.
        every: keep each n-th frame; neighbours in a video are nearly the same.
        skip_bad: leave out frames with a missing file.
    """
    sequences = [path] if is_sequence(path) else sorted(p for p in path.iterdir() if p.is_dir() and is_sequence(p))
    left_out: list[str] | None = [] if skip_bad else None
    views: list[View] = []
    scales: dict[float, str] = {}
    for sequence in sequences:
        family = _family(sequence)
        scale, why = _scale(sequence, family, depth_scale)
        scales.setdefault(scale, why)
        camera = given_camera(intrinsics) or _settings_camera(sequence) or (family.camera if family else None)
        views += _views(sequence, camera, left_out)
    if len(scales) > 1:
        raise DataError(
            path,
            f"holds recordings of several units ({', '.join(f'{1 / scale:g} counts a metre' for scale in sorted(scales))})",
            "name one recording at a time",
        )
    scale, why = next(iter(scales.items()), (1.0, ""))
    # A saturated count measures nothing: RealSense recordings hold some.
    depth = CountedDepth(scale, (0, 65535))
    facts = {
        "depth": f"{depth} ({why})",
        "pairing": f"associations file, else nearest time (of lists or file names) within {WITHIN * 1000:g} ms",
        "scene": "recording",
        "camera": "as given"
        if intrinsics
        else "of the recording's family or settings file; unknown for other recordings",
    }
    return view_source(
        "tum",
        path,
        views,
        depth,
        facts,
        wanted="rgb.txt with depth.txt, or associations.txt",
        left_out=left_out,
        every=every,
    )


def _family(sequence: Path) -> Family | None:
    name = sequence.resolve().name.lower()
    return next((family for family in FAMILIES if re.search(family.pattern, name)), None)


def _scale(sequence: Path, family: Family | None, given: float | None) -> tuple[float, str]:
    """Metres per count, and who says so."""
    if given is not None:
        return metres_per_count(given), "as given"
    factor = _setting(sequence, "DepthMapFactor")
    if factor is not None and factor > 0:
        return 1 / factor, "DepthMapFactor of the settings file"
    if family is not None:
        return 1 / family.counts, f"{family.counts:g} counts a metre in {family.name}'s own recordings"
    raise UnknownUnitError(
        sequence,
        "is in TUM's layout, which does not settle the unit of depth",
        "give 'PATH?depth-scale=5000' for counts as in TUM's own recordings, 'PATH?depth-scale=1000' for millimetres, as most "
        "recordings with a RealSense have",
    )


def _settings(sequence: Path) -> list[Path]:
    return sorted([*sequence.glob("*.yaml"), *sequence.glob("*.yml")])


def _setting(sequence: Path, key: str) -> float | None:
    """A number of ORB-SLAM's settings file (OpenCV's YAML: ``RGBD.DepthMapFactor: 5000.0``)."""
    for file in _settings(sequence):
        match = re.search(rf"^\s*(?:\w+\.)?{key}\s*:\s*([-+.\deE]+)", read_text(file), re.MULTILINE)
        if match:
            try:
                return float(match[1])
            except ValueError:
                raise DataError(file, f"has a {key} that is no number", "mend the file") from None
    return None


def _settings_camera(sequence: Path) -> Intrinsics | None:
    numbers = [_setting(sequence, key) for key in ("fx", "fy", "cx", "cy")]
    known = [number for number in numbers if number is not None]
    return _centred(*known) if len(known) == 4 and min(known) > 0 else None


def _views(sequence: Path, camera: Intrinsics | None, left_out: list[str] | None) -> list[View]:
    poses = _trajectory(sequence)
    scene = sequence.resolve().name
    views = []
    for time, image, depth in _pairs(sequence):
        lacking = next((file for file in (image, depth) if not file.is_file()), None)
        if lacking is not None:
            if left_out is None:
                raise DataError(
                    lacking, f"is named by the lists of {sequence.name} and does not exist", "use --skip-bad"
                )
            left_out.append(f"{lacking}: does not exist")
            continue
        place = None if poses is None else nearest(poses[0], time, WITHIN)
        pose = None if poses is None or place is None else poses[1][place]
        views.append(View(f"{scene}/{image.stem}", scene, image, depth, camera, pose, time))
    return views


def _associations(sequence: Path) -> Path | None:
    """The file of four columns that pairs colour and depth, by whatever name it has."""
    for file in sorted(sequence.glob("*assoc*.txt")):
        first = next(iter(table_rows(file)), [])
        if len(first) == 4 and _is_image(first[1]) and _is_image(first[3]):
            return file
    return None


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in IMAGE_SUFFIXES


def _pairs(sequence: Path) -> list[tuple[float, Path, Path]]:
    """Time, image and depth map of each frame."""
    file = _associations(sequence)
    if file is None:
        colours, depths = (_listed(sequence, name) for name in FOLDERS)
        matched = pair_in_time([time for time, _ in colours], [time for time, _ in depths], WITHIN)
        return [(colours[i][0], colours[i][1], depths[j][1]) for i, j in matched]
    rows = [row for row in table_rows(file) if len(row) >= 4]
    swapped = _depth_first(sequence, file, rows[0])
    pairs = []
    for row in rows:
        (one, first), (_, second) = ((row[0], row[1]), (row[2], row[3]))
        image, depth = (second, first) if swapped else (first, second)
        pairs.append(
            (_time(file, row[2] if swapped else one), inside(sequence, image, file), inside(sequence, depth, file))
        )
    return pairs


def _depth_first(sequence: Path, file: Path, row: Sequence[str]) -> bool:
    """Whether depth stands before colour: by the names of the folders, else by which image has colour."""
    marked = ["depth" in row[column].lower() for column in (1, 3)]
    if marked[0] != marked[1]:
        return marked[0]
    from PIL import Image

    modes = []
    for column in (1, 3):
        try:
            with Image.open(regular_file(inside(sequence, row[column], file))) as picture:
                modes.append(picture.mode.startswith("I"))
        except (OSError, SyntaxError, ValueError, DataError):
            modes.append(False)
    if modes[0] != modes[1]:
        return modes[0]
    raise DataError(
        file, "does not tell images from depth maps", "write 'time rgb/NAME time depth/NAME', one frame a line"
    )


def _listed(sequence: Path, name: str) -> list[tuple[float, Path]]:
    """Times and files of the list ``rgb.txt`` or ``depth.txt``; without one, of the folder's files that are named by times."""
    file = sequence / f"{name}.txt"
    if not file.is_file():
        return [(float(one.stem), one) for one in _frame_files(sequence / name) if _stamped(one)]
    return [(_time(file, row[0]), inside(sequence, row[1], file)) for row in table_rows(file) if len(row) >= 2]


def _time(file: Path, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise DataError(file, f"has '{text}' where a time in seconds is wanted", "mend the file") from None


def _trajectory(sequence: Path) -> tuple[list[float], list[tuple[float, ...]]] | None:
    """Times and poses of ``groundtruth.txt`` (ICL-NUIM: ``*.gt.freiburg``), in order of time."""
    file = next(iter([*sequence.glob("groundtruth.txt"), *sorted(sequence.glob("*.gt.freiburg"))]), None)
    if file is None:
        return None
    rows = []
    for fields in table_rows(file):
        if len(fields) < 8:
            raise DataError(file, f"has a line of {len(fields)} fields; wanted t tx ty tz qx qy qz qw", "mend the file")
        numbers = [_time(file, field) for field in fields[:8]]
        pose = quaternion_pose(numbers[4:8], numbers[1:4], file)
        rows.append((numbers[0], tuple(pose.flatten().tolist())))
    rows.sort()
    return [time for time, _ in rows], [pose for _, pose in rows]
