"""A shipped model colours as its run does, within what float16 keeps."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from colorjax import Colorizer, checkpoint, configuration
from colorjax.errors import UserError
from colorjax.models import create_networks
from conftest import ROOT
from tools.ship import ship


def test_a_shipped_model_colours_as_its_run(model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "flowers"
    ship(f"{model_folder}@2", folder)
    image = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
    shipped, run = (
        Colorizer.load(name).predict_ab(image) for name in (folder, f"{model_folder}@2")
    )
    np.testing.assert_allclose(shipped, run, atol=0.2)
    assert names_in(folder) == ["checksums.json", "config.json", "generator"]
    with pytest.raises(UserError, match=r"remove config\.json, checksums\.json, gen"):
        ship(str(model_folder), folder)


def test_what_else_lies_in_the_folder_is_no_part_of_the_model(
    model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "pictures").mkdir()
    for name in ("LICENSE", "README.md", "pictures/roses.jpg"):
        (tmp_path / name).write_text(name)
    ship(str(model_folder), tmp_path)
    sums = json.loads((tmp_path / "checksums.json").read_text())
    assert {name.split("/")[0] for name in sums} == {"generator"}
    (tmp_path / "pictures/roses.jpg").write_text("others")
    Colorizer.load(tmp_path)
    assert (tmp_path / "LICENSE").read_text() == "LICENSE"


def test_the_config_is_that_of_any_machine(model_folder: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(model_folder, tmp_path / "run"))
    config = configuration.read_config(run)
    config.data.source, config.data.cache_dir = "folder:/home/someone/flowers", "/home/someone/x"
    config.data.validation_source = "folder:/home/someone/roses"
    config.init_from = "/home/someone/run"
    config.pretrained = "/home/someone/resnet18.npz"
    config.dtype = "bfloat16"
    configuration.save_config(config, run)
    ship(f"{run}@1", tmp_path / "model")
    assert "someone" not in (tmp_path / "model/config.json").read_text()
    shipped = configuration.read_config(tmp_path / "model")
    assert shipped.data.source == "folder:flowers"
    assert shipped.data.validation_source == "folder:roses"
    assert shipped.dtype == "float32"


def test_a_shipped_model_may_be_more_vivid_than_its_run(tmp_path: Path) -> None:
    config = configuration.load_recipe(str(ROOT / "configs/colorjax.py") + ":tiny")
    config.generator.widths = (4, 8)
    config.generator.blocks = (1, 1)
    networks = create_networks(config)
    variables = networks.generator.init(jax.random.key(0), np.zeros((1, 32, 32, 1)), False)
    checkpoint.save_model(tmp_path / "run", variables)
    configuration.save_config(config, tmp_path / "run")
    ship(str(tmp_path / "run"), tmp_path / "plain")
    ship(str(tmp_path / "run"), tmp_path / "vivid", saturation=1.5)
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    plain, vivid = (
        Colorizer.load(tmp_path / name).predict_ab(image) for name in ("plain", "vivid")
    )
    assert np.abs(plain).max() > 1
    np.testing.assert_allclose(vivid, 1.5 * plain, rtol=1e-4, atol=1e-4)


def test_what_is_too_large_for_half_precision_is_kept_whole(tmp_path: Path) -> None:
    config = configuration.load_recipe(str(ROOT / "configs/wgan.py") + ":tiny")
    config.generator.widths = (4, 8)
    network = create_networks(config).generator
    variables = network.init(jax.random.key(0), np.zeros((1, 32, 32, 1)), False)
    variables["batch_stats"]["DoubleConv_0"]["BatchNorm_0"]["var"] += 1e6
    variables["params"]["DoubleConv_0"]["BatchNorm_0"]["scale"] *= 1e3
    checkpoint.save_model(tmp_path / "run", variables)
    configuration.save_config(config, tmp_path / "run")
    ship(str(tmp_path / "run"), tmp_path / "model")
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    shipped, run = (Colorizer.load(tmp_path / name).predict_ab(image) for name in ("model", "run"))
    assert np.abs(run).max() > 1
    np.testing.assert_allclose(shipped, run, atol=0.2)


def test_weights_that_are_not_finite_are_not_shipped(tmp_path: Path) -> None:
    config = configuration.load_recipe(str(ROOT / "configs/wgan.py") + ":tiny")
    config.generator.widths = (4, 8)
    network = create_networks(config).generator
    variables = network.init(jax.random.key(0), np.zeros((1, 32, 32, 1)), False)
    variables["params"]["Conv_0"]["bias"] += np.nan
    checkpoint.save_model(tmp_path / "run", variables)
    configuration.save_config(config, tmp_path / "run")
    with pytest.raises(UserError, match="weights that are not finite"):
        ship(str(tmp_path / "run"), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_network_without_saturation_is_not_given_one(model_folder: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(model_folder, tmp_path / "run"))
    config = configuration.read_config(run)
    config.generator = ConfigDict({"name": "block_unet", "widths": (4, 8)})
    configuration.save_config(config, run)
    with pytest.raises(UserError, match="saturation does not apply to block_unet"):
        ship(f"{run}@1", tmp_path / "model", saturation=1.5)
    assert not (tmp_path / "model").exists()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
