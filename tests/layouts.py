"""Damaged files of the layouts of other people's data, and of what runs leave behind; see `tests.mutations`."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import re
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import numpy as np
import torch

from fathom.cli.main import main
from fathom.data.sources import load
from fathom.depth_models.adapted import open_adapted
from fathom.depth_models.calibration import TERMS, Calibration, read_calibration
from fathom.errors import DataError
from fathom.evaluation.result import Evaluation
from fathom.files.atomic import write_json
from fathom.models import build
from fathom.models.saved import read_summary
from fathom.probing.evidence.evidence import Evidence
from fathom.probing.passes import moments_cache
from fathom.probing.saved.probes import load_probes
from fathom.report.probe.picture_store import load_pictures
from fathom.training.recipe import load_recipe
from fathom.training.run.journal import read as read_journal
from tests.data import test_folder_targets
from tests.data.files import pairs
from tests.data.formats.benchmarks import (
    test_hypersim,
    test_kitti,
    test_nyu_folder,
    test_nyu_hdf5,
    test_sun_rgbd,
    test_virtual_kitti,
)
from tests.data.formats.benchmarks.test_ibims import ibims as ibims_fixture
from tests.data.formats.recordings import test_polycam, test_record3d, test_scannet, test_seven_scenes, test_tum
from tests.mutations import (
    FORMATS,
    MM,
    Format,
    Rng,
    _frames,
    flip_bytes,
    mutate_hdf5,
    mutate_head,
    mutate_json,
    mutate_text,
    mutate_zip,
    seal_json,
)

ODD_FIELDS = (
    b"", b"nan", b"-inf", b"inf", b"-1", b"0", b"1e400", b"9" * 400, b"1e-320", b"x", b"\xc3\x28", b"/etc/passwd", b"../../x.png", b"\0",
    "²".encode(), b"1_0", b"[2,3]", b"0x10",
)  # fmt: skip


def mutate_fields(data: bytes, rng: Rng) -> bytes:
    """A field of a table changed, lost or doubled, whatever separates them; sometimes lines, sometimes bytes."""
    kind = rng.random()
    if kind < 0.2:
        return flip_bytes(data, rng)
    if kind < 0.35:
        return mutate_text(data, rng)
    parts = re.split(rb"([\s,:]+)", data)
    at = rng.randrange(0, len(parts), 2)
    parts[at] = rng.choice([*ODD_FIELDS, parts[at] + b" " + parts[at]])
    return b"".join(parts)


def mutate_ends(data: bytes, rng: Rng) -> bytes:
    """As `flip_bytes`, most often at the beginning or the end, where tables keep their structure."""
    part, size = rng.random(), rng.choice([64, 512, 2000])
    if part < 0.3:
        return flip_bytes(data[:size], rng) + data[size:]
    return data[:-size] + flip_bytes(data[-size:], rng) if part < 0.8 else flip_bytes(data, rng)


def _seven(folder: Path) -> None:
    for number in (1, 2):
        test_seven_scenes.frames(folder / "chess" / f"seq-{number:02d}", range(1))
    (folder / "chess" / "TrainSplit.txt").write_text("sequence1\n")
    (folder / "chess" / "TestSplit.txt").write_text("sequence2\n")


def _tum(folder: Path) -> None:
    times = {f"{test_tum.T}{n}75304": f"{test_tum.T}{n}60407" for n in (1, 2)}
    test_tum.recording(folder / "mine", times)
    poses = "".join(f"{time} {n} 2 3 0 0 0 1\n" for n, time in enumerate(times))
    (folder / "mine" / "groundtruth.txt").write_text(f"# timestamp tx ty tz qx qy qz qw\n{poses}")


def _read_tum(folder: Path) -> Any:
    return _frames(load(f"tum:{folder / 'mine'}?depth-scale=5000"))


def _split(spec: str) -> Any:
    return [part.ids for part in load(spec).official_split()]


def _fixture(function: Any) -> Callable[[Path], object]:
    """A pytest fixture as the function that it is."""
    inner = getattr(function, "__wrapped__", None) or function._get_wrapped_function()

    def make(folder: Path) -> object:
        folder.mkdir(parents=True)
        return inner(folder)

    return make


def _hypersim(folder: Path) -> None:
    test_hypersim.scene(folder / "ai_001_001", range(1))
    test_hypersim.scene(folder / "ai_001_002", range(1))
    head = "scene_name,camera_name,frame_id,included_in_public_release,exclude_reason,split_partition_name"
    rows = ["ai_001_001,cam_00,0,True,,train", "ai_001_002,cam_00,0,True,,test"]
    (folder / test_hypersim.SPLIT).write_text("\n".join([head, *rows]) + "\n")


def _sun_split(folder: Path) -> None:
    test_sun_rgbd.frame(folder / "kv1/NYUdata/NYU0003", np.full((12, 16), 2000))
    test_sun_rgbd.allsplit(folder / "allsplit.mat", ["kv1/NYUdata/NYU0003"], ["kv1/NYUdata/NYU0009"], packed=False)


def _tiff(folder: Path) -> None:
    test_folder_targets.folder(
        folder, "{}.tif", lambda path: test_folder_targets.write_bands(path, test_folder_targets.MAP)
    )


@cache
def _made(*arguments: str) -> Path:
    """What a command writes over tiny data, made once for all formats."""
    home = Path(mkdtemp(prefix="fathom-layouts-"))
    data = f"{pairs(home / 'data', 4, 2, 16, 24)}{MM}"
    words = [word.replace("DATA", data).replace("OUT", str(home / "out")) for word in arguments]
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        if main(words):
            raise AssertionError(f"{words} fails")
    return home / "out"


def _copy(*arguments: str) -> Callable[[Path], object]:
    return lambda folder: shutil.copytree(_made(*arguments), folder)


PROBE = _copy("probe", "DATA", "-e", "pixels", "--size", "16x24", "--controls", "0", "--pictures", "1", "--baselines",
              "constant,position", "--no-label-curve", "-o", "OUT", "-q")  # fmt: skip
MODULE = Path(__file__).with_name("constant_depth.py")
EVALUATION = _copy("evaluate", f"module:{MODULE}:model?kind=metric", "DATA", "--pictures", "1", "-o", "OUT", "-q")


def _read_probe(folder: Path) -> Any:
    evidence = Evidence.load(folder)
    kept = {key: value for key, value in evidence.to_json().items() if key != "command"}
    return json.dumps(kept, sort_keys=True), [p.id for p in load_pictures(evidence, folder)]


def _read_pictures(folder: Path) -> Any:
    pictures = load_pictures(Evidence.load(folder), folder)
    return [
        (p.id, p.scene, p.image.numpy().tobytes(), p.depth.numpy().tobytes(), list(p.predictions)) for p in pictures
    ]


def _read_probes(folder: Path) -> Any:
    found = load_probes(folder)
    return found.train_scenes, [(p.encoder, p.layer, p.weight.numpy().tobytes(), p.low.tolist()) for p in found.probes]


def _read_evaluation(folder: Path) -> Any:
    found = Evaluation.load(folder, frames=True)
    shown = [(s.place, s.scores.id, s.depth.numpy().tobytes()) for s in found.shown]
    return repr(found.record), repr(found.frames), shown


def _remeasured(name: str) -> Callable[[Path], object]:
    """Give `evaluation.json` the checksum that a damaged file beside it has."""

    def seal(folder: Path) -> None:
        record = json.loads((folder / "evaluation.json").read_bytes())
        record["sha256"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        record.pop("checksum")
        write_json(folder / "evaluation.json", record, checksum=True)

    return seal


def _calibration(folder: Path) -> None:
    folder.mkdir(parents=True)
    levels = (0.5, 0.6)
    Calibration("m", "d", 12, levels, (0.1, 0.2), (0.0,) * len(TERMS), {"promise": "x"}).save(
        folder / "calibration.json"
    )


def _adapted(folder: Path) -> None:
    folder.mkdir(parents=True)
    table = {
        "schema_version": 1, "base": f"module:{MODULE}:model?kind=metric", "method": "scale", "coefficients": [0.1],
        "nearest": 0.5, "farthest": 9.0,
    }  # fmt: skip
    write_json(folder / "adapt.json", table, checksum=True)


def _summary(folder: Path) -> None:
    folder.mkdir(parents=True)
    write_json(
        folder / "summary.json", {"checkpoint": "checkpoints/4", "steps": 4, "scores": {"rmse": 1.5}}, checksum=True
    )


MOMENTS = ("xx", "xy", "witness")


def _moments(folder: Path) -> None:
    rng = torch.Generator().manual_seed(0)
    tensors = {name: torch.rand(3, 4, generator=rng, dtype=torch.float64) for name in MOMENTS}
    moments_cache.write_checked(folder / "moments-1.safetensors", tensors)


def _read_moments(folder: Path) -> Any:
    with redirect_stderr(io.StringIO()):
        found = moments_cache.read_checked(folder / "moments-1.safetensors", MOMENTS)
    if found is None:
        raise DataError(folder, "is made again")
    return {name: (tensor.dtype, tensor.shape, tensor.numpy().tobytes()) for name, tensor in found[0].items()}


def _journal(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(f'{{"step": {n}, "loss": {n / 7}}}\n' for n in range(20)))


def _resume(folder: Path) -> None:
    """A checkpoint in the middle of a training."""
    from fathom.models.saved import write_checkpoint

    write_checkpoint(folder, _state().content({"schema_version": 1}), 1)


def _state() -> Any:
    from fathom.training.optim.optimiser import make_optimiser
    from fathom.training.optim.schedule import Schedule
    from fathom.training.run.state import State

    recipe = load_recipe("tiny-autoencoder")
    torch.manual_seed(0)
    model = build("autoencoder", {"k": 2, "width": 4, "groups": 2, "blocks": 1, "bottleneck": 4})
    optimiser = make_optimiser(model, recipe.optim, False)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    return State(model, optimiser, Schedule(recipe.schedule, 10), None, 0, 1)


def _read_state(folder: Path) -> Any:
    state = _state()
    state.restore(folder)
    tensors = [value.numpy().tobytes() for values in state.optimiser.state.values() for value in values.values()]
    state.optimiser.step()  # what was taken up must work, and not only be taken up
    weights = [parameter.detach().numpy().tobytes() for parameter in state.model.parameters()]
    return state.step, state.summed, tensors, weights


def _reseal_checkpoint(*names: str) -> Callable[[Path], object]:
    from fathom.models.saved import write_manifest

    return lambda folder: write_manifest(folder, names, 1)


def _resealed(
    form: Format, seal: Callable[[Path], object], mutate: Callable[[bytes, Rng], bytes] | None = None
) -> Format:
    return dataclasses.replace(form, sealed=False, seal=seal, mutate=mutate or form.mutate)


def _frames_of(prefix: str = "", suffix: str = "") -> Callable[[Path], Any]:
    return lambda folder: _frames(load(f"{prefix}{folder}{suffix}"))


EVIDENCE = Format("evidence.json", PROBE, _read_probe, mutate_json, sealed=True)
PROBES = Format("probes.json", PROBE, _read_probes, mutate_json, sealed=True)
PER_IMAGE = Format("per_image.csv", EVALUATION, _read_evaluation, mutate_text, sealed=True)
EVALUATED = Format("evaluation.json", EVALUATION, _read_evaluation, mutate_json, sealed=True)
SHOWN = Format("pictures.npz", EVALUATION, _read_evaluation, mutate_zip, sealed=True)
CALIBRATION = Format(
    "calibration.json",
    _calibration,
    lambda f: dataclasses.astuple(read_calibration(f / "calibration.json")),
    mutate_json,
    sealed=True,
)
ADAPTED = Format("adapt.json", _adapted, lambda f: open_adapted(f, "x").correction, mutate_json, sealed=True)
RESUMED = Format("state.json", _resume, _read_state, mutate_json, sealed=True)
HYPERSIM = "ai_001_001/images/scene_cam_00_geometry_hdf5/frame.0000.depth_meters.hdf5"
VKITTI = _fixture(test_virtual_kitti.kitti2)
SUN = "SUNRGBD/kv1/NYUdata/NYU0003/"

LAYOUTS: dict[str, Format] = {
    "7-scenes pose": Format("chess/seq-01/frame-000000.pose.txt", _seven, _frames_of("seven-scenes:"), mutate_fields),
    "7-scenes depth": Format("chess/seq-01/frame-000000.depth.png", _seven, _frames_of("seven-scenes:"), flip_bytes),
    "7-scenes split": Format("chess/TestSplit.txt", _seven, lambda f: load(f"seven-scenes:{f}?part=test").ids, mutate_fields),
    "tum list": Format("mine/rgb.txt", _tum, _read_tum, mutate_fields),
    "tum poses": Format("mine/groundtruth.txt", _tum, _read_tum, mutate_fields),
    "scannet camera": Format(
        "intrinsic/intrinsic_color.txt", lambda f: test_scannet.scan(f, (2,)), _frames_of("scannet:"), mutate_fields
    ),
    "scannet pose": Format("pose/2.txt", lambda f: test_scannet.scan(f, (2,)), _frames_of("scannet:"), mutate_fields),
    "sun camera": Format(f"{SUN}intrinsics.txt", _fixture(test_sun_rgbd.root), _frames_of("sun-rgbd:", "/SUNRGBD"), mutate_fields),
    "sun depth": Format(
        f"{SUN}depth_bfx/NYU0003.png", _fixture(test_sun_rgbd.root), _frames_of("sun-rgbd:", "/SUNRGBD"), flip_bytes
    ),
    "sun split": Format(
        "allsplit.mat", _sun_split, lambda f: {k: tuple(v) for k, v in load(f"sun-rgbd:{f}").source.official.items()}, flip_bytes
    ),
    "hypersim depth": Format(HYPERSIM, _hypersim, _frames_of("hypersim:"), mutate_hdf5),
    "hypersim split": Format(test_hypersim.SPLIT, _hypersim, lambda f: _split(f"hypersim:{f}"), mutate_fields),
    "kitti camera": Format(
        "raw/2011_09_26/calib_cam_to_cam.txt", _fixture(test_kitti.kitti),
        lambda f: _frames(load(f"kitti:{f / 'depth'}?raw={f / 'raw'}")), mutate_fields,
    ),
    "ibims camera": Format("ibims1_core_raw/calib/office_04.txt", _fixture(ibims_fixture), _frames_of("ibims:"), mutate_fields),
    "ibims list": Format("imagelist.txt", _fixture(ibims_fixture), _frames_of("ibims:"), mutate_fields),
    "ibims mask": Format("ibims1_core_raw/mask_invalid/office_04.png", _fixture(ibims_fixture), _frames_of("ibims:"), flip_bytes),
    "virtual kitti camera": Format("Scene01/clone/intrinsic.txt", VKITTI, _frames_of("virtual-kitti:"), mutate_fields),
    "virtual kitti pose": Format("Scene01/clone/extrinsic.txt", VKITTI, _frames_of("virtual-kitti:"), mutate_fields),
    "polycam camera": Format(
        f"flat/keyframes/corrected_cameras/{test_polycam.NAME}.json", lambda f: test_polycam.capture(f / "flat"),
        _frames_of("polycam:"), mutate_json,
    ),
    "nyu hdf5": Format(
        "train/cafe_0001/00003.h5", _fixture(test_nyu_hdf5.fast), _frames_of("nyu-hdf5:"), mutate_hdf5,
    ),
    "nyu list": Format(
        "nyu_data/data/nyu2_train.csv", lambda f: test_nyu_folder.kaggle(f), _frames_of("nyu-folder:"), mutate_fields
    ),
    "record3d metadata": Format("room/metadata.json", lambda f: _r3d_export(f), _frames_of("", "/room"), mutate_json),
    "tiff target": Format("target/a.tif", _tiff, _frames_of(), mutate_head),
    "evidence": EVIDENCE,
    "evidence, resealed": _resealed(EVIDENCE, lambda f: seal_json(f / "evidence.json")),
    "probes.json": PROBES,
    "probes.json, resealed": _resealed(PROBES, lambda f: seal_json(f / "probes.json")),
    "probe weights": Format("probes.safetensors", PROBE, _read_probes, mutate_head, sealed=True),
    "pictures of a probe": Format("pictures.npz", PROBE, _read_pictures, mutate_zip, sealed=False),
    "evaluation": EVALUATED,
    "evaluation, resealed": _resealed(EVALUATED, lambda f: seal_json(f / "evaluation.json")),
    "frames of an evaluation": PER_IMAGE,
    "frames of an evaluation, resealed": _resealed(PER_IMAGE, _remeasured("per_image.csv"), mutate_fields),
    "pictures of an evaluation": SHOWN,
    "pictures of an evaluation, resealed": _resealed(SHOWN, _remeasured("pictures.npz")),
    "calibration": CALIBRATION,
    "calibration, resealed": _resealed(CALIBRATION, lambda f: seal_json(f / "calibration.json")),
    "adapted model": ADAPTED,
    "adapted model, resealed": _resealed(ADAPTED, lambda f: seal_json(f / "adapt.json")),
    "summary": Format("summary.json", _summary, read_summary, mutate_json, sealed=True),
    "state of a training": RESUMED,
    "state of a training, resealed": _resealed(
        RESUMED, _reseal_checkpoint("model.safetensors", "config.json", "optimiser.safetensors", "state.json")
    ),
    "moments cache": Format("moments-1.safetensors", _moments, _read_moments, mutate_head, sealed=True),
    "journal": Format("metrics.jsonl", _journal, read_journal, mutate_text),
}  # fmt: skip


def _heic(folder: Path) -> None:
    import numpy as np

    from tests.data.heic import portrait

    folder.mkdir(parents=True)
    down, right = np.mgrid[:48, :64]
    rgb = np.stack([right * 3, down * 5, 90 + 0 * right], -1).astype(np.uint8)
    portrait(folder / "a.heic", rgb, (right[::2, ::2] * 4).astype(np.uint8), 1, d_min=0.5, d_max=2.5)


def _stray(folder: Path) -> None:
    from tests.data.formats.recordings.test_stray_scanner import recording

    recording(folder / "hall", 4, focus=False)


def _table(rows: int = 2) -> Any:
    import datasets

    from tests.data.formats.test_huggingface import table

    datasets.disable_progress_bars()
    return table(rows, "float")


def _parquet(folder: Path) -> None:
    (folder / "data").mkdir(parents=True)
    _table().to_parquet(str(folder / "data" / "train-00000-of-00001.parquet"))


def _read_hf(folder: Path) -> Any:
    """As `_frames_of`, without the library's cache, which keeps what it read under the file's time and size."""
    import datasets

    with TemporaryDirectory() as cache:
        datasets.config.HF_DATASETS_CACHE = Path(cache)
        datasets.config.HF_HUB_OFFLINE = True
        return _frames(load(f"hf:{folder}"))


def _with_extras() -> dict[str, Format]:
    """Formats that need optional packages."""
    found = {}
    if find_spec("pillow_heif"):
        found["heic"] = Format("a.heic", _heic, _frames_of("portrait:"), mutate_head)
    if find_spec("av"):
        found["stray video"] = Format("hall/rgb.mp4", _stray, _frames_of("stray-scanner:"), flip_bytes)
        found["stray odometry"] = Format("hall/odometry.csv", _stray, _frames_of("stray-scanner:"), mutate_fields)
        found["stray camera"] = Format("hall/camera_matrix.csv", _stray, _frames_of("stray-scanner:"), mutate_fields)
    if find_spec("datasets"):
        found["hf parquet"] = Format("data/train-00000-of-00001.parquet", _parquet, _read_hf, mutate_ends)
        on_disk = lambda folder: _table().save_to_disk(str(folder))  # noqa: E731
        found["hf arrow"] = Format("data-00000-of-00001.arrow", on_disk, _read_hf, mutate_ends)
        found["hf state"] = Format("state.json", on_disk, _read_hf, mutate_json)
        found["hf info"] = Format("dataset_info.json", on_disk, _read_hf, mutate_json)
    return found


def _r3d_export(folder: Path) -> None:
    test_record3d.export(folder / "room", (0, 1))


EVERY: dict[str, Format] = FORMATS | LAYOUTS | _with_extras()
"""All formats by name."""
