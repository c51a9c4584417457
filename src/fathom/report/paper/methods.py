"""A paragraph for the methods section of a paper, made from the evidence alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fathom.files.atomic import write_text
from fathom.probing.linear.banded import BANDED

if TYPE_CHECKING:
    from fathom.probing.evidence.evidence import Evidence


def write_methods(evidence: Evidence, out: Path) -> list[Path]:
    """Write ``methods.txt`` into the folder of a run."""
    write_text(out / "methods.txt", methods(evidence))
    return [out / "methods.txt"]


def methods(evidence: Evidence) -> str:
    """What was done, in plain sentences that a paper may use as they are."""
    return "\n\n".join([_fit(evidence), _measure(evidence), _encoders(evidence)]) + "\n"


def _fit(evidence: Evidence) -> str:
    settings, train, test = evidence.settings, evidence.data.train, evidence.data.test
    features = _listed(evidence.features)
    baselines = sorted({row.encoder for row in evidence.rows if row.role == "baseline"})
    banded = any(row.layer == BANDED for row in evidence.rows)
    controls = {item.seed for item in evidence.encoders if item.role == "random"}
    words = [
        f"We fitted linear probes (ridge regression, solved in closed form) from the feature maps of frozen encoders to {features} "
        f"on {train.frames} frames of {train.scenes} scenes, and measured them on {test.frames} frames of {len(evidence.test_scenes)} "
        "other scenes.",
        f"Images were resized to {evidence.size[0]}×{evidence.size[1]} pixels; features and targets were brought to a grid of "
        f"{evidence.grid[0]}×{evidence.grid[1]} cells, targets by averaging over valid pixels.",
        f"The penalty and the layer were chosen by {min(settings.folds, train.scenes)}-fold cross-validation over training scenes"
        + ("; 'banded' is all layers with a penalty for each." if banded else "."),
        "Predictions were clipped to the range of the training targets.",
        f"Every encoder was compared with the baselines {_listed(baselines)}" if baselines else "No baseline took part",
    ]
    if controls:
        words[-1] += (
            f", and with its own architecture with random weights ({len(controls)} seeds) and with permuted weights."
        )
    else:
        words[-1] += "; no encoder was compared with its own architecture with random weights."
    return " ".join(words)


def _measure(evidence: Evidence) -> str:
    words = [
        f"Intervals are 95 % over test scenes: the {evidence.interval_method}. Differences between encoders are paired by scene.",
    ]
    if any(row.abs_rel is not None for row in evidence.rows):
        description = evidence.protocol.description.rstrip(".")
        words.append(
            f"AbsRel and δ1 are at full resolution under the protocol {evidence.protocol.name} ({description})."
        )
    if evidence.verdicts:
        words.append(
            "A verdict is implicit where the encoder beats every baseline and its own architecture without what it learned, and gains "
            "more on the feature than on a control task (each frame with the target of another scene), absent "
            f"where a gain of {100 * evidence.verdicts[0].margin:g} % or more over a baseline is ruled out, and inconclusive otherwise; p-values are corrected by Holm's method over the verdicts of "
            "the run."
        )
    versions = ", ".join(f"{name} {version}" for name, version in evidence.versions.items())
    words.append(f"Seed {evidence.settings.seed}; {versions}.")
    return " ".join(words)


def _encoders(evidence: Evidence) -> str:
    words = []
    for item in evidence.encoders:
        if item.role != "encoder":
            continue
        facts = [f"{'layers' if len(item.layers) > 1 else 'layer'} {_listed(item.layers)}"]
        facts += [item.spec] if item.spec and item.spec != item.encoder else []
        facts += [f"weights SHA-256 {item.weights}"] if item.weights else []
        facts += [f"code SHA-256 {item.code}"] if item.code else []
        facts += [f"revision {item.revision}"] if item.revision else []
        facts += [f"licence {item.licence}"] if item.licence else []
        words.append(f"{item.encoder} ({'; '.join(facts)})")
    parts = (("the training", evidence.data.train), ("the test", evidence.data.test))
    data = [f"{name} frames of {part.location} {part.fingerprint}" for name, part in parts]
    identified = f"Encoders: {_listed(words)}. " if words else ""
    return f"{identified}Fingerprints of the data: {_listed(data)}."


def _listed(items: tuple[str, ...] | list[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
