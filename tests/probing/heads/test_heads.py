"""Heads beyond linear: their definition, and their training on a planted world that no linear map can read."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fathom.data.dataset import Dataset, Frame
from fathom.encoders.baselines import open_baseline
from fathom.encoders.module import ModuleEncoder
from fathom.errors import FathomError, UsageError
from fathom.features import Feature, feature
from fathom.grids import masked_average
from fathom.probing.heads.fitted import FittedHead
from fathom.probing.heads.heads import Architecture, BinsHead, MlpHead, Spread, build_head, parameter_count
from fathom.probing.heads.training import HeadSettings, fit_heads
from fathom.probing.participants import Participant, Role
from fathom.probing.reading import Batch
from fathom.probing.settings import ProbeSettings
from fathom.probing.targets import TargetGroup, target_groups
from fathom.sample import Sample

GRID, SIZE = (3, 4), (24, 32)
QUICK = HeadSettings(sizes=Architecture(width=32, bins=32), epochs=40, rate=1e-2, frames=8, cells=12, patience=5)


@dataclass
class World:
    """Frames in memory: each cell of 8x8 pixels has one colour, and a depth of 1 + 4 |2 red − 1|.

    Attributes:
        holes: cells without depth, in all frames but the first 16, which fix how features are stored.
        painted: colour of the image in those cells, which must not matter.
        reads: ids of the frames that were read.
    """

    scenes: int = 14
    views: int = 4
    holes: tuple[int, ...] = ()
    painted: float | None = None
    kind: str = "world"
    location: str = "memory"
    reads: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.frames = tuple(Frame(f"{s}-{v}", f"scene{s}") for s in range(self.scenes) for v in range(self.views))
        self.facts: dict[str, str] = {}
        self.official: dict[str, list[int]] = {}

    def read(self, index: int) -> Sample:
        self.reads.append(self.frames[index].id)
        colours = torch.rand(3, *GRID, generator=torch.Generator().manual_seed(index))
        depth, valid = 1 + 4 * (2 * colours[:1] - 1).abs(), torch.ones(1, *GRID, dtype=torch.bool)
        if index >= 16:
            valid.view(-1)[list(self.holes)] = False
            if self.painted is not None:
                colours = torch.where(valid, colours, self.painted)
                depth = torch.where(valid, depth, 1000.0)
        frame = self.frames[index]
        return Sample(enlarged(colours), enlarged(depth), enlarged(valid), frame.scene, frame.id)


def enlarged(cells: Tensor) -> Tensor:
    return cells.repeat_interleave(8, 1).repeat_interleave(8, 2)


class Colours(nn.Module):
    """Layers ``cell`` (the colour of each cell) and ``coarse`` (averages on a 1x2 grid)."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.coarse = nn.AvgPool2d(8), nn.AdaptiveAvgPool2d((1, 2))

    def forward(self, image: Tensor) -> Tensor:
        self.cell(image)
        return self.coarse(image)


def reading(*layers: str) -> Participant:
    encoder = ModuleEncoder("module:colours", Colours(), layers or ("cell", "coarse"), nn.Identity(), SIZE)
    return Participant(encoder, Role("encoder"))


def group_of(*features: str | Feature) -> TargetGroup:
    made = [feature(one) if isinstance(one, str) else one for one in features or ("depth",)]
    return target_groups(made)[0]


SETTINGS = ProbeSettings(size=SIZE, grid=GRID)


def trained(
    train: Dataset,
    settings: HeadSettings = QUICK,
    group: TargetGroup | None = None,
    read: Participant | None = None,
    seed: int = 0,
) -> FittedHead:
    (head,) = fit_heads([read or reading()], [group or group_of()], train, [settings], replace(SETTINGS, seed=seed))
    return head


def losses(head: FittedHead, data: Dataset) -> Tensor:
    """Mean squared error of each output over the valid cells."""
    batch = Batch(list(data), list(data), SETTINGS)
    Y, valid = batch.target(head.candidate.group)
    inside = valid[:, 0]
    return (head.candidate.predict(batch) - Y).square().permute(0, 2, 3, 1)[inside].mean(0)


def linear_loss(train: Dataset, test: Dataset) -> float:
    """Of least squares on the colours of the cells: the best that a linear probe could do in the limit."""

    def matrix(data: Dataset) -> tuple[Tensor, Tensor]:
        colours = torch.cat([F.avg_pool2d(sample.float_image(), 8).flatten(1).T for sample in data])
        depth = torch.cat([F.avg_pool2d(sample.depth, 8).flatten() for sample in data])
        return torch.cat([colours, torch.ones(len(colours), 1)], 1), depth

    (X, y), (X_test, y_test) = matrix(train), matrix(test)
    weight = torch.linalg.lstsq(X, y[:, None]).solution
    return float((X_test @ weight - y_test[:, None]).square().mean())


@pytest.fixture(scope="module")
def split() -> tuple[Dataset, Dataset]:
    return Dataset.whole(World()).split(0.25, seed=0)


@pytest.fixture(scope="module")
def with_control(split: tuple[Dataset, Dataset]) -> FittedHead:
    """An mlp for depth and one for the targets of other rooms."""
    train, _ = split
    return trained(train, QUICK, group_of().with_control([train[i] for i in range(0, len(train), 4)], GRID, 0))


def test_an_mlp_reads_on_unseen_scenes_what_no_linear_map_can(
    split: tuple[Dataset, Dataset], with_control: FittedHead
) -> None:
    linear = linear_loss(*split)
    assert linear > 1.0  # about the variance of the depths, 4/3
    assert float(losses(with_control, split[1])[0]) < 0.1 * linear


def test_so_do_bins(split: tuple[Dataset, Dataset]) -> None:
    train, test = split
    head = trained(train, replace(QUICK, kind="bins"))
    assert float(losses(head, test)[0]) < 0.3 * linear_loss(train, test)


def test_equal_seeds_give_equal_weights_and_others_do_not(split: tuple[Dataset, Dataset]) -> None:
    settings = replace(QUICK, epochs=3)

    def weights(seed: int) -> Tensor:
        network = trained(split[0], settings, seed=seed).networks[0].network
        return torch.cat([parameter.flatten() for parameter in network.parameters()])

    first = weights(0)
    torch.rand(3)  # the global random state has no say
    assert torch.equal(weights(0), first) and not torch.equal(weights(1), first)


def test_training_leaves_the_global_random_state_alone(split: tuple[Dataset, Dataset]) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    trained(split[0], replace(QUICK, epochs=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_stopping_looks_at_whole_training_scenes_and_never_at_test_frames() -> None:
    world = World()
    train, test = Dataset.whole(world).split(0.25, seed=0)
    head = trained(train, replace(QUICK, epochs=2))
    assert set(world.reads) == set(train.ids) and not set(world.reads) & set(test.ids)
    held_out = set(head.validation_scenes)
    assert held_out and held_out < set(train.scenes)
    # The numbers are of those scenes: the held-out ones, and the others.
    fitted = train.of_scenes([scene for scene in train.scenes if scene not in held_out])
    assert float(head.validation_mse[0]) == pytest.approx(
        float(losses(head, train.of_scenes(list(held_out)))), rel=1e-2
    )
    assert float(head.candidate.layers[0].train_mse[0]) == pytest.approx(float(losses(head, fitted)), rel=1e-2)


def test_what_is_held_out_does_not_train() -> None:
    """Depth maps of the held-out scenes are turned by 180 degrees: the weights are the same, their score is not."""

    class Turned(World):
        turned: tuple[str, ...] = ()

        def read(self, index: int) -> Sample:
            sample = super().read(index)
            return replace(sample, depth=sample.depth.flip(1, 2)) if sample.scene in self.turned else sample

    settings, world = replace(QUICK, epochs=1), Turned()
    plain = trained(Dataset.whole(world), settings)
    world.turned = plain.validation_scenes
    turned = trained(Dataset.whole(world), settings)
    assert turned.validation_scenes == plain.validation_scenes
    for one, other in zip(plain.networks[0].network.parameters(), turned.networks[0].network.parameters(), strict=True):
        assert torch.equal(one, other)
    assert plain.networks[0].history[0].validation_mse != turned.networks[0].history[0].validation_mse


def test_scenes_that_are_held_out_have_depths_like_the_others() -> None:
    """Every third scene is four times as deep: about a third of the held-out ones must be, whatever the seed."""

    class Halls(World):
        def read(self, index: int) -> Sample:
            sample = super().read(index)
            return replace(sample, depth=4 * sample.depth) if int(sample.scene[5:]) % 3 == 0 else sample

    data = Dataset.whole(Halls(scenes=30, views=1))
    for seed in range(4):
        head = trained(data, replace(QUICK, epochs=1), seed=seed)
        deep = sum(int(scene[5:]) % 3 == 0 for scene in head.validation_scenes)
        assert len(head.validation_scenes) == 6 and deep == 2


@pytest.mark.parametrize(
    ("settings", "rates"),
    [
        (replace(QUICK, epochs=200, patience=1, drops=1, rate=0.05), {0.05, 0.01}),  # stops by itself
        (replace(QUICK, epochs=2, patience=50, rate=0.3), {0.3}),  # is cut off
    ],
)
def test_training_stops_early_and_keeps_the_best_weights(
    split: tuple[Dataset, Dataset], settings: HeadSettings, rates: set[float]
) -> None:
    (network,) = trained(split[0], settings).networks
    scores = [epoch.validation_mse for epoch in network.history]
    assert len(scores) <= min(settings.epochs, 100) and network.best == scores.index(min(scores)) < len(scores) - 1
    assert float(network.validation_mse.sum()) == pytest.approx(min(scores), rel=1e-6)
    assert {epoch.rate for epoch in network.history} == rates


@pytest.mark.parametrize("kind", ["mlp", "bins"])
def test_invalid_cells_have_no_influence(kind: str) -> None:
    settings = replace(QUICK, kind=kind, epochs=2, frames=4)
    # The coarse layer carries the paint to its neighbours, as an encoder may.
    plain, painted = (
        trained(Dataset.whole(World(holes=(1, 5, 6), painted=colour)), settings, read=reading("cell"))
        for colour in (None, 1.0)
    )
    for one, other in zip(plain.networks, painted.networks, strict=True):
        for name, tensor in one.network.state_dict().items():
            if name != "norm.num_batches_tracked":
                assert torch.equal(tensor, other.network.state_dict()[name]), name
        assert torch.equal(one.validation_mse, other.validation_mse)


def test_the_control_task_gets_a_network_of_its_own(split: tuple[Dataset, Dataset], with_control: FittedHead) -> None:
    head, test = with_control, split[1]
    candidate, batch = head.candidate, Batch(list(test), list(test), SETTINGS)
    assert candidate.role == Role("head", of="module:colours") and candidate.encoder == "module:colours"
    (layer,) = candidate.layers
    assert layer.name == "mlp:all" and layer.channels == 6 and layer.cv_mse.isnan().all() and len(layer.penalty) == 2
    assert head.parameters == layer.parameters["depth"] == 6 * 32 + 32 + 32 + 1
    assert candidate.predict(batch).shape == (len(test), 2, *GRID)
    own, control = losses(head, test)
    variance = float(batch.target(candidate.group)[0].var())
    # Targets of other rooms cannot be read from the image; a probe that claims to has memorised.
    assert own < 0.1 * variance and control > 0.7 * variance


def test_each_feature_has_its_own_network_with_all_its_channels(split: tuple[Dataset, Dataset]) -> None:
    train, test = split

    def cell_colours(sample: Sample, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        return masked_average(sample.float_image(), sample.valid, grid)

    three = Feature("three", 3, cell_colours, support="depth")
    head = trained(train, replace(QUICK, kind="bins", epochs=25), group_of("depth", three))
    parameters = head.candidate.layers[0].parameters
    assert parameters == {"depth": 2 * 6 + 7 * 32, "three": 2 * 6 + 7 * 3 * 32}
    assert head.parameters == parameters["three"]
    red, green, blue = losses(head, test)[1:].tolist()
    assert max(red, green, blue) < 0.1 / 12  # the variance of a uniform colour is 1/12


def test_every_encoder_with_columns_gets_each_head() -> None:
    train = Dataset.whole(World(scenes=4))
    baselines = [open_baseline(name) for name in ("pixels", "constant")]
    participants = [reading(), *(Participant(one.on_grid(GRID), Role("baseline")) for one in baselines if one)]
    settings = [replace(QUICK, epochs=1), replace(QUICK, epochs=1, kind="bins")]
    heads = [head.candidate for head in fit_heads(participants, [group_of()], train, settings, SETTINGS)]
    # The constant has no column that a head could be trained on.
    assert [f"{head.encoder} {head.layers[0].name}" for head in heads] == [
        "module:colours mlp:all", "pixels mlp:all", "module:colours bins:all", "pixels bins:all",
    ]  # fmt: skip


def test_silog_trains_positive_targets_and_refuses_others(split: tuple[Dataset, Dataset]) -> None:
    train, test = split
    head = trained(train, replace(QUICK, kind="bins", loss="silog", epochs=25))
    assert float(losses(head, test)[0]) < 0.6 * linear_loss(train, test)
    with pytest.raises(UsageError, match=r"silog takes logarithms, and signed has values down to -"):
        trained(train, replace(QUICK, loss="silog"), group_of(Feature.from_function("signed", signed)))


def signed(sample: Sample, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    return masked_average(sample.depth - 3, sample.valid, grid)


def test_too_little_to_train_or_stop_on_is_said() -> None:
    with pytest.raises(UsageError, match="has 1 scene, too few"):
        trained(Dataset.whole(World(scenes=1)))

    class Blind(World):
        def read(self, index: int) -> Sample:
            sample = super().read(index)
            return sample if sample.scene == "scene1" else replace(sample, valid=torch.zeros_like(sample.valid))

    with pytest.raises(FathomError, match="mlp head for depth needs valid cells in at least two training scenes"):
        trained(Dataset.whole(Blind(scenes=4)))


def test_settings_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(UsageError, match=r"no head 'bin' \(did you mean 'bins'"):
        HeadSettings(kind="bin")
    with pytest.raises(UsageError, match=r"no loss 'silg'.*did you mean 'silog'"):
        HeadSettings(loss="silg")
    with pytest.raises(UsageError, match=r"share of 1\.0 is not between"):
        HeadSettings(validation=1.0)
    with pytest.raises(UsageError, match="'frames' of a head must be at least 1"):
        HeadSettings(frames=0)


SPREAD = Spread(torch.tensor([2.0, 1.0]), torch.tensor([0.5, 3.0]), torch.tensor([1.0, -4.0]), torch.tensor([9.0, 6.0]))


def test_bins_are_a_batch_norm_a_convolution_and_an_expectation() -> None:
    head = BinsHead(5, SPREAD, 16)
    maps = torch.randn(3, 5, 4, 6)
    rows = maps.permute(0, 2, 3, 1).reshape(-1, 5)
    for _ in range(20):
        head(rows * 3 + 1)
    head.eval()
    norm = head.norm
    normalised = F.batch_norm(maps, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
    logits = F.conv2d(normalised, head.logits.weight[:, :, None, None], head.logits.bias)
    expected = []
    for output, (low, high) in enumerate([(1.0, 9.0), (-4.0, 6.0)]):
        share = logits[:, 16 * output : 16 * (output + 1)].relu() + 0.1
        share = share / share.sum(1, keepdim=True)
        expected.append(torch.einsum("ikmn,k->imn", share, torch.linspace(low, high, 16)))
    found = head(rows).reshape(3, 4, 6, 2)
    torch.testing.assert_close(found, torch.stack(expected, 3))
    extreme = head(rows * 1e6)
    assert bool((extreme >= SPREAD.low - 1e-4).all() and (extreme <= SPREAD.high + 1e-4).all())
    assert parameter_count(head) == 2 * 5 + (5 + 1) * 32


@pytest.mark.parametrize("kind", ["mlp", "bins"])
def test_linear_part_and_finish_are_the_network(kind: str) -> None:
    head = build_head(kind, 5, SPREAD, Architecture(width=7, bins=8), seed=1)
    for _ in range(10):
        head(torch.randn(64, 5) * 4 - 2)
    head.eval()
    rows = torch.randn(9, 5)
    weight, bias = head.columns()
    torch.testing.assert_close(head.finish(rows @ weight + bias), head(rows))


def test_an_mlp_starts_about_the_mean_of_the_targets() -> None:
    head = MlpHead(5, SPREAD, 64)
    away = (head(torch.randn(500, 5)).detach() - SPREAD.mean) / SPREAD.deviation
    assert float(away.abs().mean()) < 0.5
