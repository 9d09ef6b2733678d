"""Every recipe trains, restores and colours pictures; its networks are the published ones."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colorjax import Colorizer, configuration, models
from colorjax.training import loop
from colorjax.training.assembly import create_parts, create_phases

ROOT = Path(__file__).parents[1]
RECIPES = sorted(path.stem for path in (ROOT / "configs").glob("*.py") if path.stem != "common")
VARIANTS = {
    "autoencoder_gan": ("demo", "ae5", "ae7", "ae7_leaky", "ae9_skip", "small"),
    "colorjax": ("flowers", "flowers_finish", "flowers_detail", "faces", "small"),
    "wgan": ("256", "small"),
}


def load(recipe: str, variant: str = ""):
    return configuration.load_recipe(f"{ROOT}/configs/{recipe}.py" + (variant and f":{variant}"))


def test_the_seven_systems_are_here():
    assert set(RECIPES) >= {
        "autoencoder",
        "autoencoder_gan",
        "cgan",
        "pix2pix",
        "resnet50",
        "resnet_unet",
        "wgan",
    }


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_trains_restores_and_colours(recipe, tmp_path, monkeypatch):
    config = load(recipe, "tiny")
    assert config.data.source == "garden"
    config.batch_size = 4
    config.data.garden_images = 24
    config.data.cache_dir = str(tmp_path / "cache")
    config.sample_images = 2
    for name in config.phase_order:
        config.phases[name].epochs = 1
        if "generator_steps" in config.phases[name]:
            config.phases[name].generator_steps = 1
    assert loop.train(config, tmp_path / "run") == 0
    picture = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    colored = Colorizer.load(tmp_path / "run").colorize(picture)
    assert colored.shape == (30, 40, 3)
    assert Image.open(next((tmp_path / "run/samples").iterdir())).size[0] > 2 * config.image_size


@pytest.mark.parametrize(
    ("recipe", "generator", "statistics", "critic"),
    [
        ("wgan", 31_036_546, None, 2_795_008),
        ("pix2pix", 54_409_858, None, 2_765_633),
        ("resnet_unet", 31_099_672, None, 2_765_633),
        ("autoencoder", 819_234, 820_770, None),
        ("resnet50", None, 514_338, None),
        ("autoencoder_gan:demo", 218_227, None, 454_849),
    ],
)
def test_a_recipe_has_the_published_networks(recipe, generator, statistics, critic):
    networks = models.create_networks(load(*recipe.split(":")))
    shapes = models.generator_shapes(networks)
    params = models.count_parameters(shapes["params"])
    assert generator in (None, params)
    assert statistics in (None, params + models.count_parameters(shapes["batch_stats"]))
    if critic is None:
        assert networks.critic is None
    else:
        assert models.count_parameters(models.critic_shapes(networks)["params"]) == critic


@pytest.mark.parametrize(
    ("recipe", "variant"), [(name, each) for name in VARIANTS for each in VARIANTS[name]]
)
def test_a_variant_describes_networks_that_can_be_made(recipe, variant):
    config = load(recipe, variant)
    parts = create_parts(config, create_phases(config), steps_per_epoch=10)
    has_critic = any(config.phases[name].objective != "reconstruction" for name in config.phases)
    assert (parts.critic is not None) == (has_critic and bool(config.critic.name))


def test_an_unknown_variant_is_an_error_that_names_those_there_are():
    for recipe in RECIPES:
        with pytest.raises(configuration.UserError, match="small, tiny"):
            load(recipe, "huge")
