"""What a run's losses come to in bits: R², V-information and description length of each baseline and encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from fathom.probing.candidates import FittedProbe, best_layer
from fathom.probing.evidence.few_labels import WIDE
from fathom.probing.evidence.information import online_code, r_squared, v_information
from fathom.probing.evidence.rows import Measured

LEAST_GROUPS = 4
"""Of training scenes for a description length."""


def information(
    measured: Sequence[Measured], baselines: Mapping[tuple[str, str], str], seed: int, all_widths: bool
) -> list[dict[str, Any]]:
    """The entries of ``information`` in the evidence: documented in docs/evidence.md.

    Args:
        measured: of the test pass.
        baselines: the reference baseline of each encoder and feature that a verdict is on: bits beyond it are given too.
        seed: of the order in which scenes are sent.
        all_widths: compute description lengths of layers of any width, not of up to `WIDE` channels alone.
    """
    seeds: dict[tuple[str, str], list[np.ndarray]] = {}
    for item in measured:
        for one in item.candidate.kind.features:
            seeds.setdefault((item.candidate.encoder, one.name), []).append(_chosen_errors(item, one.name))
    losses = {key: np.mean(np.stack(errors), axis=0) for key, errors in seeds.items()}
    entries = []
    for item in measured:
        candidate, sums = item.candidate, item.sums
        if candidate.role.name not in ("baseline", "encoder", "upper_bound"):
            continue
        for one in candidate.kind.features:
            outputs = candidate.kind.outputs[one.name]
            around = sums.target[:, outputs].sum(1).numpy()
            errors = losses[candidate.encoder, one.name]
            entry: dict[str, Any] = {
                "encoder": candidate.encoder,
                "feature": one.name,
                "layer": candidate.layers[best_layer(candidate, one.name)].name,
            }
            if around.sum() > 0 and errors.sum() > 0:
                entry["r2"] = asdict(r_squared(errors, around))
                entry["v_information"] = asdict(v_information(around, errors, outputs=one.channels))
                beyond = baselines.get((candidate.encoder, one.name))
                if beyond is not None and (beyond, one.name) in losses:
                    without = losses[beyond, one.name]
                    entry["beyond"] = {
                        "baseline": beyond,
                        **asdict(v_information(without, errors, outputs=one.channels)),
                    }
            entry |= _code(candidate, one.name, seed, all_widths)
            entries.append(entry)
    return entries


def _chosen_errors(item: Measured, feature: str) -> np.ndarray:
    outputs = item.candidate.kind.outputs[feature]
    errors: np.ndarray = item.sums.squared[:, best_layer(item.candidate, feature), outputs].sum(1).numpy()
    return errors


def _code(candidate: object, feature: str, seed: int, all_widths: bool) -> dict[str, Any]:
    """The description length, where the candidate is a probe and it takes seconds."""
    if type(candidate) is not FittedProbe:
        return {}
    layer = candidate.layers[best_layer(candidate, feature)]
    moments = candidate.reading.moments[candidate.kind.name]
    if int((moments.n > 0).sum()) < LEAST_GROUPS or (layer.channels > WIDE and not all_widths):
        return {}
    code = online_code(moments.select(candidate.columns[layer.name], candidate.kind.outputs[feature]), seed=seed)
    return {"code": {**asdict(code), "bits_per_cell": code.bits_per_cell, "saved_per_cell": code.saved_per_cell}}
