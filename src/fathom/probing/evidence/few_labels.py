"""Few labels: probes on ever more training scenes, solved from the moments and measured in the one test pass.

No image is read again: a probe on some scenes is a function of their moments, and every further probe is a column of the
matrix that the test frames are multiplied by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fathom.probing.candidates import FittedProbe, Layer, best_layer
from fathom.probing.evidence.information import doubling
from fathom.probing.evidence.label_curve import LabelCurve, scenes_to_beat
from fathom.probing.evidence.rows import Measured
from fathom.probing.linear.banded import BANDED
from fathom.probing.linear.ridge import Chosen, cross_validate
from fathom.probing.passes import ALL
from fathom.probing.plan import Blocks
from fathom.progress import track

DRAWS = 3
"""Seeded orders of the training scenes, the same for all encoders."""

FOLDS = 3
"""Of the cross-validation that chooses λ among the scenes drawn."""

WIDE = 512
"""Channels up to which what takes many decompositions (label curves, bits, banded penalties) is computed unasked."""


class LabelProbes(FittedProbe):
    """The probes of one encoder, one support and one layer on subsets of the training scenes.

    Attributes:
        features: whose chosen layer this is.
        layer: its name.
        counts: blocks of scenes in each subset. scenes: scenes in them, mean over draws.
    """

    def __init__(
        self, fitted: FittedProbe, layer: str, blocks: Blocks, penalties: Sequence[float], seed: int, device: str
    ):
        moments = fitted.reading.moments[fitted.kind.name].select(fitted.columns[layer])
        usable = [group for group in range(moments.groups) if float(moments.n[group])]
        sizes = np.bincount(list(blocks.of_scene.values()), minlength=blocks.count)
        orders = [
            [usable[i] for i in np.random.default_rng([seed, draw]).permutation(len(usable))] for draw in range(DRAWS)
        ]
        self.layer = layer
        self.features = tuple(one.name for one in fitted.kind.features if _layer(fitted, one.name) == layer)
        self.counts = doubling(len(usable))
        self.scenes = tuple(float(np.mean([sizes[order[:count]].sum() for order in orders])) for count in self.counts)
        chosen: dict[str, Chosen] = {}
        for count in self.counts:
            for draw, order in enumerate(orders):
                if count == len(usable):  # every order is the same set: the probe that is known
                    chosen[f"{count}/{draw}"] = fitted.chosen[layer]
                    continue
                folds = [list(range(k, count, FOLDS)) for k in range(min(FOLDS, count))]
                chosen[f"{count}/{draw}"] = cross_validate(
                    moments.take(order[:count]), folds, penalties, fitted.kind.ties
                )
        columns = dict.fromkeys(chosen, fitted.columns[layer])
        super().__init__(fitted.reading, fitted.kind, fitted.role, chosen, device, columns)


def _layer(fitted: FittedProbe, feature: str) -> str:
    """The chosen layer; the plain concatenation for the banded one, whose penalties few scenes cannot settle."""
    name = fitted.layers[best_layer(fitted, feature)].name
    return ALL if name == BANDED else name


def label_probes(
    fitted: Sequence[FittedProbe],
    blocks: Blocks,
    penalties: Sequence[float],
    seed: int,
    device: str,
    asked: bool | None,
    notes: list[str],
) -> list[LabelProbes]:
    """Of every baseline and encoder (controls need none) at its chosen layers; none of wide layers unless `asked`."""
    probes = []
    for one in track(fitted, "solving label curves"):
        if one.role.name not in ("baseline", "encoder") or asked is False:
            continue
        for layer in sorted({_layer(one, feature.name) for feature in one.kind.features}):
            found: Layer = next(item for item in one.layers if item.name == layer)
            if found.channels <= WIDE or asked:
                probes.append(LabelProbes(one, layer, blocks, penalties, seed, device))
            else:
                notes.append(
                    f"No label curve of {one.encoder} at {layer} ({found.channels} channels) unless asked for."
                )
    return probes


def label_curves(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """The entries of ``label_curves`` in the evidence: documented in docs/evidence.md."""
    curves: dict[tuple[str, str], tuple[LabelProbes, LabelCurve]] = {}
    for item in measured:
        probes = item.candidate
        assert isinstance(probes, LabelProbes)
        for feature in probes.features:
            outputs = probes.kind.outputs[feature]
            errors = item.sums.squared[:, :, outputs].sum(2).T.numpy()
            shaped = errors.reshape(len(probes.counts), DRAWS, -1)
            curve = LabelCurve(probes.counts, probes.scenes, shaped, item.sums.cells.numpy())
            curves[probes.encoder, feature] = (probes, curve)
    return [_entry(probes, feature, curve, curves) for (_, feature), (probes, curve) in curves.items()]


def _entry(
    probes: LabelProbes,
    feature: str,
    curve: LabelCurve,
    curves: Mapping[tuple[str, str], tuple[LabelProbes, LabelCurve]],
) -> dict[str, Any]:
    intervals = curve.intervals()
    baselines = [
        other
        for (_, name), (item, other) in curves.items()
        if name == feature and item.role.name == "baseline" and other.counts == curve.counts
    ]
    beats = scenes_to_beat(curve, baselines) if probes.role.name == "encoder" and baselines else None
    return {
        "encoder": probes.encoder,
        "feature": feature,
        "layer": probes.layer,
        "role": probes.role.name,
        "scenes": list(probes.scenes),
        "mse": [interval.estimate for interval in intervals],
        "low": [interval.low for interval in intervals],
        "high": [interval.high for interval in intervals],
        "draws": DRAWS,
        "scenes_to_beat_baselines": beats,
    }
