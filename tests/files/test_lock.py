"""One run at a time in an output folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fathom.errors import UsageError
from fathom.files.lock import NAME, output_lock

HOLD = """
import sys, time
from fathom.files.lock import output_lock
with output_lock(sys.argv[1], "a training"):
    print("held", flush=True)
    time.sleep(60)
"""


def held_elsewhere(folder: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock of `folder`."""
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    return other


def test_the_second_run_is_told_who_is_there_and_a_killed_owner_holds_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    other = held_elsewhere(folder)
    try:
        with pytest.raises(
            UsageError, match=rf"a training \(process {other.pid} on .*, since 20.*choose another --out"
        ):
            output_lock(folder, "an export").__enter__()
    finally:
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert json.loads((folder / NAME).read_text())["pid"] == other.pid  # the stale file of the killed process
    (folder / ".a.7-00.part.png").write_text("half")
    with output_lock(folder, "an export"):
        assert json.loads((folder / NAME).read_text())["pid"] == os.getpid()
        assert [path.name for path in folder.iterdir()] == [NAME], "what the killed process left half-written is gone"
        with pytest.raises(UsageError, match="another run of this process"):
            output_lock(tmp_path / "." / "run", "a second thread").__enter__()
    assert not list(folder.iterdir()) if folder.exists() else True


def test_a_run_that_writes_nothing_leaves_no_folder_and_an_older_one_stays(tmp_path: Path) -> None:
    with pytest.raises(ValueError), output_lock(tmp_path / "a" / "b", "a run"):
        raise ValueError
    assert not (tmp_path / "a").exists()
    (tmp_path / "old").mkdir()
    with output_lock(tmp_path / "old", "a run"):
        pass
    assert (tmp_path / "old").is_dir()
