"""The cache of features: what it holds, when it is used again, and when it must not be."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fathom.data.dataset import Dataset
from fathom.data.sources import load
from fathom.data.transforms import fit
from fathom.encoders.module import ModuleEncoder
from fathom.errors import DataError, FathomError
from fathom.probing.heads.feature_cache import CachedFeatures, cache_features, key, open_cache
from fathom.probing.participants import Participant, Role
from fathom.probing.passes.moments_cache import identity
from fathom.probing.reading import Batch
from fathom.probing.settings import ProbeSettings
from tests.data.files import pairs, picture

GRID, SIZE = (3, 4), (24, 32)
SETTINGS = ProbeSettings(size=SIZE, grid=GRID, batch_size=4)


class Two(nn.Module):
    """Layers ``fine`` on the grid of the probe and ``coarse`` on half of it; counts the images it has seen."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fine, self.coarse = nn.Conv2d(3, 5, 8, 8), nn.Conv2d(5, 4, (2, 2), (2, 2), padding=(1, 0))
        self.seen, self.factor = 0, 1.0

    def forward(self, image: Tensor) -> Tensor:
        self.seen += len(image)
        return self.coarse(self.fine(image * self.factor))


def reading(network: nn.Module | None = None) -> Participant:
    encoder = ModuleEncoder("module:two", network or Two(), ("fine", "coarse"), nn.Identity(), SIZE)
    return Participant(encoder, Role("encoder"))


def cached(
    one: Participant,
    data: Dataset,
    folder: Path,
    visit: Callable[[Batch], None] = lambda batch: None,
    **changes: object,
) -> CachedFeatures:
    (features,) = cache_features([one], data, folder, SETTINGS.changed(changes), visit)
    return features


def content(features: CachedFeatures) -> list[bytes]:
    return [np.asarray(z).tobytes() for z in features.maps if z is not None]


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return load(f"{pairs(tmp_path / 'pairs', scenes=5, views=2)}?depth-scale=1000")


def computed(one: Participant, data: Dataset) -> list[Tensor]:
    """Maps of all frames straight from the encoder, in float32."""
    frames = [fit(sample, SIZE) for sample in data]
    return one.place(Batch(frames, frames, SETTINGS).images, GRID)


def test_what_is_stored_is_what_the_encoder_gives_to_float16(data: Dataset, tmp_path: Path) -> None:
    one = reading()
    features = cached(one, data, tmp_path / "cache")
    assert features.ids == data.ids and one.design is not None
    frames = torch.tensor([7, 0, 3])
    scales = torch.split(features.scale, [5, 4])
    shifts = torch.split(features.shift, [5, 4])
    for z, stored, scale, shift in zip(
        computed(one, data), features.stored(one.design, frames), scales, shifts, strict=True
    ):
        back = stored * scale[:, None, None] + shift[:, None, None]
        rounding = 2**-11 * (stored.abs() + 1e-3) * scale[:, None, None]
        assert bool(((back - z[frames]).abs() <= rounding + 1e-6).all())
    assert all(z is not None and z.dtype == np.float16 for z in features.maps)


def test_cells_are_those_of_the_whole_grid(data: Dataset, tmp_path: Path) -> None:
    one = reading()
    features = cached(one, data, tmp_path / "cache")
    assert one.design is not None
    frames, cells = torch.tensor([2, 9]), torch.tensor([11, 0, 5, 7])
    fine, coarse = features.stored(one.design, frames)
    assert coarse.shape[2:] != GRID
    whole = torch.cat([fine, one.design.placements[1].up(coarse)], 1)
    expected = whole.flatten(2)[:, :, cells].transpose(1, 2)
    torch.testing.assert_close(features.cells(one.design, frames, cells), expected)


def test_a_second_run_encodes_one_frame_and_finds_the_same_bits(data: Dataset, tmp_path: Path) -> None:
    first = cached(reading(), data, tmp_path)
    network = Two()
    seen_before = network.seen
    visited: list[str] = []

    def visit(batch: Batch) -> None:
        visited.extend(sample.id for sample in batch.samples)

    again = cached(reading(network), data, tmp_path, visit=visit)
    assert network.seen - seen_before == 1  # the witness
    assert content(again) == content(first) and torch.equal(again.scale, first.scale)
    assert tuple(visited) == data.ids == again.ids
    assert len(list(tmp_path.glob("*/meta.json"))) == 1


def cut(home: Path) -> None:
    os.truncate(home / "maps-0.npy", 300)


def flip(home: Path) -> None:
    with (home / "maps-1.npy").open("r+b") as file:
        file.seek(200)
        byte = file.read(1)
        file.seek(200)
        file.write(bytes([byte[0] ^ 1]))


def remove(home: Path) -> None:
    (home / "maps-1.npy").unlink()


def garble(home: Path) -> None:
    (home / "meta.json").write_text('{"made_from": ')


def swap(home: Path) -> None:
    meta = json.loads((home / "meta.json").read_text())
    meta["made_from"]["encoder"] = "module:other"
    (home / "meta.json").write_text(json.dumps(meta))


@pytest.mark.parametrize("damage", [cut, flip, remove, garble, swap])
def test_a_damaged_cache_is_made_again(
    data: Dataset, tmp_path: Path, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "cache"
    whole = content(cached(reading(), data, folder))
    damage(next(folder.iterdir()))
    capsys.readouterr()
    network = Two()
    assert content(cached(reading(network), data, folder)) == whole and network.seen >= len(data)
    assert "damaged" in capsys.readouterr().err
    assert open_cache(folder, identity(reading().encoder, data, SETTINGS)) is not None


def test_a_run_that_was_cut_off_leaves_no_cache(data: Dataset, tmp_path: Path) -> None:
    """Without meta.json, which is written last, files are not looked at."""
    folder = tmp_path / "cache"
    cached(reading(), data, folder)
    home = next(folder.iterdir())
    (home / "meta.json").unlink()
    assert open_cache(folder, identity(reading().encoder, data, SETTINGS)) is None


def test_a_changed_image_is_noticed(data: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    before = content(cached(reading(), data, folder))
    picture(data.frame(3).files[0], *SIZE, seed=99)
    network = Two()
    assert content(cached(reading(network), data, folder)) != before and network.seen >= len(data)


def test_a_changed_depth_map_is_noticed_too(data: Dataset) -> None:
    before = identity(reading().encoder, data, SETTINGS)
    path = data.frame(3).files[1]
    path.write_bytes(path.read_bytes() + b"x")
    assert key(identity(reading().encoder, data, SETTINGS)) != key(before)


def test_other_weights_layers_frames_and_sizes_have_other_keys(data: Dataset) -> None:
    def key_of(one: Participant, part: Dataset = data, grid: tuple[int, int] = GRID) -> str:
        return key(identity(one.encoder, part, SETTINGS.changed({"grid": grid})))

    changed = Two()
    with torch.no_grad():
        changed.coarse.bias[0] += 1e-6
    narrower = Participant(ModuleEncoder("module:two", Two(), ("fine",), nn.Identity(), SIZE), Role("encoder"))
    scaled = Participant(ModuleEncoder("module:two", Two(), ("fine", "coarse"), None, SIZE), Role("encoder"))
    keys = [
        key_of(reading()),
        key_of(reading(changed)),
        key_of(narrower),
        key_of(scaled),
        key_of(reading(), data.subset(range(9))),
        key_of(reading(), grid=(6, 8)),
    ]
    assert len(set(keys)) == len(keys) and key_of(reading()) == keys[0]


def test_changed_code_of_an_encoder_is_noticed(
    data: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(cached(reading(), data, tmp_path / "cache"))
    network = Two()
    network.factor = 1.5  # the same weights, another forward pass
    assert content(cached(reading(network), data, tmp_path / "cache")) != before
    assert "not what it gives now" in capsys.readouterr().err


class Tuned(nn.Module):
    """One channel: the mean red of each cell about zero, times `scale`, plus `offset`; NaN or huge from the k-th image on."""

    def __init__(self, scale: float = 1.0, offset: float = 0.0, late: float = 0.0, after: int = 6) -> None:
        super().__init__()
        self.pool, self.out, self.seen = nn.AvgPool2d(8), nn.Identity(), 0
        self.scale, self.offset, self.late, self.after = scale, offset, late, after

    def forward(self, image: Tensor) -> Tensor:
        maps = self.pool(image[:, :1] - 0.5) * self.scale + self.offset
        for index in range(len(maps)):
            self.seen += 1
            if self.late and self.seen > self.after:
                maps[index] = self.late
        return self.out(maps)


def tuned(**settings: float) -> Participant:
    encoder = ModuleEncoder("module:tuned", Tuned(**settings), ("out",), nn.Identity(), SIZE)
    one = Participant(encoder, Role("encoder"))
    one.encoder.module.seen = 0  # type: ignore[attr-defined]
    return one


@pytest.mark.parametrize("settings", [{"scale": 1e9}, {"scale": 1e-12}, {"offset": 3e4, "scale": 100.0}])
def test_units_and_offsets_beyond_float16_cost_no_digits(
    data: Dataset, tmp_path: Path, settings: dict[str, float]
) -> None:
    one, plain = tuned(**settings), tuned()
    features = cached(one, data, tmp_path / "cache")
    assert one.design is not None
    stored = features.stored(one.design, torch.arange(len(data)))[0].double()
    truth = computed(plain, data)[0].double()

    def standard(z: Tensor) -> Tensor:
        return (z - z.mean()) / z.std()

    assert float((standard(stored) - standard(truth)).abs().max()) < 2e-3


def test_a_value_that_float16_cannot_hold_is_refused_with_its_frame(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(FathomError, match=rf"module:tuned gave a value of 1e\+30 for frame {data.ids[6]}, too far"):
        cached(tuned(late=1e30), data, tmp_path / "cache")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("after", [0, 6])
def test_nan_and_infinity_name_encoder_and_frame_and_leave_nothing(
    data: Dataset, tmp_path: Path, value: float, after: int
) -> None:
    folder = tmp_path / "cache"
    frame = data.ids[after]
    with pytest.raises(FathomError, match=f"Encoder module:tuned gave NaN or infinity for frame {frame};"):
        cached(tuned(late=value, after=after), data, folder)
    assert not [path for path in folder.rglob("*") if path.is_file()]


def test_frames_that_cannot_be_read_are_left_out_when_asked(data: Dataset, tmp_path: Path) -> None:
    data.frame(2).files[0].write_bytes(b"x")
    with pytest.raises(DataError, match="is not an image"):
        cached(reading(), data, tmp_path / "cache")
    features = cached(reading(), data, tmp_path / "cache", skip_bad=True)
    assert features.ids == tuple(id_ for index, id_ in enumerate(data.ids) if index != 2)
    assert open_cache(tmp_path / "cache", identity(reading().encoder, data, SETTINGS)) is not None


def test_a_disk_that_cannot_hold_the_features_is_said_before_they_are_computed(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    with pytest.raises(DataError, match=r"features take 0\.0 GB and 0\.0 GB are free; name a cache folder"):
        cached(reading(), data, tmp_path / "cache")


def test_unfinished_files_of_killed_runs_are_removed(data: Dataset, tmp_path: Path) -> None:
    home = tmp_path / key(identity(reading().encoder, data, SETTINGS))
    home.mkdir()
    old, young = home / ".maps-0.abc.npy", home / ".maps-0.def.npy"
    old.write_bytes(b"x")
    young.write_bytes(b"x")
    os.utime(old, (0, 0))
    cached(reading(), data, tmp_path)
    assert not old.exists() and young.exists()
