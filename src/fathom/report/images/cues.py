"""The cue chart: how each probe's loss changes when a cue is taken out of the test frames, written as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fathom.encoders.spec import short_names
from fathom.errors import UsageError
from fathom.report.images.sheet import save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fathom.probing.evidence.records import Cue

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#999999")
"""Okabe & Ito's (2008), told apart by colour-blind readers too."""

MARKERS = "osD^vPX*"

MOST = len(COLOURS)
"""Encoders in the chart, in the order measured."""

GROUPS = ("colour", "light", "texture", "shape", "position")


def draw_cues(cues: Sequence[Cue], path: str | Path, feature: str | None = None) -> Path:
    """One panel: a line for each alteration, gathered by the cue that it takes away, a mark with interval for each encoder.

    Args:
        cues: of the evidence.
        path: of the PNG.
        feature: which of the features measured; the first by default.
    """
    from matplotlib.figure import Figure

    if not cues:
        raise UsageError("There is no cue to draw: measure some first.")
    chosen = feature or cues[0].feature
    records = [record for record in cues if record.feature == chosen]
    if not records:
        raise UsageError(f"No cue of the feature '{chosen}' was measured.")
    encoders = list(dict.fromkeys(record.encoder for record in records))[:MOST]
    groups = sorted({record.group for record in records}, key=GROUPS.index)
    lines: list[tuple[str, str]] = []
    for group in groups:
        # What decides first, then what was rendered again, then what takes several cues at once.
        own = [record for record in records if record.group == group]
        own.sort(key=lambda record: (not record.decides, record.exact))
        lines += [(group, name) for name in dict.fromkeys(record.alteration for record in own)]
    names = short_names(encoders, 32)
    words = {record.alteration: _label(record) for record in records}
    figure = Figure(figsize=(9.0, 1.5 + len(lines) * max(0.3, 0.09 * len(encoders))), layout="constrained")
    axes = figure.subplots()
    places = _places(lines)
    by_key = {(record.encoder, record.alteration): record for record in records}
    for rank, encoder in enumerate(encoders):
        offset = (rank - (len(encoders) - 1) / 2) * 0.75 / len(encoders)
        found = [(places[name] + offset, by_key.get((encoder, name))) for _, name in lines]
        _marks(axes, [(at, record) for at, record in found if record is not None], rank, names[encoder])
    _backdrop(axes, lines, places)
    axes.set_yticks([places[name] for _, name in lines], [words[name] for _, name in lines], fontsize=8)
    axes.set_ylim(max(places.values()) + 0.6, min(places.values()) - 0.9)
    axes.set_xlabel(
        "change of the test loss, % of the loss on the original frames (95 % interval over scenes; logarithmic beyond 10 %)",
        fontsize=8,
    )
    axes.set_title(
        f"What a fixed probe of {chosen} loses when a cue is taken out of unseen frames", fontsize=10, loc="left"
    )
    if any(not record.decides for record in records):
        axes.annotate("* several cues change at once", (1.0, 1.0), xycoords="axes fraction", xytext=(0, 3),
                      textcoords="offset points", ha="right", va="bottom", fontsize=7, color="0.35")  # fmt: skip
    figure.legend(loc="outside lower center", ncols=min(len(encoders), 4), fontsize=8, frameon=False)
    return save(figure, path, dpi=130)


def _label(record: Cue) -> str:
    return f"{record.words}{'' if record.decides else ' *'}"


def _places(lines: Sequence[tuple[str, str]]) -> dict[str, float]:
    """Height of each line: one apart, and a gap before each group."""
    places: dict[str, float] = {}
    at, last = 0.0, lines[0][0]
    for group, name in lines:
        at += 0.7 if group != last else 0.0
        places[name], last = at, group
        at += 1
    return places


def _marks(axes: Axes, found: Sequence[tuple[float, Cue]], rank: int, label: str) -> None:
    """One encoder's changes; without an interval the mark stands alone."""
    x, y, below, above = [], [], [], []
    for at, record in found:
        unit = 100 / record.base_mse if record.base_mse else 0.0
        low = record.change if record.low is None else record.low
        high = record.change if record.high is None else record.high
        x.append(record.change * unit)
        y.append(at)
        below.append(max(record.change - low, 0) * unit)
        above.append(max(high - record.change, 0) * unit)
    axes.errorbar(
        x, y, xerr=[below, above], label=label, color=COLOURS[rank], fmt=MARKERS[rank], markersize=4, elinewidth=1.2
    )


def _backdrop(axes: Axes, lines: Sequence[tuple[str, str]], places: Mapping[str, float]) -> None:
    """Zero, a band and a name for each group, and a scale that shows small and large changes."""
    # Linear up to 10 %, logarithmic beyond: a cue may cost a hundredth of the loss, or many times the loss.
    axes.set_xscale("symlog", linthresh=10, linscale=1)
    least, most = axes.get_xlim()
    axes.set_xlim(min(least, -3), max(most, 20))
    ticks = (-1000, -100, -30, -10, -5, 0, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
    inside = [t for t in ticks if axes.get_xlim()[0] <= t <= axes.get_xlim()[1]]
    axes.set_xticks(inside, [f"{t:+d}" if t else "0" for t in inside], fontsize=8)
    axes.minorticks_off()
    axes.axvline(0, color="0.4", lw=1, zorder=0)
    axes.grid(axis="x", color="0.9", zorder=0)
    for index, group in enumerate(dict.fromkeys(group for group, _ in lines)):
        own = [places[name] for other, name in lines if other == group]
        axes.axhspan(min(own) - 0.65, max(own) + 0.55, color="0.96" if index % 2 else "0.985", zorder=-2)
        axes.annotate(
            group.upper(), (1.0, min(own) - 0.6), xycoords=("axes fraction", "data"), xytext=(-4, -1),
            textcoords="offset points", ha="right", va="top", fontsize=7, color="0.35", weight="bold",
        )  # fmt: skip
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
