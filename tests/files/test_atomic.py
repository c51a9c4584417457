"""Files that are whole or absent, and JSON that takes any file's name."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fathom.errors import DataError
from fathom.files.atomic import atomic_path, write_json, write_text
from fathom.files.inputs import read_json


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"x": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"x": float("nan")})
    with pytest.raises(KeyboardInterrupt), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert json.loads(path.read_text()) == {"x": 1} and [item.name for item in tmp_path.iterdir()] == ["a.json"]


def test_a_name_that_is_not_utf8_reads_back_as_it_was(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9/\xff.png")
    write_json(tmp_path / "a.json", {"scene": name, "unit": "m²"})
    back = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert back == {"scene": name, "unit": "m²"} and os.fsencode(back["scene"]) == b"caf\xe9/\xff.png"


def test_a_folder_that_cannot_be_written_gets_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_json(tmp_path / "file" / "a.json", {})


def test_a_device_and_a_pipe_are_written_through_and_never_replaced(tmp_path: Path) -> None:
    master, slave = os.openpty()  # a device that a faulty writer cannot replace
    write_json(os.ttyname(slave), {"x": 1})
    assert Path(os.ttyname(slave)).is_char_device() and b'"x": 1' in os.read(master, 100)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(DataError, match="a pipe that nobody reads"):
        write_json(pipe, {"x": 1})
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_json(pipe, {"x": 2})
    assert json.loads(os.read(reader, 100)) == {"x": 2} and pipe.is_fifo()
    os.close(reader)


def test_a_symlink_stays_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    real, link = tmp_path / "elsewhere" / "real.json", tmp_path / "link.json"
    link.symlink_to(real)
    for value in (1, 2):
        write_json(link, {"x": value})
        assert link.is_symlink() and json.loads(real.read_text()) == {"x": value}
    with pytest.raises(DataError, match="is a folder where a file is to be written"):
        write_json(tmp_path, {})


def test_names_of_any_length_get_their_file_or_one_sentence(tmp_path: Path) -> None:
    write_json(tmp_path / ("x" * 250 + ".json"), {})
    for name in ("y" * 300, "a\0b"):
        with pytest.raises(DataError, match=r"cannot be written|not a name"):
            write_json(tmp_path / name, {})
    assert len(list(tmp_path.iterdir())) == 1


def test_sigterm_removes_what_is_half_written(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom fathom.cli.main import _end_on_sigterm\nfrom fathom.files.atomic import atomic_path\n"
        "_end_on_sigterm()\nwith atomic_path(sys.argv[1]) as path:\n print(path, flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "a.png")], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and Path(child.stdout.readline().strip()).is_file()
    child.terminate()
    assert child.wait(20) == 143 and not list(tmp_path.iterdir())


def test_a_sealed_file_says_when_a_byte_of_it_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"x": [1.5, "é"], "name": os.fsdecode(b"\xff")}, checksum=True)
    record = read_json(path, dict, checksum=True)
    assert record["x"] == [1.5, "é"] and record["name"] == os.fsdecode(b"\xff")
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(DataError, match=r"checksum|is not what it should be"):
            read_json(path, dict, checksum=True)


def test_text_with_a_name_that_is_not_utf8_is_written_with_escapes(tmp_path: Path) -> None:
    write_text(tmp_path / "a.html", f"{os.fsdecode(bytes([99, 0xE9]))} é")
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == "c\\udce9 é"


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no memory file system")
def test_a_file_in_dev_shm_is_a_file_and_redirected_output_is_appended_to(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        for value in (1, 2):
            write_json(Path(folder) / "a.json", value)
        assert read_json(Path(folder) / "a.json", int) == 2
    for place in ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"):
        code = f"from fathom.files.atomic import write_text; print('before', flush=True); write_text({place!r}, 'new')"
        with (tmp_path / "a").open("w") as file:
            subprocess.run([sys.executable, "-c", code], stdout=file, check=True)
        assert (tmp_path / "a").read_text() == "before\nnew"


def test_what_a_killed_process_left_is_removed_and_what_another_writes_is_not(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from fathom.files.atomic import atomic_path\n"
        "with atomic_path(sys.argv[1]): os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.json")], check=False)
    (left,) = tmp_path.iterdir()
    pid = left.name.split(".")[2].split("-")[0]
    of_us, elsewhere, held = (
        tmp_path / left.name.replace(*names)
        for names in ((pid, str(os.getpid())), ("-" + left.name.split("-")[1][:8], "-0000000f"), (".a.", ".b."))
    )
    mine, upper = tmp_path / ".notes.part", tmp_path / left.name.upper()
    for path in (of_us, elsewhere, held, mine, upper):
        path.touch()
    with held.open() as file:  # as a process of another container
        fcntl.flock(file, fcntl.LOCK_EX)
        write_text(tmp_path / "b.txt", "x")
    assert set(tmp_path.iterdir()) == {of_us, elsewhere, held, mine, upper, tmp_path / "b.txt"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root lists any folder")
def test_a_folder_that_cannot_be_listed_is_written_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o300)
    write_text(tmp_path / "a.txt", "x")
    tmp_path.chmod(0o700)
    assert (tmp_path / "a.txt").read_text() == "x"
