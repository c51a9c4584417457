"""A verdict in one sentence: what was found, and for `inconclusive` what stands in the way."""

from __future__ import annotations

from fathom.probing.evidence.records import Estimate, Kind, VerdictRecord

HOPELESS = 100.0
"""Times the baseline's loss beyond which a number says no more: the baseline knows the feature all but perfectly."""


def sentence(found: VerdictRecord, kind: Kind, least_scenes: int) -> str:
    """One sentence that says the verdict and what it stands on."""
    who, what, baseline = found.encoder, found.feature, found.baseline
    if kind == "too few scenes":
        few = f"{scenes(found.scenes)} {'is' if found.scenes == 1 else 'are'} too few"
        return f"{few} for a verdict on {who} and {what}; at least {least_scenes} are needed."
    unseen = scenes(found.scenes, "unseen")
    closed = "" if found.gap_closed is None else f", {_percent(found.gap_closed)} of the way to the upper bound"
    if kind == "implicit":
        small = (found.relative_gain.estimate or 0.0) < found.margin
        also = f"; the gain is real but under {100 * found.margin:g} % of that loss" if small else ""
        return (
            f"A linear probe reads {what} from {who}: on {unseen} it beats every baseline and removes "
            f"{_percent(found.relative_gain)} of the loss of {baseline}{closed}{also}."
        )
    effect = _effect(found)
    if kind == "absent":
        against = min(found.gains, key=lambda gain: (gain.p_margin or 0.0) / max(gain.weight or 0.0, 1e-300))
        also = f" and {effect}" if against.baseline == baseline else f"; compared with {baseline} it {effect}"
        return (
            f"A linear probe reads no more {what} from {who} than from {against.baseline}: on {unseen} it does not remove "
            f"{100 * found.margin:g} % of that baseline's loss{also}."
        )
    return f"It is inconclusive whether {who} carries {what}: it {effect}{closed}, but {_obstacle(found)}."


def scenes(count: int, kind: str = "test") -> str:
    """'1 test scene', '12 test scenes'."""
    return f"{count} {kind} scene{'' if count == 1 else 's'}"


def _effect(found: VerdictRecord) -> str:
    """What the encoder does to the loss of the reference baseline."""
    gain = found.relative_gain
    if gain.estimate is None or gain.estimate < -HOPELESS:
        return f"has over {HOPELESS:g} times the loss of {found.baseline}"
    if gain.estimate >= 0:
        return f"removes {_percent(gain)} of the loss of {found.baseline}"
    ends = (None if end is None else -end for end in (gain.estimate, gain.high, gain.low))
    return f"has a loss {_percent(Estimate(*ends))} above that of {found.baseline}"


def _obstacle(found: VerdictRecord) -> str:
    """What stands between the findings and `implicit`: the weakest part of the test."""
    if found.same_as is not None:
        return f"its errors are exactly those of {found.same_as}: the encoder is untrained, or the copy has its weights"
    if not found.untrained:
        return "no untrained copy of it took part (--controls), and without one nothing is called implicit"
    if found.selectivity is None:
        return "there is no control task to compare it with"
    weakest = max(found.gains, key=lambda gain: gain.p_above)
    if (found.p_selectivity or 0.0) > weakest.p_above:
        return f"it may do as well on targets of other rooms (selectivity {found.selectivity.estimate or 0.0:.3f})"
    if weakest.estimate is None or weakest.estimate <= 0:
        if weakest.baseline != found.baseline:
            return f"{weakest.baseline} does as well or better on these {scenes(found.scenes)}"
        return f"these {scenes(found.scenes)} do not rule out that it removes {100 * found.margin:g} % of that loss"
    if not found.seeds_limit:
        return f"the gain over {weakest.baseline} could be chance with {scenes(found.scenes)}"
    if found.seeds_needed is None:
        return f"it could be one more draw of {weakest.baseline}, whose {weakest.seeds} seeds differ by as much"
    return (
        f"the gain over {weakest.baseline} could be chance with {weakest.seeds} seeds; {found.seeds_needed} would decide if "
        f"they spread as these do (--controls {found.seeds_needed})"
    )


def _percent(found: Estimate) -> str:
    words = f"{100 * (found.estimate or 0.0):.1f} %"
    if found.low is not None and found.high is not None:
        words += f" (95 % interval {100 * found.low:.1f} to {100 * found.high:.1f} %)"
    return words
