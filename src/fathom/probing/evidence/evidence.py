"""`Evidence`: every number a probe run found, its interval and its circumstances; to JSON and back."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fathom.atomic import write_json
from fathom.errors import DataError

if TYPE_CHECKING:
    from rich.table import Table

    from fathom.probing.evidence.pictures import Picture
    from fathom.probing.saved import SavedProbes

STYLES = {"baseline": "dim", "random": "dim", "permuted": "dim", "upper_bound": "green"}
"""How a row of each role is printed; the encoders stand out."""

SCHEMA_VERSION = 1
"""Raised when a key of ``evidence.json`` changes its meaning; new keys do not raise it."""


@dataclass(frozen=True)
class Row:
    """One probe: an encoder's layer and a feature. Losses are in the square of the feature's unit.

    Attributes:
        encoder: the SPEC as given.
        layer: its name, or ``all`` for the concatenation.
        feature: what was probed for. unit: of it, empty if it has none.
        channels: columns of the probe, intercept not counted.
        penalty: λ, chosen by cross-validation over training scenes (key ``lambda`` in JSON).
        role: ``encoder``, ``baseline``, ``random`` or ``permuted`` (the same architecture without what was learned), or
            ``upper_bound`` (a supervised network).
        of: the encoder it is a control of. seed: of its weights. Both None where they mean nothing.
        chosen: whether this layer is the encoder's best by cross-validation; one of each encoder and feature.
        cv_mse: cross-validated on the training scenes. train_mse: in sample.
        test_mse: mean over the valid grid cells of the test frames, summed over outputs. test_rmse: its root.
        interval: 95 % interval of `test_mse` over scenes, or None with fewer scenes than it takes.
        ratio_to_pixels: `test_mse` over that of the null model ``pixels``, or None without it or where it knows all.
        r2: share of the variance around the training mean that is explained on the test frames.
        control_r2: the same for the control task (targets of other rooms); `r2` less this is the selectivity.
        abs_rel, delta1, rmse: full resolution, under the run's protocol; for depth features of chosen layers.
        accuracy, miou: for class features, of the largest output.
        bands: λ of each layer, where the joined layers have their own; `penalty` is then their geometric mean.
        parameters: of the head, where it is not linear.
        errors: Σ of squared errors in each test scene, in the order of `Evidence.test_scenes`.
        cells: valid cells in each test scene.
    """

    encoder: str
    layer: str
    feature: str
    channels: int
    penalty: float
    role: str
    chosen: bool
    cv_mse: float | None
    train_mse: float | None
    test_mse: float
    test_rmse: float
    interval: tuple[float, float] | None
    ratio_to_pixels: float | None
    r2: float | None
    errors: tuple[float, ...]
    cells: tuple[float, ...]
    of: str | None = None
    seed: int | None = None
    control_r2: float | None = None
    abs_rel: float | None = None
    delta1: float | None = None
    rmse: float | None = None
    accuracy: float | None = None
    miou: float | None = None
    bands: dict[str, float] | None = None
    parameters: int | None = None
    unit: str = ""

    def to_json(self) -> dict[str, Any]:
        record = asdict(self)
        record["lambda"] = record.pop("penalty")
        return record

    @staticmethod
    def from_json(record: dict[str, Any]) -> Row:
        known = {item.name for item in fields(Row)}
        values = {("penalty" if key == "lambda" else key): value for key, value in record.items()}
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        return Row(**{key: value for key, value in values.items() if key in known})


@dataclass
class Evidence:
    """What a probe run found.

    Attributes:
        rows: one for each encoder, layer and feature.
        data: ``train`` and ``test``, each with location, kind, part, frames, scenes and fingerprint.
        test_scenes: names, the order of `Row.errors`.
        protocol: name and one sentence of the full-resolution protocol.
        size, grid: input and probe grid, (height, width).
        settings: everything else that determined the numbers: seed, batch size, folds, penalties, interval method.
        versions: of fathom, torch, numpy and Python.
        command: that made it.
        notes: what a reader should know, such as frames left out.
        verdicts: see `fathom.probing.evidence.verdict`; empty where none was asked for.
        pictures: test frames with every encoder's prediction; not in the JSON.
        probes: the fitted linear probes, saved beside the JSON; see `fathom.probing.saved`.
        extra: keys of the JSON that this version does not know, kept.
    """

    rows: list[Row]
    data: dict[str, Any]
    test_scenes: tuple[str, ...]
    protocol: dict[str, str]
    size: tuple[int, int]
    grid: tuple[int, int]
    settings: dict[str, Any]
    versions: dict[str, str]
    command: str = ""
    notes: list[str] = field(default_factory=list)
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list, repr=False)
    probes: SavedProbes | None = field(default=None, repr=False)
    extra: dict[str, Any] = field(default_factory=dict)

    def row(self, encoder: str, feature: str = "depth", layer: str | None = None) -> Row:
        """The row of `encoder` at `layer`, or at its chosen layer."""
        for row in self.rows:
            if row.encoder == encoder and row.feature == feature and (row.layer == layer if layer else row.chosen):
                return row
        raise KeyError(f"no row for encoder {encoder}, feature {feature}, layer {layer or '(chosen)'}")

    @property
    def features(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row.feature for row in self.rows))

    @property
    def verdict(self) -> str | None:
        """Of the first encoder that has one; see `verdicts` for all."""
        return self.verdicts[0]["verdict"] if self.verdicts else None

    @property
    def share(self) -> float | None:
        """Share of the gap between best baseline and upper bound that the first encoder closes, where an upper bound is known."""
        return self.verdicts[0].get("share") if self.verdicts else None

    def to_json(self) -> dict[str, Any]:
        """The content of ``evidence.json``; keys are documented in docs/evidence.md."""
        return {
            "schema_version": SCHEMA_VERSION,
            "command": self.command,
            "versions": self.versions,
            "seed": self.settings.get("seed"),
            "data": self.data,
            "protocol": self.protocol,
            "size": list(self.size),
            "grid": list(self.grid),
            "settings": self.settings,
            "test_scenes": list(self.test_scenes),
            "rows": [_finite(row.to_json()) for row in self.rows],
            "verdicts": [_finite(verdict) for verdict in self.verdicts],
            "notes": self.notes,
            **_finite(self.extra),
        }

    def save(self, out: str | Path) -> Path:
        """Write ``evidence.json`` into folder `out`, whole or not at all, and the fitted probes beside it; returns its path."""
        path = Path(out) / "evidence.json"
        if self.probes is not None:
            self.probes.save(out)
        write_json(path, self.to_json())
        return path

    @staticmethod
    def load(path: str | Path) -> Evidence:
        """Read ``evidence.json`` (or the folder that holds it)."""
        path = Path(path)
        path = path / "evidence.json" if path.is_dir() else path
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError(path, "there is no evidence here", "name a folder that 'fathom probe' wrote") from None
        except (OSError, ValueError) as error:
            raise DataError(path, f"is not readable evidence ({error})", "run the probe again") from error
        if not isinstance(record, dict) or record.get("schema_version") != SCHEMA_VERSION:
            version = record.get("schema_version") if isinstance(record, dict) else None
            raise DataError(
                path,
                f"has schema version {version}, this fathom reads {SCHEMA_VERSION}",
                "run the probe again",
            )
        known = {
            "schema_version", "command", "versions", "seed", "data", "protocol", "size", "grid", "settings",
            "test_scenes", "rows", "verdicts", "notes",
        }  # fmt: skip
        return Evidence(
            rows=[Row.from_json(row) for row in record["rows"]],
            data=record["data"],
            test_scenes=tuple(record["test_scenes"]),
            protocol=record["protocol"],
            size=tuple(record["size"]),
            grid=tuple(record["grid"]),
            settings=record["settings"],
            versions=record["versions"],
            command=record["command"],
            notes=record["notes"],
            verdicts=record["verdicts"],
            extra={key: value for key, value in record.items() if key not in known},
        )

    def table(self, feature: str | None = None, layers: bool = False) -> Table:
        """The ladder: one line an encoder at its chosen layer (or one a layer), worst first."""
        from rich.table import Table

        name = feature or self.features[0]
        rows = [row for row in self.rows if row.feature == name and (layers or row.chosen)]
        depth = any(row.abs_rel is not None for row in rows)
        classes = any(row.miou is not None for row in rows)
        unit = f" ({rows[0].unit})" if rows and rows[0].unit else ""
        title = (
            f"{name}{unit}: test loss on a {self.grid[0]}x{self.grid[1]} grid, {len(self.test_scenes)} unseen scenes"
        )
        table = Table(title=title, title_justify="left", caption=self._caption(depth), caption_justify="left")
        table.add_column("encoder", overflow="fold")
        table.add_column("layer")
        heads = ["channels", "λ", "MSE", "95 % interval", "RMSE", "/ pixels", "R²"]
        for head in heads + (["AbsRel", "δ1"] if depth else []) + (["accuracy", "mIoU"] if classes else []):
            table.add_column(head, justify="right")
        for group in _by_seed(sorted(rows, key=lambda row: -row.test_mse)):
            table.add_row(*_cells(group, layers, depth, classes), style=STYLES.get(group[0].role))
        return table

    def _caption(self, depth: bool) -> str:
        method = self.settings.get("interval_method", "")
        words = f"λ and layer chosen by cross-validation over training scenes; intervals over test scenes ({method})."
        if depth:
            words += f" AbsRel and δ1 at full resolution, protocol {self.protocol['name']}."
        return words


def _by_seed(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows of the same control that differ in the seed of the weights alone, together, where the first of them stands."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        alone = () if row.role == "random" and row.chosen else (row.layer, str(row.seed))
        groups.setdefault((row.encoder, *alone), []).append(row)
    return list(groups.values())


def _cells(group: Sequence[Row], layers: bool, depth: bool, classes: bool) -> list[str]:
    """One line of the table; of several seeds the means, and their range in place of the interval."""
    from fathom.encoders.spec import short_name

    row, seeds = group[0], len(group)

    def mean(name: str) -> float | None:
        values = [getattr(item, name) for item in group]
        return None if None in values else math.fsum(values) / seeds

    mse = [item.test_mse for item in group]
    interval = f"{row.interval[0]:.4g} – {row.interval[1]:.4g}" if row.interval else "too few scenes"
    if seeds > 1:
        interval = f"{seeds} seeds: {min(mse):.4g} – {max(mse):.4g}"
    chosen = list(dict.fromkeys(item.layer for item in group))
    loss = math.fsum(mse) / seeds
    cells = [
        short_name(row.encoder, 32),
        "/".join(chosen) + ("*" if layers and row.chosen else ""),
        str(row.channels),
        f"{row.penalty:.0e}" if row.channels and row.penalty and seeds == 1 else "",
        f"{loss:.4g}",
        interval,
        f"{loss**0.5:.4g}",
        _number(mean("ratio_to_pixels"), 3),
        _number(mean("r2"), 3),
    ]
    cells += [_number(mean("abs_rel"), 3), _number(mean("delta1"), 3)] if depth else []
    return cells + ([_number(mean("accuracy"), 3), _number(mean("miou"), 3)] if classes else [])


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _finite(value: Any) -> Any:
    """JSON has no NaN: what is not finite becomes null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(item) for item in value]
    return value
