"""The models that come with colorjax: whole, found from anywhere, some of them in the wheel."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata, util
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from etils import epath
from PIL import Image
from skimage.color import rgb2lab

from colorjax import Colorizer
from colorjax.cli import main
from colorjax.colorize import shipped
from colorjax.colorize.model import find_model, list_names
from colorjax.data import garden
from colorjax.errors import UserError
from conftest import ROOT

LARGEST = {"flowers": 32_000_000, "faces": 16_000_000}  # bytes
DEFAULT = ROOT / "checkpoints/flowers"


@pytest.fixture(params=LARGEST)
def folder(request: pytest.FixtureRequest) -> Path:
    return ROOT / "checkpoints" / request.param


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def assert_coloured(path: Path) -> None:
    """Assert that a picture's mean chroma can't be taken for grey: 2.3 is just noticeable."""
    ab = rgb2lab(np.asarray(Image.open(path).convert("RGB")))[..., 1:]
    assert np.hypot(ab[..., 0], ab[..., 1]).mean() > 5


def save_grey_garden(path: Path) -> None:
    Image.fromarray(garden.draw(3, 160)).convert("L").save(path)


def test_a_shipped_folder_is_whole_and_small(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()} - {"pictures"}
    assert names == {"config.json", "checksums.json", "generator", "README.md", "LICENSE"}
    assert sum(path.stat().st_size for path in files_in(folder)) <= LARGEST[folder.name]
    assert not any(path.is_symlink() for path in folder.rglob("*"))


def test_a_shipped_folder_is_as_it_was_written(folder: Path) -> None:
    sums = json.loads((folder / "checksums.json").read_text())
    assert {folder / name for name in sums} == set(files_in(folder / "generator"))
    for name, expected in sums.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected


def test_a_shipped_config_names_no_place(folder: Path) -> None:
    assert "/" not in (folder / "config.json").read_text()


def test_weights_are_stored_in_half_and_computed_with_in_full(folder: Path) -> None:
    stored = ocp.StandardCheckpointHandler().metadata(epath.Path(folder / "generator")).tree
    assert {leaf.dtype for leaf in jax.tree.leaves(stored["params"])} == {np.dtype("float16")}
    colorizer = Colorizer.load(folder)
    assert {leaf.dtype for leaf in jax.tree.leaves(colorizer._variables)} == {np.dtype("float32")}
    assert find_model(folder).config.dtype == "float32"


def test_shipped_models_are_found_from_anywhere(work: Path) -> None:
    assert find_model(None).folder == DEFAULT
    for name in LARGEST:
        assert find_model(name).folder == ROOT / "checkpoints" / name
    # What bears a shipped model's name and is no model, such as photos, is not in the way.
    (work / "flowers").mkdir()
    (work / "faces").write_text("text")
    assert [find_model(name).folder.parent for name in LARGEST] == [DEFAULT.parent] * 2


def test_a_run_of_ones_own_goes_before_but_is_no_default(work: Path, model_folder: Path) -> None:
    shutil.copytree(model_folder, "checkpoints/flowers")
    assert find_model("flowers").folder == Path("checkpoints/flowers/best/2")
    assert find_model("flowers@1").folder == Path("checkpoints/flowers/steps/1")
    assert find_model(None).folder == DEFAULT
    shutil.copytree(model_folder, "faces")
    assert find_model("faces").folder == Path("faces/best/2")


def test_a_photo_is_coloured_without_naming_a_model(work: Path) -> None:
    save_grey_garden(work / "garden.png")
    assert main(["colorize", "garden.png"]) == 0
    assert_coloured(work / "colorized/garden.png")


@pytest.mark.parametrize("clone", [False, True])
def test_each_is_listed_once_and_the_default_first(
    clone: bool, work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if clone:
        monkeypatch.chdir(ROOT)
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "flowers  (shipped with colorjax; the default)",
        "faces  (shipped with colorjax)",
    ]
    assert not any(line.startswith(("flowers", "faces")) for line in lines[2:])
    assert list_names()[:2] == list(LARGEST)


def test_runs_are_listed_beside_them(
    work: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(model_folder, "checkpoints/faces")
    shutil.copytree(model_folder, "checkpoints/a-run")
    assert main(["models"]) == 0
    assert capsys.readouterr().out.splitlines()[:-1] == [
        "flowers  (shipped with colorjax; the default)",
        "a-run  (checkpoints/a-run; steps 1, 2)",
        "faces  (checkpoints/faces; steps 1, 2)",
    ]
    assert list_names() == ["flowers", "a-run", "faces"]


def test_what_an_installed_package_lacks_is_told(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(DEFAULT, tmp_path / "shipped/flowers")
    monkeypatch.setattr(shipped, "PLACES", (tmp_path / "shipped",))
    assert find_model("flowers").folder == tmp_path / "shipped/flowers"
    assert list_names() == ["flowers"]
    for photos in (False, True):
        if photos:
            (work / "faces").mkdir()
        with pytest.raises(UserError, match=r"not part of the installed package.* clone") as caught:
            find_model("faces")
        assert len(str(caught.value).splitlines()) == 1


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this repository, built in a copy, as building leaves files behind."""
    if util.find_spec("pip") is None:
        pytest.skip("pip is not installed")
    if (
        util.find_spec("setuptools") is None
        or int(metadata.version("setuptools").split(".")[0]) < 77
    ):
        pytest.skip("setuptools 77 or later is not installed")
    source = tmp_path_factory.mktemp("source")
    for name in ("colorjax", "checkpoints/flowers", "checkpoints/faces"):
        shutil.copytree(
            ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*build, "--wheel-dir", "built", "."], cwd=source, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    [built] = (source / "built").iterdir()
    return built


def test_the_wheel_holds_the_flowers_as_they_are_and_no_faces(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    wanted = [path for path in files_in(DEFAULT) if path.parent.name != "pictures"]
    for path in wanted:
        assert held[f"colorjax/shipped/flowers/{path.relative_to(DEFAULT)}"] == path.read_bytes()
    assert sum(name.startswith("colorjax/shipped/") for name in held) == len(wanted)
    assert not [name for name in held if "faces" in name]
    [licence] = [
        name for name in held if name.endswith("licenses/colorjax/shipped/flowers/LICENSE")
    ]
    assert held[licence] == (DEFAULT / "LICENSE").read_bytes()


def test_an_installed_wheel_colours_and_tells_where_the_faces_are(
    wheel: Path, tmp_path: Path
) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    work = tmp_path / "work"
    work.mkdir()
    save_grey_garden(work / "garden.png")
    code = "import sys, colorjax.cli; print(colorjax.__file__); sys.exit(colorjax.cli.main())"
    done = [
        subprocess.run(
            [sys.executable, "-c", code, "colorize", "garden.png", *arguments],
            cwd=work,
            env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
            capture_output=True,
            text=True,
        )
        for arguments in ([], ["--model", "faces"])
    ]
    assert [each.returncode for each in done] == [0, 2], done[0].stderr
    for each in done:
        assert each.stdout.startswith(str(tmp_path / "site/colorjax/__init__.py"))
    assert_coloured(work / "colorized/garden.png")
    assert "not part of the installed package" in done[1].stderr
    assert len(done[1].stderr.splitlines()) == 1
