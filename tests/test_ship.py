"""A shipped model colours as its run does, within what float16 keeps."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from colorjax import Colorizer, configuration
from colorjax.errors import UserError
from tools.ship import ship


def test_a_shipped_model_colours_as_its_run(model_folder: Path, tmp_path: Path) -> None:
    ship(f"{model_folder}@2", tmp_path / "flowers")
    image = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
    shipped, run = (
        Colorizer.load(name).predict_ab(image)
        for name in (tmp_path / "flowers", f"{model_folder}@2")
    )
    np.testing.assert_allclose(shipped, run, atol=0.2)
    assert sorted(path.name for path in (tmp_path / "flowers").iterdir()) == [
        "checksums.json",
        "config.json",
        "generator",
    ]
    with pytest.raises(UserError, match="not empty"):
        ship(str(model_folder), tmp_path / "flowers")


def test_the_config_tells_nothing_of_the_machine(model_folder: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(model_folder, tmp_path / "run"))
    config = configuration.read_config(run)
    config.data.source, config.data.cache_dir = "folder:/home/someone/flowers", "/home/someone/x"
    config.init_from = "/home/someone/run"
    configuration.save_config(config, run)
    ship(f"{run}@1", tmp_path / "model")
    assert "someone" not in (tmp_path / "model/config.json").read_text()
    assert configuration.read_config(tmp_path / "model").data.source == "folder:flowers"
