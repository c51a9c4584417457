"""Recipes: typed, explained when wrong, the same after a trip through their file."""

from __future__ import annotations

from pathlib import Path

import pytest

from fathom.errors import DataError, UsageError
from fathom.models import MODELS
from fathom.training.losses import LOSSES
from fathom.training.recipe import LOSS_TERMS, Recipe, from_table, load_recipe, recipe_names
from tests.training import painted

FULL = ("autoencoder", "residual_cnn", "unet", "plain_cnn", "gradient", "edge_guided", "pretrained-unet")


def test_every_network_has_a_full_and_a_tiny_recipe() -> None:
    assert set(recipe_names()) == {*FULL, *(f"tiny-{name}" for name in FULL)}
    assert {name.replace("-", "_") for name in FULL} == set(MODELS)


@pytest.mark.parametrize("name", [*FULL, *(f"tiny-{name}" for name in FULL)])
def test_a_shipped_recipe_reads_and_survives_its_file(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.model.name == name.removeprefix("tiny-").replace("-", "_")
    path = tmp_path / "recipe.toml"
    path.write_text(recipe.to_toml())
    assert load_recipe(path) == recipe
    assert from_table(recipe.table()) == recipe


def test_the_loss_terms_of_a_recipe_are_those_that_exist() -> None:
    assert set(LOSS_TERMS) == set(LOSSES)


@pytest.mark.parametrize(
    ("setting", "get", "value"),
    [
        ("optim.lr=1e-3", lambda r: r.optim.lr, 1e-3),
        ("optim.lr=1", lambda r: r.optim.lr, 1.0),
        ("train.steps=7", lambda r: r.train.steps, 7),
        ("memory.checkpoint=true", lambda r: r.memory.checkpoint, True),
        ("data.size=32x48", lambda r: r.data.size, (32, 48)),
        ('optim.freeze=["down"]', lambda r: r.optim.freeze, ("down",)),
        ("data.size=[32, 48]", lambda r: r.data.size, (32, 48)),
        ("model.widths=[32, 64]", lambda r: r.model.config.widths, (32, 64)),
        ("model.output=log", lambda r: r.model.config.output, "log"),
        ("loss.silog=0.5", lambda r: r.loss.weights().get("silog"), 0.5),
    ],
)
def test_a_setting_changes_its_key_and_nothing_else(setting: str, get: object, value: object) -> None:
    before, after = load_recipe("unet"), load_recipe("unet", [setting])
    assert get(after) == value and get(before) != value  # type: ignore[operator]
    section, key = setting.partition("=")[0].split(".")
    mine, theirs = before.table(), after.table()
    mine[section].pop(key), theirs[section].pop(key)
    assert mine == theirs


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("optim.lrr=1", r"optim has no key 'lrr' \(did you mean 'lr'\?\)"),
        ("optm.lr=1", r"no section 'optm' \(did you mean 'optim'\?\)"),
        ("optim.lr=fast", "optim.lr should be a number, not 'fast'"),
        ("optim.lr=true", "optim.lr should be a number, not True"),
        ("train.steps=1.5", "train.steps should be a whole number, not 1.5"),
        ("train.steps=0", "train.steps should be a whole number >= 1, not 0"),
        ("train.steps=nan", "train.steps should be a finite number"),
        ("optim.lr=inf", "optim.lr should be a finite number"),
        ("train.seed=99999999999999999999", "train.seed should be a finite number of at most 18 digits"),
        ("optim.rates={encoder = -1}", r"optim\.rates should be a number >= 0\.0, not \{'encoder': -1\}"),
        ("optim.betas=[0.9, 1.0]", r"optim\.betas should be a number < 1\.0, not 1\.0"),
        ("loss.l1=1", r"loss has no key 'l1' \(did you mean 'mae'\?\)"),
        ("optim.learning_rate=1", r"optim has no key 'learning_rate' \(did you mean 'lr'\?\)"),
        ("data.size=64", r"data\.size should be a list, not 64 \(height x width: did you mean 64x64\?\)"),
        ("data.size=64*64", r"data\.size should be a list, not '64\*64'"),
        ("data=3", "is not a setting"),
        ("memory.checkpoint=1", "memory.checkpoint should be true or false, not 1"),
        ("optim.name=adm", r"should be one of adamw, adam, sgd, not 'adm' \(did you mean 'adam'\?\)"),
        ("data.size=[1, 2, 3]", "data.size should be a list of length 2"),
        ("data.size=3", "data.size should be a list"),
        ("model.widhts=[8]", r"model has no key 'widhts' \(did you mean 'widths'\?\)"),
        ("model.widths=8", "model.widths should be a list"),
        ("model.name=unett", r"no model 'unett' \(did you mean 'unet'\?\)"),
        ("name=x", "is not a setting"),
        ("optim.lr", "is not a setting"),
    ],
)
def test_what_a_recipe_does_not_mean_is_refused_in_one_sentence(setting: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        load_recipe("unet", [setting])
    assert "\n" not in str(caught.value)


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'unet'"):
        load_recipe("unett")


def test_a_recipe_file_of_the_wrong_type_or_form_is_named(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text('[model]\nname = "unet"\n[optim]\nlr = "high"\n')
    with pytest.raises(UsageError, match=r"wrong\.toml: optim\.lr should be a number, not 'high'"):
        load_recipe(wrong)
    wrong.write_text("[model\n")
    with pytest.raises(DataError, match="is not a TOML file"):
        load_recipe(wrong)
    with pytest.raises(DataError, match="does not exist"):
        load_recipe(tmp_path / "missing.toml")
    wrong.write_text("[optim]\nlr = 1.0\n")
    with pytest.raises(UsageError, match=r"\[model\] needs a name"):
        load_recipe(wrong)
    wrong.write_text("model = 3\n")
    with pytest.raises(UsageError, match=r"\[model\] needs a name"):
        load_recipe(wrong)


def test_changing_the_network_drops_the_settings_of_the_other() -> None:
    recipe = load_recipe("tiny-unet", ["model.name=plain_cnn", "model.activation=tanh"])
    assert recipe.model.config == MODELS["plain_cnn"].Config(activation="tanh")


def test_a_loss_needs_a_term() -> None:
    with pytest.raises(UsageError, match="loss needs a weight"):
        from_table(painted.recipe() | {"loss": {"mae": 0.0}})


def test_a_recipe_of_defaults_needs_a_model_alone() -> None:
    recipe = from_table({"model": {"name": "residual_cnn"}})
    assert isinstance(recipe, Recipe) and recipe.name == "residual_cnn"


def test_a_recipe_inherits_and_changes_what_it_names(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('name = "mine"\nbase = "tiny-unet"\n[optim]\nlr = 5e-4\n[model]\nblocks = 2\n')
    (tmp_path / "child.toml").write_text('base = "mine.toml"\n[train]\nsteps = 7\n')
    whole, mine, child = (load_recipe(r) for r in ("tiny-unet", tmp_path / "mine.toml", tmp_path / "child.toml"))
    assert (mine.name, mine.optim.lr, mine.model.config.blocks) == ("mine", 5e-4, 2)
    assert mine.model.config.widths == whole.model.config.widths and mine.augment == whole.augment
    assert (child.train.steps, child.optim.lr, child.train.batch) == (7, 5e-4, whole.train.batch)


def test_a_recipe_of_another_network_inherits_none_of_its_settings(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('base = "tiny-unet"\n[model]\nname = "residual_cnn"\nwidth = 8\n')
    recipe = load_recipe(tmp_path / "a.toml")
    assert recipe.model.config == MODELS["residual_cnn"].Config(width=8)


def test_recipes_that_inherit_from_each_other_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('base = "b.toml"\n')
    (tmp_path / "b.toml").write_text('base = "a.toml"\n')
    with pytest.raises(UsageError, match="leads back to the recipe itself"):
        load_recipe(tmp_path / "a.toml")


@pytest.mark.parametrize(
    ("setting", "meant"), [("lr=1e-3", "'optim.lr'"), ("seed=1", "'train.seed' or 'validation.seed'")]
)
def test_a_setting_without_its_section_names_the_section(setting: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"did you mean {meant}"):
        load_recipe("tiny-unet", [setting])
