"""The tables of the report as text: every row of the evidence, the verdicts' numbers, the circumstances."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from fathom.probing.evidence.records import Estimate
from fathom.report.plotly import decimals, number, with_interval

if TYPE_CHECKING:
    from fathom.probing.evidence.comparison.ranking import Ranking
    from fathom.probing.evidence.evidence import Evidence
    from fathom.probing.evidence.records import Row

Names = Mapping[str, str]


@dataclass(frozen=True)
class Cell:
    """Text of a table's cell, and in full what it shortens."""

    text: str
    title: str = ""


@dataclass(frozen=True)
class Line:
    """A line of a table, drawn in the way of a role."""

    role: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """Heads, lines, and a sentence below."""

    heads: tuple[str, ...]
    lines: tuple[Line, ...]
    words: str = ""


def table(heads: Sequence[str], lines: Sequence[tuple[str, Sequence[str | Cell]]], words: str = "") -> Table:
    """A table of (role, cells); columns without any text are left out."""
    made = [(role, [Cell(cell) if isinstance(cell, str) else cell for cell in cells]) for role, cells in lines]
    kept = [index for index in range(len(heads)) if any(cells[index].text for _, cells in made)]
    return Table(
        tuple(heads[index] for index in kept),
        tuple(Line(role, tuple(cells[index] for index in kept)) for role, cells in made),
        words,
    )


def rows_table(evidence: Evidence, feature: str, names: Names) -> Table:
    """Every encoder at every layer, the worst first; chosen layers have a star."""
    rows = sorted((row for row in evidence.rows if row.feature == feature), key=lambda row: -row.test_mse)
    form = decimals(row.test_mse for row in rows)
    lines: list[tuple[str, list[str | Cell]]] = [
        (row.role, [_named(row.encoder, names), _layer(row), *(cell(row, form) for _, cell in _CELLS)]) for row in rows
    ]
    heads = ["encoder", "layer", *(head for head, _ in _CELLS)]
    words = "* layer chosen by cross-validation over training scenes. MSE is on the probe's grid; 'of pixels' is its ratio to the MSE of pixels."
    if any(row.abs_rel is not None for row in rows):
        words += " AbsRel, δ1 and full RMSE are at full resolution, under the protocol below."
    return table(heads, lines, words)


def verdicts_table(evidence: Evidence, names: Names) -> Table:
    """The numbers behind the verdicts."""
    lines: list[tuple[str, list[str | Cell]]] = [
        (
            "encoder",
            [
                _named(item.encoder, names),
                item.feature,
                item.verdict,
                _named(item.baseline, names),
                _percent(item.relative_gain),
                _percent(item.gap_closed),
                _interval(item.selectivity),
                _p(item.p_implicit),
                _p(item.p_absent),
            ],
        )
        for item in evidence.verdicts
    ]
    heads = (
        "encoder", "feature", "verdict", "reference baseline", "loss removed", "fraction of the gap closed",
        "selectivity", "p implicit", "p absent",
    )  # fmt: skip
    return table(heads, lines)


def layer_verdicts_table(evidence: Evidence, names: Names) -> Table:
    """The verdict on every layer; without lines where it was not asked for."""
    lines: list[tuple[str, list[str | Cell]]] = [
        (
            "encoder",
            [
                _named(item.encoder, names),
                item.feature,
                str(item.layer),
                item.verdict,
                _percent(item.relative_gain),
                _interval(item.selectivity),
                _p(item.p_implicit),
                _p(item.p_absent),
            ],
        )
        for item in evidence.layer_verdicts
    ]
    heads = ("encoder", "feature", "layer", "verdict", "loss removed", "selectivity", "p implicit", "p absent")
    return table(heads, lines)


def ranking_tables(ranking: Ranking, names: Names) -> tuple[Table, Table]:
    """The places, and every pair."""
    form = decimals(item.mse for item in ranking.places)
    places: list[tuple[str, list[str | Cell]]] = [
        (item.role, [str(place), _named(item.encoder, names), item.layer, _number(item.mse, form), letters])
        for place, (item, letters) in enumerate(zip(ranking.places, ranking.letters, strict=True), 1)
    ]
    pairs: list[tuple[str, list[str | Cell]]] = [
        (
            "encoder",
            [
                _named(pair.against.encoder, names),
                _named(pair.measurement.encoder, names),
                f"{pair.difference:+.4g}",
                _percent(Estimate.of(pair.relative)),
                _p(pair.p_holm),
            ],
        )
        for pair in ranking.pairs
    ]
    heads = ("better", "worse", "loss of the worse − loss of the better", "in % of the better", "p (Holm)")
    return table(("place", "encoder", "layer", "MSE", "group"), places), table(heads, pairs)


def information_table(evidence: Evidence, names: Names) -> Table:
    """What the run's losses mean in bits; without lines where it has none."""
    lines: list[tuple[str, list[str | Cell]]] = []
    for item in evidence.information:
        cells = [
            _interval(item.r2),
            _interval(item.v_information),
            _interval(item.beyond),
            _named(item.baseline, names) if item.baseline else "",
            _number(item.code.saved_per_cell, ".3f") if item.code else "",
            _number(item.code.bits_per_cell, ".3f") if item.code else "",
            _number(item.code.resolution, "g") if item.code else "",
        ]
        if any(cells):
            lines.append(("", [_named(item.encoder, names), item.feature, item.layer, *cells]))
    heads = (
        "encoder", "feature", "layer", "R²", "V-information", "beyond the baseline", "which baseline", "saved by the code",
        "code per cell", "resolution",
    )  # fmt: skip
    return table(heads, lines)


def circumstances(evidence: Evidence) -> list[tuple[str, str]]:
    """Protocol, data with fingerprints, settings and versions."""
    facts: list[tuple[str, str]] = [
        ("protocol", f"{evidence.protocol.name}: {evidence.protocol.description}"),
        ("input, grid", f"{_size(evidence.size)} pixels, {_size(evidence.grid)} cells (height x width)"),
    ]
    for part, data in (("train", evidence.data.train), ("test", evidence.data.test)):
        facts.append(
            (
                f"{part} data",
                f"{data.location} ({data.kind}, {data.part}): {data.frames} frames of {data.scenes} scenes, "
                f"fingerprint {data.fingerprint}",
            )
        )
    facts += [(f"source: {key}", value) for key, value in evidence.data.test.facts.items()]
    settings = {
        key: value for key, value in asdict(evidence.settings).items() if key not in ("size", "grid", "protocol")
    }
    facts += [(key.replace("_", " "), _shown(value)) for key, value in settings.items()]
    facts.append(("intervals", evidence.interval_method))
    facts.append(("versions", ", ".join(f"{key} {value}" for key, value in evidence.versions.items())))
    return facts


def encoders_table(evidence: Evidence, names: Names) -> list[tuple[str, list[str]]]:
    """Of every encoder its name on the page, and in full its SPEC, layers, and what identifies its weights and code."""
    listed = []
    for item in evidence.encoders:
        if item.role not in ("encoder", "upper_bound"):
            continue
        facts = [item.spec or item.encoder, f"layers {', '.join(item.layers)}"]
        known = (("weights SHA-256", item.weights), ("code SHA-256", item.code), ("revision", item.revision),
                 ("licence", item.licence))  # fmt: skip
        facts += [f"{what} {value}" for what, value in known if value]
        listed.append((names.get(item.encoder, item.encoder), facts))
    return listed


def _layer(row: Row) -> str:
    return row.layer + ("*" if row.chosen else "")


def _named(spec: str, names: Names) -> Cell:
    name = names.get(spec, spec)
    return Cell(name, spec if name != spec else "")


def _number(value: float | None, form: str) -> str:
    return "" if value is None else number(value, form)


_CELLS: tuple[tuple[str, Callable[[Row, str], str]], ...] = (
    ("role", lambda row, form: "" if row.role == "encoder" else row.role),
    ("seed", lambda row, form: "" if row.seed is None else str(row.seed)),
    ("MSE", lambda row, form: _number(row.test_mse, form)),
    ("95 % interval", lambda row, form: " to ".join(_number(end, form) for end in row.interval or ())),
    ("RMSE", lambda row, form: _number(row.test_rmse, form)),
    ("of pixels", lambda row, form: _number(row.ratio_to_pixels, ".3f")),
    ("R²", lambda row, form: _number(row.r2, ".3f")),
    ("AbsRel", lambda row, form: _number(row.abs_rel, ".3f")),
    ("δ1", lambda row, form: _number(row.delta1, ".3f")),
    ("full RMSE", lambda row, form: _number(row.rmse, ".3f")),
    ("accuracy", lambda row, form: _number(row.accuracy, ".3f")),
    ("mIoU", lambda row, form: _number(row.miou, ".3f")),
    ("IoU", lambda row, form: _number(row.iou, ".3f")),
    ("mean °", lambda row, form: _number(row.angle_mean, ".2f")),
    ("median °", lambda row, form: _number(row.angle_median, ".2f")),
    ("< 11.25°", lambda row, form: _number(row.angle_11, ".3f")),
    ("< 22.5°", lambda row, form: _number(row.angle_22, ".3f")),
    ("< 30°", lambda row, form: _number(row.angle_30, ".3f")),
    ("R², control", lambda row, form: _number(row.control_r2, ".3f")),
    ("CV MSE", lambda row, form: _number(row.cv_mse, form)),
    ("channels", lambda row, form: str(row.channels)),
    ("λ", lambda row, form: f"{row.penalty:.0e}" if row.channels and row.penalty else ""),
)
"""(head, what of a row) in the order of columns."""


def _percent(found: Estimate | None) -> str:
    if found is None or found.estimate is None:
        return ""
    words = f"{_hundredths(found.estimate)} %"
    if found.low is None or found.high is None:
        return words
    return f"{words} ({_hundredths(found.low)} to {_hundredths(found.high)})"


def _hundredths(value: float) -> str:
    return number(100 * value, ".1f" if abs(value) < 100 else ".2g")


def _interval(found: Estimate | None) -> str:
    if found is None or found.estimate is None:
        return ""
    ends = None if found.low is None or found.high is None else (found.low, found.high)
    return with_interval(found.estimate, ends, ".3f")


def _p(value: float | None) -> str:
    return "" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(_shown(item) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_shown(item)}" for key, item in value.items())
    return str(value)


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
