"""The tables of the report as HTML: every row of the evidence, the verdicts' numbers, the circumstances."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from html import escape
from typing import TYPE_CHECKING, Any

from fathom.probing.evidence.records import Estimate

if TYPE_CHECKING:
    from fathom.probing.evidence.evidence import Evidence
    from fathom.probing.evidence.ranking import Ranking
    from fathom.probing.evidence.records import Row

Names = Mapping[str, str]


def table(heads: Sequence[str], lines: Sequence[tuple[str, Sequence[str]]]) -> str:
    """A table that scrolls by itself; `lines` are (class, cells), and cells are HTML already. Empty columns are left out."""
    kept = [index for index in range(len(heads)) if any(cells[index] for _, cells in lines)]
    heads, lines = [heads[i] for i in kept], [(kind, [cells[i] for i in kept]) for kind, cells in lines]
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(
        f'<tr class="{escape(kind)}">{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>\n' for kind, cells in lines
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>\n'


def rows_table(evidence: Evidence, feature: str, names: Names) -> str:
    """Every encoder at every layer, the worst first; chosen layers have a star."""
    rows = sorted((row for row in evidence.rows if row.feature == feature), key=lambda row: -row.test_mse)
    lines = [
        (row.role, [_named(row.encoder, names), _layer(row), *(escape(cell(row)) for _, cell in _CELLS)])
        for row in rows
    ]
    heads = ["encoder", "layer", *(head for head, _ in _CELLS)]
    words = "* chosen by cross-validation over training scenes. MSE on the probe's grid; of pixels': its ratio to the null model's."
    if any(row.abs_rel is not None for row in rows):
        words += " AbsRel, δ1 and full RMSE at full resolution, under the protocol below."
    return f'{table(heads, lines)}<p class="muted">{words}</p>\n'


def verdicts_table(evidence: Evidence, names: Names) -> str:
    """The numbers behind the verdicts."""
    lines = [
        (
            "encoder",
            [
                _named(item.encoder, names),
                escape(item.feature),
                escape(item.verdict),
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
    return table(heads, lines) if lines else ""


def ranking_table(ranking: Ranking, names: Names) -> str:
    """The places, then every pair."""
    places = [
        (item.role, [str(place), _named(item.encoder, names), escape(item.layer), _number(item.mse), escape(letters)])
        for place, (item, letters) in enumerate(zip(ranking.places, ranking.letters, strict=True), 1)
    ]
    pairs = [
        (
            "encoder",
            [
                _named(pair.against.encoder, names),
                _named(pair.measurement.encoder, names),
                _interval(Estimate.of(pair.difference)),
                _p(pair.p_holm),
            ],
        )
        for pair in ranking.pairs
    ]
    heads = ("better", "worse", "loss of the worse − loss of the better", "p (Holm)")
    return table(("place", "encoder", "layer", "MSE", "group"), places) + table(heads, pairs)


def information_table(evidence: Evidence, names: Names) -> str:
    """What the run says in bits; empty where it says nothing."""
    lines = []
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
            lines.append(("", [_named(item.encoder, names), escape(item.feature), escape(item.layer), *cells]))
    heads = (
        "encoder", "feature", "layer", "R²", "V-information", "beyond the baseline", "which baseline", "saved by the code",
        "code a cell", "noted to",
    )  # fmt: skip
    return table(heads, lines) if lines else ""


def facts_list(evidence: Evidence, names: Names) -> str:
    """Protocol, data with fingerprints, settings, versions and the command."""
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
    items = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>\n" for key, value in facts)
    long = [spec for spec in dict.fromkeys(row.encoder for row in evidence.rows) if names[spec] != spec]
    full = "".join(f"<dt>{escape(names[spec])}</dt><dd><code>{escape(spec)}</code></dd>\n" for spec in long)
    command = f"<dt>command</dt><dd><code>{escape(evidence.command or 'made from Python')}</code></dd>\n"
    return f"<dl>{items}{command}</dl>\n" + (f"<h3>Encoders in full</h3>\n<dl>{full}</dl>\n" if full else "")


def _layer(row: Row) -> str:
    return escape(row.layer) + ("*" if row.chosen else "")


def _named(spec: str, names: Names) -> str:
    name = names.get(spec, spec)
    return f'<span title="{escape(spec)}">{escape(name)}</span>' if name != spec else escape(name)


def _number(value: float | None, form: str = ".4g") -> str:
    return "" if value is None else format(value, form)


_CELLS: tuple[tuple[str, Callable[[Row], str]], ...] = (
    ("role", lambda row: "" if row.role == "encoder" else row.role),
    ("seed", lambda row: "" if row.seed is None else str(row.seed)),
    ("MSE", lambda row: _number(row.test_mse)),
    ("95 % interval", lambda row: f"{row.interval[0]:.4g} to {row.interval[1]:.4g}" if row.interval else ""),
    ("RMSE", lambda row: _number(row.test_rmse)),
    ("of pixels'", lambda row: _number(row.ratio_to_pixels, ".4g")),
    ("R²", lambda row: _number(row.r2, ".3f")),
    ("AbsRel", lambda row: _number(row.abs_rel, ".3f")),
    ("δ1", lambda row: _number(row.delta1, ".3f")),
    ("full RMSE", lambda row: _number(row.rmse, ".3f")),
    ("accuracy", lambda row: _number(row.accuracy, ".3f")),
    ("mIoU", lambda row: _number(row.miou, ".3f")),
    ("R², control", lambda row: _number(row.control_r2, ".3f")),
    ("CV MSE", lambda row: _number(row.cv_mse)),
    ("channels", lambda row: str(row.channels)),
    ("λ", lambda row: f"{row.penalty:.0e}" if row.channels and row.penalty else ""),
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
    return f"{100 * value:.1f}" if abs(value) < 100 else f"{100 * value:.2g}"


def _interval(found: Estimate | None) -> str:
    if found is None or found.estimate is None:
        return ""
    words = f"{found.estimate:.3f}"
    return words if found.low is None or found.high is None else f"{words} ({found.low:.3f} to {found.high:.3f})"


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
