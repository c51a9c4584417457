"""The folder of a probe run: held while the run writes there, and everything that a colleague needs to repeat it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from fathom.data.dataset import Dataset
from fathom.data.splits import save_split
from fathom.errors import UsageError
from fathom.files.lock import output_lock
from fathom.probing import processes
from fathom.probing.evidence.evidence import FILE, Evidence
from fathom.probing.passes.checkpoint import kept, remove_checkpoints
from fathom.progress import note

PAGES = ("fathom.report.probe.draw:draw", "fathom.report.paper.methods:write_methods")
"""What upper packages write beside the evidence, by name since they stand above this one: from (evidence, folder) to files."""


@contextmanager
def run_folder(out: Path, overwrite: bool) -> Iterator[None]:
    """Hold `out` for one run; says what an interrupted one leaves there.

    Raises `UsageError` where it holds a run already, or another run is writing there.
    """
    if (out / FILE).exists() and not overwrite:
        raise UsageError(f"{out} holds a run already; choose another folder, or say overwrite=True to replace it.")
    # Of several processes the first holds the folder.
    with output_lock(out, "a probe run") if processes.number() == 0 else nullcontext():
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            if found := kept(out):
                note(f"The sums of the training frames are in {found}: the same command continues from there.")
            raise


def save_run(evidence: Evidence, out: Path, train: Dataset, test: Dataset) -> list[Path]:
    """Write pages, split, probes and evidence of a run; returns the files to name.

    The evidence comes last: where it stands the folder is complete, and an interrupted run has none.
    """
    if processes.number() > 0:
        return []
    written: list[Path] = []
    if test.source is train.source:
        save_split(out / "split.json", {"train": train, "test": test}, evidence.settings.seed)
    for name in PAGES:
        module, _, function = name.partition(":")
        written += getattr(importlib.import_module(module), function)(evidence, out)
    written.insert(0, evidence.save(out))
    remove_checkpoints(out)
    return written
