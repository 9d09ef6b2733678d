import pytest

from colorjax import configuration
from colorjax.errors import UserError
from conftest import ROOT

WGAN = str(ROOT / "configs/wgan.py")


def test_a_config_comes_back_from_its_folder_as_it_was(tiny_config, tmp_path):
    configuration.save_config(tiny_config, tmp_path)
    assert configuration.read_config(tmp_path).to_dict() == tiny_config.to_dict()
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [("configs/wgan.py", "checkpoints/wgan"), ("configs/wgan.py:256", "checkpoints/wgan-256")],
)
def test_default_folder_is_named_after_recipe_and_variant(recipe, expected):
    assert str(configuration.default_workdir(recipe)) == expected


def test_the_full_recipe_is_the_published_one():
    config = configuration.load_recipe(WGAN)
    assert config.data.source == "tfds:oxford_flowers102"
    assert (config.image_size, config.batch_size, config.seed) == (128, 64, 42)
    assert config.data.split_fractions == (0.7, 0.15, 0.15)
    assert (config.phases.pretraining.epochs, config.phases.adversarial.epochs) == (5, 110)
    adversarial = config.phases.adversarial
    assert (adversarial.generator_steps, adversarial.critic_steps) == (2, 1)
    assert adversarial.gradient_penalty_weight == 10.0
    assert adversarial.reconstruction_weight == adversarial.adversarial_weight == 1.0
    for optimizer in (config.generator_optimizer, config.critic_optimizer):
        assert (optimizer.learning_rate, optimizer.b1, optimizer.b2) == (2e-4, 0.0, 0.9)
    assert configuration.load_recipe(WGAN + ":256").image_size == 256


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("configs/nowhere.py", "There is no recipe configs/nowhere.py"),
        (WGAN + ":huge", "no variant 'huge': choose one of 256, small, tiny"),
        (str(ROOT / "configs/../setup.cfg"), "is not a Python file"),
        (str(ROOT / "train.py") + "/x", "There is no recipe"),
    ],
)
def test_recipes_that_are_not_there_are_errors(recipe, message):
    with pytest.raises(UserError, match=message):
        configuration.load_recipe(recipe)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, r"has no config\.json"), ("{", "is damaged"), ("[1]", "is damaged")],
)
def test_folders_without_a_config_are_errors(tmp_path, content, message):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=message):
        configuration.read_config(tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("data.threads", 0, "config.data.threads=0: give a number from 1 to"),
        ("data.prefetch", -1, "config.data.prefetch=-1: give a number from 0 to"),
        ("data.crop_size", 8193, "config.data.crop_size=8193: give a number from 0 to 8192"),
        ("data.load_size", (16,), r"config.data.load_size is \(16,\): give \(height, width\)"),
        ("data.load_size", (16, 0), r"config.data.load_size is \(16, 0\)"),
        ("data.load_size", (16, 16.5), r"config.data.load_size is \(16, 16.5\)"),
        ("data.load_size", (16, 8193), "each from 1 to 8192"),
        ("ema_decay", float("nan"), "config.ema_decay=nan"),
        ("checkpoint.every_steps", -1, "config.checkpoint.every_steps=-1"),
    ],
)
def test_numbers_out_of_range_are_named(tiny_config, field, value, message):
    configuration.check_ranges(tiny_config)
    tiny_config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=message):
        configuration.check_ranges(tiny_config)


def test_a_run_from_before_a_field_was_born_is_resumed_as_it_was_trained(tiny_config, tmp_path):
    old = tiny_config.copy_and_resolve_references()
    del old.phases.pretraining["class_weight"]
    configuration.check_resumable(old, tiny_config, tmp_path)
    tiny_config.phases.pretraining.class_weight = 0.5
    with pytest.raises(UserError, match=r"pretraining\.class_weight=0\.0, not 0\.5"):
        configuration.check_resumable(old, tiny_config, tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [("phases.adversarial.epochs", 9), ("checkpoint.keep", 5), ("data.cache_dir", "elsewhere")],
)
def test_what_does_not_change_the_training_may_change_on_resuming(
    tiny_config, tmp_path, field, value
):
    changed = tiny_config.copy_and_resolve_references()
    changed.update_from_flattened_dict({field: value})
    configuration.check_resumable(tiny_config, changed, tmp_path)
