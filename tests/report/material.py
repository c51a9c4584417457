"""Evidence made up for tests of what shows it: every role, two features, several layers and seeds, pictures with and without camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from fathom.data.record import DataRecord
from fathom.probing.evidence.evidence import Evidence
from fathom.probing.evidence.pictures import Picture
from fathom.probing.evidence.records import (
    Code,
    Cue,
    Data,
    EncoderRecord,
    Estimate,
    FeatureRecord,
    Information,
    LabelCurveRecord,
    ProtocolRecord,
    Row,
)
from fathom.probing.evidence.verdict.cases import Control, cases
from fathom.probing.evidence.verdict.verdict import verdicts
from fathom.probing.settings import ProbeSettings
from fathom.sample import Intrinsics

NET = "module:nets/small.py:net?width=8"
SCENES = tuple(f"room {index}" for index in range(24))


def row(
    encoder: str,
    loss: float,
    *,
    layer: str = "baseline",
    feature: str = "depth",
    role: str = "baseline",
    scenes: int = len(SCENES),
    chosen: bool = True,
    scatter: int = 0,
    **more: Any,
) -> Row:
    """A row whose scenes differ in size and difficulty, the same for all rows, and scatter a little by `scatter`."""
    rooms = np.random.default_rng(5)
    cells = rooms.integers(2, 9, scenes) * 50.0
    errors = cells * loss * rooms.lognormal(0, 0.5, scenes) * np.random.default_rng(scatter).lognormal(0, 0.04, scenes)
    errors *= loss * cells.sum() / errors.sum()
    return Row(
        encoder=encoder, layer=layer, feature=feature, channels=3, penalty=1e-3, role=role, chosen=chosen,
        cv_mse=loss * 1.02, train_mse=loss * 0.97, test_mse=loss, test_rmse=loss**0.5, interval=(loss * 0.8, loss * 1.3),
        ratio_to_pixels=loss / 1.6, r2=1 - loss / 1.7, errors=tuple(errors.tolist()), cells=tuple(cells.tolist()), **more,
    )  # fmt: skip


def rows() -> list[Row]:
    found = []
    for feature, scale in (("depth", 1.0), ("normals", 0.3)):
        baselines = (("constant", 1.7), ("position", 1.4), ("pixels", 1.6))
        found += [
            row(name, scale * loss, feature=feature, scatter=i, control_r2=0.0)
            for i, (name, loss) in enumerate(baselines)
        ]
        for layer, loss in (("conv1", 1.3), ("conv2", 1.0), ("all", 0.9)):
            more = {"layer": layer, "feature": feature, "chosen": layer == "all"}
            found.append(row(NET, scale * loss, role="encoder", scatter=11, control_r2=0.02, **more))
            for seed in range(3):
                spec = f"random:{NET}&seed={seed}"
                loss_here = scale * (loss + 0.3 + 0.02 * seed)
                found.append(
                    row(spec, loss_here, role="random", of=NET, seed=seed, scatter=seed, control_r2=0.02, **more)
                )
        found.append(row(NET, 0.7 * scale, role="head", layer="mlp:all", feature=feature, of=NET, scatter=17))
        found.append(
            row(
                "checkpoint:runs/upper bound", 0.4 * scale, role="upper_bound", layer="out", feature=feature, scatter=21
            )
        )
    first = [replace(item, abs_rel=0.2, delta1=0.7, rmse=0.9) if item.feature == "depth" else item for item in found]
    return first


def control_of(item: Row) -> Control | None:
    """A control task on which every probe does as badly as the mean."""
    cells = np.asarray(item.cells)
    return None if item.role == "upper_bound" else Control(2.0 * cells, 1.7 * cells, 2.0 * cells)


def pictures(count: int = 2, encoders: Sequence[str] = ("constant", "position", NET, f"{NET}, mlp")) -> list[Picture]:
    """Frames of 24 x 32 pixels, predictions on a grid of 3 x 4; the first has a camera, and a hole in its truth."""
    rng = np.random.default_rng(3)
    made = []
    for index in range(count):
        depth = torch.from_numpy(np.linspace(1, 4 + index, 24 * 32, dtype=np.float32).reshape(1, 24, 32).copy())
        valid = torch.ones(1, 24, 32, dtype=torch.bool)
        valid[0, :4, :5] = index != 0
        image = torch.from_numpy(rng.integers(0, 256, (3, 24, 32)).astype(np.float32)) / 255
        maps = {name: torch.from_numpy(rng.uniform(1, 4, (3, 4)).astype(np.float32)) for name in encoders}
        camera = Intrinsics(30.0, 31.0, 16.5, 12.0) if index == 0 else None
        made.append(Picture(f"frame {index}", SCENES[index], image, depth, valid, maps, camera))
    return made


def part(name: str, fingerprint: str) -> DataRecord:
    return DataRecord("data/rooms", "folder", name, 48, 24, fingerprint, {"depth": "z-depth"})


def evidence(*, verdict: bool = True, drawn: bool = True, everything: bool = False) -> Evidence:
    """A run; with `verdict` decided by the rule itself, with `everything` with cues, label curves and bits."""
    found = tuple(rows())
    decided = verdicts(cases(found, control_of), resamples=500) if verdict else []
    roles = {item.encoder: item for item in found if item.role != "head"}
    made = Evidence(
        command="fathom probe data/rooms -e net",
        versions={"fathom": "0.1.0", "torch": "2"},
        data=Data(part("train", "aaaa"), part("test", "bbbb")),
        protocol=ProtocolRecord("native", "all valid pixels"),
        settings=ProbeSettings(size=(24, 32), grid=(3, 4), penalties=(0.1, 1.0), protocol="native"),
        interval_method="of the tests",
        encoders=tuple(
            EncoderRecord(name, item.role, item.of, item.seed, (item.layer,)) for name, item in roles.items()
        ),
        targets=tuple(FeatureRecord(name, 1, "m", name, None) for name in ("depth", "normals")),
        test_scenes=SCENES,
        rows=found,
        verdicts=tuple(decided),
    )
    if everything:
        made.cues, made.cue_sentences = CUES, {NET: "The probe relies on place."}
        made.label_curves, made.information = CURVES, INFORMATION
    made.pictures = pictures() if drawn else []
    return made


def cue(**more: Any) -> Cue:
    """A cue of the net."""
    known: dict[str, Any] = {
        "encoder": NET, "layer": "all", "feature": "depth", "unit": "m", "decides": True, "exact": False, "scenes": 24,
        "base_mse": 0.5, "relative": None, "gain": 1.0, "gain_low": 0.9, "lost": None, "sure_low": None, "sure_high": None,
        "over_low": None, "over_high": None,
    }  # fmt: skip
    return Cue(**(known | more))


CUES = (
    cue(alteration="grey", words="without colour", group="colour", mse=0.6, change=0.1, low=0.05, high=0.2),
    cue(
        alteration="flip",
        words="upside down",
        group="position",
        decides=False,
        mse=1.5,
        change=1.0,
        low=None,
        high=None,
    ),
)

CURVES = tuple(
    LabelCurveRecord(
        name, "depth", "all", role, (3.0, 6.0, 12.0), (2.0, 1.5, 1.2), (1.5, 1.2, None), (2.6, 1.9, 1.4), 3, beats
    )
    for name, role, beats in ((NET, "encoder", 6.0), ("position", "baseline", None))
)

INFORMATION = (
    Information(
        NET,
        "depth",
        "all",
        v_information=Estimate(0.4567, 0.4, 0.5),
        baseline="position",
        beyond=Estimate(0.31, 0.2, 0.4),
        code=Code(600.0, 700.0, 100.0, (0, 2), (1.0, 2.0), 0.01, 6.1, 0.4242),
    ),
)
