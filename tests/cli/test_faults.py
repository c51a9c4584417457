"""Faults that a stranger found once, as a user meets them: each by the command line alone."""

from __future__ import annotations

import json
import os
import struct
import sys
import zipfile
from collections.abc import Callable
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from fathom.cli.main import main, run
from fathom.data.sources import load
from fathom.data.splits import load_split
from fathom.errors import DataError
from tests.data.files import counts, diode, nyu_mat, pairs, picture, r3d

MM = "?depth-scale=1000"


def refused(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 1) -> str:
    """Run a command that must fail in one sentence; returns it."""
    assert main([str(argument) for argument in arguments]) == code
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith("error: ") and "Traceback" not in said
    return said.splitlines()[-1]


def test_a_device_and_a_symlink_are_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, real, link = f"{pairs(tmp_path / 'd', 1)}{MM}", tmp_path / "real.json", tmp_path / "link.json"
    link.symlink_to(real)
    master, slave = os.openpty()  # a device that a faulty writer cannot replace
    assert main(["data", "check", data, "-q", "--json", os.ttyname(slave)]) == 0
    assert Path(os.ttyname(slave)).is_char_device() and b"problems" in os.read(master, 10_000)
    assert main(["data", "check", data, "-q", "--json", str(link)]) == 0
    assert link.is_symlink() and "problems" in json.loads(real.read_text())


def test_a_split_that_lists_a_frame_or_a_scene_twice_is_refused(tmp_path: Path) -> None:
    data, file = f"{pairs(tmp_path / 'd', 3)}{MM}", tmp_path / "split.json"
    assert main(["data", "split", data, "-o", str(file), "-q"]) == 0
    whole = json.loads(file.read_text())
    del whole["checksum"]  # as one made by hand
    for change, words in (
        (lambda parts: parts["test"]["ids"].append(parts["test"]["ids"][0]), "twice"),
        (lambda parts: parts["test"]["ids"].append(parts["train"]["ids"][0]), "a split is by scene"),
        (lambda parts: parts["test"].update(ids=[["a"]]), "is not a split"),
        (lambda parts: parts["test"].update(ids="abc"), "is not a split"),
    ):
        record = json.loads(json.dumps(whole))
        change(record["parts"])
        file.write_text(json.dumps(record))
        with pytest.raises(DataError, match=words):
            load_split(file, load(data))


@pytest.mark.parametrize("numbers", ["nan,1,1,1", "1,inf,1,1", "0,1,1,1", "-5,1,1,1"])
def test_cameras_that_cannot_be_are_refused(numbers: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, "data", "check", f"{pairs(tmp_path / 'd', 1)}{MM}&intrinsics={numbers}", "-q", code=2)


def captured(path: Path, change: dict[str, Any]) -> Path:
    """A capture whose metadata are changed."""
    r3d(path, 2)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["metadata"] = json.dumps({**json.loads(members["metadata"]), **change}).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize(
    "change",
    [
        {"K": [float("nan")] * 9}, {"K": [0.0] * 9}, {"K": [-20.0, 0, 0, 0, 21, 0, 12, 16, 1]}, {"K": [1e400] * 9},
        {"poses": [[0, 0, 0, 0, 0, 0, 0]] * 2}, {"poses": [[float("inf")] * 7] * 2}, {"dw": -6, "dh": -8}, {"w": 0},
    ],
    ids=str,
)  # fmt: skip
def test_captures_with_metadata_that_cannot_be_are_refused(
    change: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(capsys, "data", "export", captured(tmp_path / "a.r3d", change), "-o", tmp_path / "out", "-q")


def test_captures_with_a_name_of_5000_digits_and_folders_called_as_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    r3d(tmp_path / "a.r3d", 2)
    with zipfile.ZipFile(tmp_path / "a.r3d", "a") as archive:
        archive.writestr(f"rgbd/{'9' * 5000}.depth", b"")
    (tmp_path / "b.r3d").mkdir()
    assert main(["data", "check", str(tmp_path), "-q"]) == 0


HEADERS = (
    "{'descr': '<f4', 'fortran_order': False, 'shape': (12, 16), } extra", "{'descr': '<f2', 'fortran_order': False, 'shape': (12, 16), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (12, 15), }", "\t{'descr'", "  {\n 'descr': '<f4'", "{'descr': '<f4', 'shape': (10**9,)}",
    "(" * 3000, "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999, 16), }", "{'descr': '|O', 'fortran_order': False, 'shape': (12, 16), }",
    "{'descr': '|S9', 'fortran_order': False, 'shape': (12, 16), }", "'", "\x00", "{'descr': '<f4', 'fortran_order': __import__('os').abort(), 'shape': (1,), }",
)  # fmt: skip


@pytest.mark.parametrize("header", HEADERS)
def test_numpy_headers_that_lie_are_one_sentence(
    header: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture(tmp_path / "d" / "rgb" / "a.png")
    file = tmp_path / "d" / "depth" / "a.npy"
    file.parent.mkdir()
    text = header.encode("latin-1").ljust(117) + b"\n"
    file.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + np.ones(192, "<f4").tobytes())
    said = refused(capsys, "data", "export", tmp_path / "d", "-o", tmp_path / "out", "-q")
    assert str(file) in said


def test_numpy_files_with_bytes_beyond_the_array_and_masks_of_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    diode(tmp_path / "d")
    mask = min((tmp_path / "d").rglob("*_depth_mask.npy"))
    whole = mask.read_bytes()
    for content in (whole + b"x", whole[:-1]):
        mask.write_bytes(content)
        assert str(mask) in refused(capsys, "data", "export", tmp_path / "d", "-o", tmp_path / "out", "-q")
    np.save(mask, np.full((12, 16), "far"))
    assert str(mask) in refused(capsys, "data", "export", tmp_path / "d", "-o", tmp_path / "out", "-q")


def test_damaged_splits_of_nyu_do_not_crash_the_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nyu_mat(tmp_path / "nyu_depth_v2_labeled.mat", 2, 24, 32)
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    for body in (b"", b"\xff" * 64, struct.pack("<II", 14, 2**31) + b"\0" * 40, struct.pack("<II", 15, 9) + b"\0" * 9):
        (tmp_path / "splits.mat").write_bytes(head + body)
        assert "splits.mat" in refused(capsys, "data", "check", tmp_path, "-q")


@pytest.mark.parametrize(
    "options",
    [
        ["--set", "optim.lr=inf"], ["--set", "train.steps=" + "9" * 400], ["--set", "optim.weight_decay=nan"], ["--set", "optim.betas=[2, 3]"], ["--set", "data.size=²x³"],
        ["--set", "data.size=99999999x99999999"], ["--seed", "-1"], ["--set", "train.seed=99999999999999999999"],
        ["--device", "meta"], ["--set", "model.name=[1]"], ["--set", "model.width=" + "[" * 2000],
    ],
    ids=lambda options: options[1][:30],
)  # fmt: skip
def test_options_of_training_that_cannot_be_meant(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = f"{pairs(tmp_path / 'd', 4)}{MM}"
    refused(capsys, "train", data, "-r", "tiny-autoencoder", "-o", tmp_path / "run", "-q", *options, code=2)
    assert not (tmp_path / "run").exists()


def test_a_recipe_that_names_itself_first_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text(f'[model]\nname = "edge_guided"\n[first]\nrecipe = "{recipe}"\n')
    data = f"{pairs(tmp_path / 'd', 4)}{MM}"
    refused(capsys, "train", data, "-r", recipe, "-o", tmp_path / "run", "-q", "--device", "cpu", code=2)


@pytest.mark.parametrize("size", ["²x³", "0x5", "99999999x99999999", "1e3x4", "-1x5", "x", "4x"])
def test_sizes_that_are_none(size: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, "data", "pack", "rooms", "-o", tmp_path / "p", "--size", size, "-q", code=2)


@pytest.mark.parametrize(
    "make",
    [
        lambda root: os.mkfifo(root / "rgb" / "scene0" / "0.png"),
        lambda root: os.mkfifo(root / "index.csv"),
        lambda root: (root / "index.csv").write_text("id,image,depth\na,/etc/hostname,/etc/hostname\n"),
        lambda root: (root / "index.csv").write_text("id,image,depth\na,../other/a.png,../other/a.png\n"),
    ],
)
def test_pipes_and_files_outside_of_the_data_are_not_read(
    make: Callable[[Path], object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = pairs(tmp_path / "d", 1)
    counts(tmp_path / "other" / "a.png", np.ones((4, 4), np.uint16))
    (root / "rgb" / "scene0" / "0.png").unlink()
    make(root)
    refused(capsys, "data", "export", f"{root}{MM}", "-o", tmp_path / "out", "-q")


@pytest.mark.parametrize("data", ["~nosuchuserhere/d", "x" * 300, "folder:" + "y" * 5000, "a\0b"])
def test_paths_that_cannot_be_are_one_sentence(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", data, "-q"]) in (1, 2)
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize("name", ["[/n]", "[red]", "a\nb", "\x1b[31m"])
def test_names_are_never_markup(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = pairs(tmp_path / name, 1)
    assert main(["data", "info", f"{root}{MM}", "-o", str(tmp_path / "o"), "-q"]) == 0
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    if "\n" not in name and "\x1b" not in name:
        assert name in "".join(line.strip() for line in said.out.splitlines())


def test_a_factory_that_ends_the_program_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = f"{pairs(tmp_path / 'd', 4)}{MM}"
    said = refused(capsys, "probe", data, "-e", "module:sys:exit", "-o", tmp_path / "o", "-q", code=2)
    assert "ends the program" in said


def test_a_limit_can_be_raised_for_one_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FATHOM_LIMITS", "pixels=500")
    data = f"{pairs(tmp_path / 'd', 1)}{MM}"
    said = refused(capsys, "data", "export", data, "-o", tmp_path / "o", "-q")
    assert "raise the limit with --limit pixels=768" in said
    assert main(["data", "export", data, "-o", str(tmp_path / "o"), "-q", "--limit", "pixels=768"]) == 0


@pytest.mark.parametrize("then", [None, KeyError("thread"), ConnectionResetError("pipe")])
def test_a_killed_reading_process_is_one_sentence_wherever_the_command_was(
    then: Exception | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = typer.Typer()

    @app.command()
    def work() -> int:
        try:
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")
        except RuntimeError:
            if then is not None:
                raise then  # noqa: B904
            raise

    monkeypatch.setattr("fathom.cli.main.load_command", lambda _: app)
    assert "use fewer --workers" in refused(capsys, "probe")


def test_an_error_of_the_program_is_no_killed_process(monkeypatch: pytest.MonkeyPatch) -> None:
    app = typer.Typer()

    @app.command()
    def work() -> int:
        raise RuntimeError("another")

    monkeypatch.setattr("fathom.cli.main.load_command", lambda _: app)
    with pytest.raises(RuntimeError, match="another"):
        main(["probe"])


def test_the_thread_that_hands_tensors_on_prints_no_traceback_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    assert main(["data", "check", f"{pairs(tmp_path / 'd', 1)}{MM}", "-q"]) == 0
    for name, error, printed in (
        ("resource_sharer.py", ConnectionResetError("peer"), False),
        ("resource_sharer.py", KeyError("peer"), True),
        ("other.py", ConnectionResetError("peer"), True),
    ):
        capsys.readouterr()
        try:
            exec(compile("raise error", name, "exec"), {"error": error})
        except Exception as found:
            assert found.__traceback__ is not None
            sys.excepthook(type(found), found, found.__traceback__.tb_next)
        assert ("Traceback" in capsys.readouterr().err) is printed


def test_the_end_of_the_pipe_from_a_reading_process_is_no_interruption(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = typer.Typer()

    @app.command()
    def work() -> int:
        ours, theirs = Pipe()
        theirs.close()
        return int(ours.recv())

    monkeypatch.setattr("fathom.cli.main.load_command", lambda _: app)
    assert "use fewer --workers" in refused(capsys, "probe")

    @app.command()
    def stop() -> int:
        raise KeyboardInterrupt

    assert main(["probe", "stop"]) == 130


def test_a_killed_process_that_is_noticed_while_an_object_is_removed_prints_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Removed:
        def __init__(self, error: Exception) -> None:
            self.error = error

        def __del__(self) -> None:
            raise self.error

    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    assert main(["data", "check", "nowhere", "-q"]) == 1
    capsys.readouterr()
    del [Removed(RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."))][0]
    assert not capsys.readouterr().err
    del [Removed(RuntimeError("another"))][0]
    assert "another" in capsys.readouterr().err


def test_an_interruption_before_the_command_has_begun_is_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fathom.cli.main._plain_warnings", interrupted)
    with pytest.raises(SystemExit) as ended:
        run(["data", "check", "rooms"])
    assert ended.value.code == 130


def test_a_loader_that_is_interrupted_while_it_is_made_prints_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    assert main(["data", "check", "nowhere", "-q"]) == 1
    capsys.readouterr()
    half = _MultiProcessingDataLoaderIter.__new__(_MultiProcessingDataLoaderIter)
    half._shutdown, half._num_workers, half._persistent_workers = False, 1, False
    del half
    assert not capsys.readouterr().err
