"""The embedded rooms: what they promise of themselves holds in the frames."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from fathom.data.formats.rooms import EMBEDDED
from fathom.data.sources import load
from fathom.errors import DataError, UsageError
from fathom.files.atomic import write_json


def test_at_least_a_hundred_rooms_with_several_views_in_twelve_megabytes() -> None:
    rooms = load("rooms")
    assert len(rooms.scenes) >= 100 and len(rooms) >= 3 * len(rooms.scenes)
    assert sum(file.stat().st_size for file in EMBEDDED.iterdir()) < 12e6


def test_official_split_shares_no_room() -> None:
    train, test = load("rooms").official_split()
    assert not set(train.scenes) & set(test.scenes)
    assert len(train) + len(test) == len(load("rooms"))


def plane_residual(depth: torch.Tensor, camera: object, normal: torch.Tensor) -> torch.Tensor:
    """|d(n . X)| between horizontal neighbours, metres: zero on a plane with that normal."""
    height, width = depth.shape
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    points = torch.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, torch.ones_like(u)]) * depth
    return ((points[:, :, 1:] - points[:, :, :-1]) * normal[:, :, :-1]).sum(0).abs()


def test_depth_is_z_depth_with_the_camera_and_normals_given() -> None:
    """On walls and floor, points unprojected from z-depth must lie in the plane that the normals say."""
    rooms = load("rooms")
    as_z, as_ray = [], []
    for index in range(0, len(rooms), 16):
        sample = rooms[index]
        camera, normals, labels = sample.intrinsics, sample.normals, sample.labels[0]
        height, width = sample.depth_size
        v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        length = (((u - camera.cx) / camera.fx) ** 2 + ((v - camera.cy) / camera.fy) ** 2 + 1).sqrt()
        same = (normals[:, :, 1:] * normals[:, :, :-1]).sum(0) > 0.9999
        wall = (labels[:, 1:] < 3) & (labels[:, :-1] == labels[:, 1:]) & same  # wall, floor, ceiling
        as_z.append(plane_residual(sample.depth[0], camera, normals)[wall])
        as_ray.append(plane_residual(sample.depth[0] / length, camera, normals)[wall])
    as_z, as_ray = torch.cat(as_z), torch.cat(as_ray)
    assert as_z.median() < 2e-3
    assert as_ray.median() > 3 * as_z.median()


def test_labels_are_the_same_classes_in_every_room() -> None:
    """The floor faces up, the ceiling down and walls sideways, in rooms of either part; furniture is in many of them."""
    rooms = load("rooms")
    names = rooms.source.facts["labels"].removeprefix("classes: ").split(", ")
    upward: dict[str, list[torch.Tensor]] = {name: [] for name in ("floor", "ceiling", "wall")}
    found: dict[str, set[str]] = {name: set() for name in names}
    for index in range(0, len(rooms), 8):
        sample = rooms[index]
        up = torch.einsum("c,chw->hw", sample.pose[2, :3].float(), sample.normals)
        for name in upward:
            upward[name].append(up[sample.labels[0] == names.index(name)])
        for label in sample.labels.unique().tolist():
            found[names[label]].add(sample.scene)
    assert float(torch.cat(upward["floor"]).min()) > 0.99 and float(torch.cat(upward["ceiling"]).max()) < -0.99
    assert float(torch.cat(upward["wall"]).abs().median()) < 0.01
    assert len(names) == 16 and all(len(found[name]) >= 3 for name in names)


def test_normals_face_the_camera_and_have_unit_length() -> None:
    sample = load("rooms")[5]
    length = sample.normals.norm(dim=0)[sample.valid[0]]
    assert torch.allclose(length, torch.ones_like(length), atol=1e-5)
    # Seen surfaces turn towards the viewer: mostly against the direction of view.
    assert float((sample.normals[2] < 0.05).float().mean()) > 0.95


def test_variants_keep_geometry_and_change_looks() -> None:
    base = load("rooms?part=test")
    by_id = {id_: position for position, id_ in enumerate(base.ids)}
    for variant in ("colours", "textures", "grey", "light"):
        other = load(f"rooms?part=test&variant={variant}")
        assert len(other.scenes) == 20
        one, same = other[3], base[by_id[other.ids[3]]]
        assert torch.equal(one.depth, same.depth) and torch.equal(one.labels, same.labels)
        assert float((one.image.float() - same.image.float()).abs().mean()) > 2


def test_position_alone_explains_little() -> None:
    """R² of the mean depth map of the training rooms on test rooms, by plain averages."""
    train, test = load("rooms").official_split()
    mean_map = torch.stack([sample.depth for sample in train]).mean(0)
    truth = torch.stack([sample.depth for sample in test])
    left = (truth - mean_map).square().mean() / (truth - mean_map.mean()).square().mean()
    assert 1 - left < 0.45


def test_index_that_is_broken_or_absent_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no rooms\.json"):
        load(f"rooms:{tmp_path}")
    (tmp_path / "rooms.json").write_text("{")
    with pytest.raises(DataError, match=r"rooms\.json: is not an index of rendered rooms"):
        load(f"rooms:{tmp_path}")


def test_room_file_cut_short_is_named(tmp_path: Path) -> None:
    record = json.loads((EMBEDDED / "rooms.json").read_text())
    record["rooms"] = record["rooms"][:1]
    record.pop("checksum")
    write_json(tmp_path / "rooms.json", record, checksum=True)
    name = f"{record['rooms'][0]['name']}.zip"
    shutil.copy(EMBEDDED / name, tmp_path)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=rf"{name}: is not an archive of a rendered room"):
        load(tmp_path)[0]


def test_unknown_variant_is_refused() -> None:
    with pytest.raises(UsageError, match="variant=blue is not one of"):
        load("rooms?variant=blue")
