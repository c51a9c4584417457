"""From moments to candidates: every probe in closed form, and what is fitted in addition to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from fathom.data.dataset import Dataset
from fathom.errors import FathomError
from fathom.features.mean_map import MeanMap
from fathom.probing import processes
from fathom.probing.candidates import Candidate, Layer, bounded, linear_probes, mean_map_candidate, named
from fathom.probing.evidence.information import WIDE
from fathom.probing.heads.training import train_heads
from fathom.probing.linear.banded import BANDED, SPAN, banded_ridge
from fathom.probing.linear.ridge import PATH, Chosen, cross_validate
from fathom.probing.participants import ALL, Participant
from fathom.probing.passes.training import exact_pass
from fathom.probing.plan import Blocks
from fathom.probing.settings import ProbeSettings
from fathom.probing.targets import TargetGroup


def check_targets(groups: Sequence[TargetGroup], mean_maps: Mapping[str, MeanMap], train: Dataset) -> None:
    """Raise where there is nothing to learn: no valid cell, or one value everywhere."""
    for group in groups:
        average = mean_maps.get(group.name)
        if average is None or not float(average.counts.sum()):
            raise FathomError(
                f"{train.source.location}: no training frame has a valid cell of {group.name}; nothing can be probed."
            )
        spread = average.variance() > 1e-12 * average.mean().square()
        for one in group.features:
            if not bool(spread[group.outputs[one.name]].any()):
                raise FathomError(
                    f"{train.source.location}: {one.name} has the same value in every valid cell of the training frames; "
                    "there is nothing for a probe to explain."
                )


def fit_probes(
    participants: Sequence[Participant],
    groups: Sequence[TargetGroup],
    mean_maps: Mapping[str, MeanMap],
    train: Dataset,
    blocks: Blocks,
    settings: ProbeSettings,
) -> list[Candidate]:
    """The mean maps, the linear probes of every participant, and heads where they were asked for."""
    check_targets(groups, mean_maps, train)
    maps = [mean_map_candidate(mean_maps[group.name], group, blocks.folds, settings.device) for group in groups]
    pairs = [(participant, group) for participant in participants for group in groups]
    probes = _solved(pairs, settings)
    probes = _exact(probes, groups, train, blocks, settings)
    encoders = [participant for participant in participants if participant.role.name == "encoder"]
    return [*maps, *probes, *_bounded(train_heads(encoders, groups, train, settings), probes, settings)]


def _exact(
    probes: Sequence[Candidate],
    groups: Sequence[TargetGroup],
    train: Dataset,
    blocks: Blocks,
    settings: ProbeSettings,
) -> list[Candidate]:
    """The probes, fitted again on moments in float64 where rounding left out a penalty that might have been chosen."""
    limited: dict[Participant, list[TargetGroup]] = {}
    for item in probes:
        if item.participant is not None and any(layer.limited for layer in item.layers):
            limited.setdefault(item.participant, []).append(item.group)
    if not limited:
        return list(probes)
    exact_pass(limited, groups, train, blocks, settings)
    again = _solved([(item, group) for item, groups in limited.items() for group in groups], settings)
    exact = {(item.participant, item.group.name): item for item in again}
    return [exact.get((item.participant, item.group.name), item) for item in probes]


def _solved(pairs: Sequence[tuple[Participant, TargetGroup]], settings: ProbeSettings) -> list[Candidate]:
    """The linear probes of participants and target groups; the processes of a run share the work."""
    layers = processes.divided(lambda pair: solve(*pair, settings), pairs, "solving probes")
    return [
        linear_probes(participant, group, own, settings.device)
        for (participant, group), own in zip(pairs, layers, strict=True)
    ]


def _bounded(heads: Sequence[Candidate], probes: Sequence[Candidate], settings: ProbeSettings) -> list[Candidate]:
    """Heads that predict inside the range of the training targets, as the linear probes of the same group do."""
    ranges = {item.group.name: item.layers[0].probe for item in probes}
    made = []
    for head in heads:
        probe = ranges[head.group.name]
        assert probe is not None
        made.append(bounded(head, probe.low, probe.high, settings.device))
    return made


def solve(participant: Participant, group: TargetGroup, settings: ProbeSettings) -> list[Layer]:
    """Every layer's linear probe of one participant and one target group."""
    moments, columns, folds = participant.moments[group.name], participant.layers, participant.blocks.folds
    layers, chosen = [], {}
    for name, part in columns.items():
        with named(participant.encoder.name, name):
            chosen[name] = cross_validate(moments.select(part), folds, settings.penalties, group.ties)
        layers.append(_layer(name, part, chosen[name]))
    if _wants_bands(participant, settings):
        own = {name: part for name, part in columns.items() if name != ALL}
        path = settings.penalties
        span = SPAN if path == PATH else (min(path), max(path))
        found = banded_ridge(moments, folds, own, chosen[ALL], group.ties, span)
        bands = dict(zip(own, found.penalties, strict=True))
        layers.append(_layer(BANDED, columns[ALL], found.chosen, bands))
    return layers


def _wants_bands(participant: Participant, settings: ProbeSettings) -> bool:
    """Whether the concatenation also gets a penalty for each layer; the controls get what their encoder gets."""
    columns = participant.layers
    if ALL not in columns or participant.role.name not in ("encoder", "random", "permuted"):
        return False
    return settings.banded if settings.banded is not None else columns[ALL].stop <= WIDE


def _layer(name: str, columns: slice, fit: Chosen, bands: Mapping[str, Tensor] | None = None) -> Layer:
    return Layer(
        name,
        columns.stop - columns.start,
        fit.probe.penalty,
        fit.cv_mse,
        fit.train_mse,
        bands,
        columns=columns,
        probe=fit.probe,
        left_out=fit.left_out,
        limited=fit.limited_by_rounding,
    )
