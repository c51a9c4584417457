"""Stray Scanner: frames of a video by number, odometry, confidence."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from fathom.data.formats.recordings.video import Video
from fathom.data.sources import load
from fathom.errors import DataError, MissingExtraError
from tests.data.files import counts

av = pytest.importorskip("av")

FRAMES = 90


def grey(number: int) -> int:
    """Brightness of a frame; neighbours differ by more than compression does."""
    return 40 + (number * 37) % 170


def video(path: Path, frames: int = FRAMES) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 64, 48, "yuv420p", 12
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), grey(number), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def recording(root: Path, frames: int = FRAMES, *, focus: bool = False) -> Path:
    root.mkdir(parents=True)
    video(root / "rgb.mp4", frames)
    names = "timestamp, frame, x, y, z, qx, qy, qz, qw" + (", fx, fy, cx, cy" if focus else "")
    lines = [names]
    for number in range(frames):
        counts(root / "depth" / f"{number:06d}.png", np.full((6, 8), 1000 + number, np.uint16))
        counts(root / "confidence" / f"{number:06d}.png", (np.arange(48) % 3).astype(np.uint8).reshape(6, 8))
        line = f"{100 + number / 30}, {number:06d}, {number}.0, 2.0, 3.0, 0.0, 0.0, 0.0, 1.0"
        lines.append(line + (f", {50 + number}.0, 51.0, 32.0, 24.0" if focus else ""))
    (root / "odometry.csv").write_text("\n".join(lines) + "\n")
    (root / "camera_matrix.csv").write_text("50.0, 0.0, 32.0\n0.0, 50.5, 24.0\n0.0, 0.0, 1.0\n")
    return root


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recording(tmp_path_factory.mktemp("stray") / "hall")


def test_frames_belong_to_their_depth_in_any_order(recorded: Path) -> None:
    data = load(recorded)
    assert data.source.kind == "stray-scanner" and data.scenes == ("hall",) and len(data) == FRAMES
    for number in (0, 1, 2, 40, 39, 85, 3, 89):
        sample = data[number]
        assert abs(float(sample.image.float().mean()) - grey(number)) < 6, number
        assert float(sample.depth[0, 0, 0]) == pytest.approx(1 + number / 1000)
        assert sample.pose is not None and float(sample.pose[0, 3]) == number
        assert sample.timestamp == pytest.approx(100 + number / 30)
    assert sample.intrinsics is not None and (sample.intrinsics.fx, sample.intrinsics.fy) == (50.0, 50.5)


def test_a_source_that_has_read_can_go_to_a_worker_process(recorded: Path) -> None:
    data = load(recorded)
    data[5]
    copy = pickle.loads(pickle.dumps(data))
    assert copy[7].image.equal(data[7].image)


def test_confidence_and_every(recorded: Path) -> None:
    data = load(f"{recorded}?confidence=2&every=30")
    assert data.ids == ("hall/0", "hall/30", "hall/60")
    assert float(data[0].valid.float().mean()) == pytest.approx(1 / 3)


def test_newer_files_have_a_camera_for_each_frame(tmp_path: Path) -> None:
    camera = load(recording(tmp_path / "new", 3, focus=True))[2].intrinsics
    assert camera is not None and camera.fx == 52


def test_without_the_extra_one_sentence_names_it(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(
        MissingExtraError, match=r"rgb\.mp4 needs an optional package: pip install 'fathom-depth\[video\]'"
    ):
        load(recorded)[0]


def test_bad_recordings_are_refused_by_name(tmp_path: Path) -> None:
    root = recording(tmp_path / "r", 3)
    (root / "depth" / "000001.png").unlink()
    with pytest.raises(DataError, match=r"odometry\.csv: names frame 1, which has no depth map"):
        load(root)
    assert load(root, skip_bad=True).ids == ("r/0", "r/2")
    (root / "rgb.mp4").write_bytes(b"no video")
    with pytest.raises(DataError, match=r"rgb\.mp4: is not a readable video"):
        load(root, skip_bad=True)[0]
    whole = (root / "odometry.csv").read_text()
    for odd in ("inf", "nan", "0.5", "x"):
        (root / "odometry.csv").write_text(whole.replace("000000", odd))
        with pytest.raises(DataError, match=r"odometry\.csv: has a damaged line"):
            load(root)
    (root / "odometry.csv").write_text("timestamp, frame\n1, 2\n")
    with pytest.raises(DataError, match=r"odometry\.csv: lacks the columns qw, qx"):
        load(root)


def test_a_frame_beyond_the_video_is_refused(tmp_path: Path) -> None:
    video(tmp_path / "v.mp4", 5)
    film = Video(tmp_path / "v.mp4")
    assert len(film) == 5
    with pytest.raises(DataError, match="has 5 frames and no frame 5"):
        film.frame(5)


def test_a_video_of_an_unknown_codec_or_of_too_many_pixels_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video(tmp_path / "v.mp4", 5)
    whole = (tmp_path / "v.mp4").read_bytes()
    (tmp_path / "u.mp4").write_bytes(whole.replace(b"stsd", b"xxxx"))
    with pytest.raises(DataError, match=r"u\.mp4: is of a codec that is not known here"):
        Video(tmp_path / "u.mp4").frame(0)
    monkeypatch.setenv("FATHOM_LIMITS", "pixels=3000")
    with pytest.raises(DataError, match=r"v\.mp4: claims 3,072 pixels .* --limit pixels=3072"):
        Video(tmp_path / "v.mp4").frame(0)
