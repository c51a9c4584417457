"""`Evidence`: every number a probe run found, its interval and its circumstances; to JSON and back."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from fathom.errors import DataError, FathomError, MissingExtraError, UsageError
from fathom.files.atomic import write_json
from fathom.files.inputs import exists, read_json
from fathom.probing.evidence.pictures import Picture
from fathom.probing.evidence.records import (
    Cue,
    Data,
    EncoderRecord,
    FeatureRecord,
    Information,
    LabelCurveRecord,
    ProtocolRecord,
    Row,
    TrainingLossCheck,
    VerdictRecord,
)
from fathom.probing.saved.probes import SavedProbes
from fathom.probing.settings import ProbeSettings
from fathom.progress import count
from fathom.sample import Grid

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

SCHEMA_VERSION = 3
"""Raised when a key of ``evidence.json`` changes its meaning or goes; new keys do not raise it."""

FILE = "evidence.json"

WIDTH = 140
"""Columns of a table in a notebook."""


@dataclass(kw_only=True, repr=False)
class Evidence:
    """What a probe run found. The attributes are the keys of ``evidence.json``; docs/evidence.md explains them.

    Two more are not in the JSON: `pictures`, test frames with every encoder's prediction, and `probes`, the fitted linear probes,
    which are saved beside it.

    Attributes:
        schema_version: of the file.
        command: that made it, or the call from Python.
        versions: of fathom, torch, numpy and Python.
        data: the training and the test frames.
        protocol: of the full-resolution metrics.
        settings: of the run, with size and grid as they were.
        interval_method: of all intervals.
        encoders: the participants, with digests of their weights.
        targets: the features.
        test_scenes: names, the order of `Row.errors`.
        rows: one for each encoder, layer and feature.
        verdicts: one for each encoder and feature. layer_verdicts: one for each layer too, where that was asked for.
        information: what the losses mean in bits. label_curves: loss against the number of training scenes.
        training_loss_check: losses of the probes on some training frames, computed directly.
        cues: change of loss on altered test images. cue_sentences: for each encoder, what its probe relies on.
        notes: what a reader should know, such as frames left out.
    """

    schema_version: int = SCHEMA_VERSION
    command: str
    versions: dict[str, str]
    data: Data
    protocol: ProtocolRecord
    settings: ProbeSettings
    interval_method: str
    encoders: tuple[EncoderRecord, ...]
    targets: tuple[FeatureRecord, ...]
    test_scenes: tuple[str, ...]
    rows: tuple[Row, ...]
    verdicts: tuple[VerdictRecord, ...]
    layer_verdicts: tuple[VerdictRecord, ...] = ()
    information: tuple[Information, ...] = ()
    label_curves: tuple[LabelCurveRecord, ...] = ()
    training_loss_check: TrainingLossCheck | None = None
    cues: tuple[Cue, ...] = ()
    cue_sentences: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.pictures: list[Picture] = []
        self.probes: SavedProbes | None = None

    def row(self, encoder: str, feature: str = "depth", layer: str | None = None) -> Row:
        """The row of `encoder` at `layer`, or at its chosen layer."""
        for row in self.rows:
            if row.encoder == encoder and row.feature == feature and (row.layer == layer if layer else row.chosen):
                return row
        raise KeyError(f"no row for encoder {encoder}, feature {feature}, layer {layer or '(chosen)'}")

    @property
    def features(self) -> tuple[str, ...]:
        """Names, in the order of the rows."""
        return tuple(dict.fromkeys(row.feature for row in self.rows))

    @property
    def size(self) -> Grid:
        """Input (height, width)."""
        return self.settings.input_size

    @property
    def grid(self) -> Grid:
        """The probe's grid, (height, width)."""
        return self.settings.cells

    @property
    def verdict(self) -> str | None:
        """Of the first encoder that has one; see `verdicts` for all."""
        return self.verdicts[0].verdict if self.verdicts else None

    @property
    def gap_closed(self) -> float | None:
        """Fraction of the gap from reference baseline to upper bound that the first encoder closes, where it is known."""
        closed = self.verdicts[0].gap_closed if self.verdicts else None
        return None if closed is None else closed.estimate

    def specs(self) -> list[str]:
        """The encoders as ``fathom probe`` takes them, SPEC or NAME=SPEC; `UsageError` where one was given in memory."""
        found = []
        for item in self.encoders:
            if item.role == "encoder":
                if item.spec is None:
                    raise UsageError(f"Encoder {item.encoder} was given in memory; name it with --encoder.")
                found.append(item.spec if item.spec == item.encoder else f"{item.encoder}={item.spec}")
        return found

    def feature_specs(self) -> list[str]:
        """The features as ``fathom probe`` takes them; `UsageError` where one was given in memory."""
        for item in self.targets:
            if item.spec is None:
                raise UsageError(f"Feature {item.feature} was given in memory; name it with --feature.")
        return [str(item.spec) for item in self.targets]

    @property
    def upper_bound(self) -> str | None:
        """The supervised depth model that took part, if one did."""
        rows = (row.encoder for row in self.rows if row.role == "upper_bound")
        return next((name.removeprefix("upper-bound:") for name in rows), None)

    def to_json(self) -> dict[str, Any]:
        """The content of ``evidence.json``."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found

    def save(self, out: str | Path) -> Path:
        """Write ``evidence.json`` into folder `out`, whole or not at all, and the fitted probes beside it; returns its path."""
        path = Path(out) / FILE
        if self.probes is not None:
            self.probes.save(out)
        write_json(path, self.to_json(), checksum=True)
        return path

    @staticmethod
    def load(path: str | Path) -> Evidence:
        """Read ``evidence.json`` (or the folder that holds it).

        Raises:
            DataError: there is none, or it is of another version or shape.
        """
        path = Path(path)
        path = path / FILE if path.is_dir() else path
        if not exists(path):
            raise DataError(path, "there is no evidence here", "name a folder that 'fathom probe' wrote")
        return read_evidence(path)

    def table(self, feature: str | None = None, layers: bool = False) -> Table:
        """The ladder: one line an encoder at its chosen layer (or one a layer), worst first."""
        from fathom.probing.evidence.table import ladder_table

        return ladder_table(self, feature or self.features[0], layers)

    def to_frame(self) -> pd.DataFrame:
        """The rows as a pandas data frame, without the errors by scene; needs the extra ``[frame]``."""
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingExtraError("Evidence.to_frame()", "frame") from error
        records = [
            {key: value for key, value in asdict(row).items() if key not in ("errors", "cells", "interval")}
            | {"low": row.interval[0] if row.interval else None, "high": row.interval[1] if row.interval else None}
            for row in self.rows
        ]
        return pd.DataFrame(records)

    def __repr__(self) -> str:
        roles = [item.role for item in self.encoders]
        found = ", ".join(f"{item.feature} in {item.encoder}: {item.verdict}" for item in self.verdicts[:3])
        more = f" and {len(self.verdicts) - 3} more" if len(self.verdicts) > 3 else ""
        return (
            f"<Evidence: {', '.join(self.features)}; {count(roles.count('encoder'), 'encoder')} and "
            f"{count(roles.count('baseline'), 'baseline')} on {count(len(self.test_scenes), 'test scene')}; {found or 'no verdict'}{more}>"
        )

    def _repr_html_(self) -> str:
        """For notebooks: the table of each feature, and the verdicts."""
        from rich.console import Console
        from rich.text import Text

        screen = Console(file=io.StringIO(), record=True, width=WIDTH)
        for feature in self.features:
            screen.print(self.table(feature))
        for verdict in self.verdicts:
            screen.print(Text(f"{verdict.verdict}: {verdict.sentence}"))
        return screen.export_html(inline_styles=True, code_format="<pre>{code}</pre>")


def read_evidence(path: Path) -> Evidence:
    """The evidence in a file; `DataError` where it is of another version or shape, or not what was written."""
    again = "run the probe again"
    try:
        found = read_json(
            path, Evidence, what="evidence of a probe run", fix=again, version=SCHEMA_VERSION, checksum=True
        )
    except DataError:
        raise
    except FathomError as error:
        raise DataError(path, f"has settings that cannot be ({error})", again) from error
    for row in found.rows:
        if not len(row.errors) == len(row.cells) == len(found.test_scenes):
            raise DataError(
                path, f"has {len(row.errors)} errors of {row.encoder} for {len(found.test_scenes)} scenes", again
            )
    return found
