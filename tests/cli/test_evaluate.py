"""`colorjax evaluate`: figures by a second implementation, the table, its files, its errors."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.color import deltaE_ciede2000, lab2rgb, rgb2lab
from skimage.metrics import peak_signal_noise_ratio

from colorjax import Colorizer, configuration, metrics, parallel
from colorjax.checkpoint import CheckpointStore
from colorjax.cli import main
from colorjax.colorize.model import find_model, read_variables
from colorjax.models import create_networks, critic_shapes, generator_shapes
from conftest import save_picture as save


def test_evaluate_agrees_with_a_second_implementation(
    work: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save("one/a.png", 40, 28, seed=3)
    shutil.copytree(model_folder, "plain")
    shutil.rmtree("plain/best/2/critic")
    names = [f"{model_folder}@1", "plain"]
    arguments = ["--data", "folder:one", "--split", "all", "--json", "figures.json"]
    assert main(["evaluate", "--models", *names, *arguments]) == 0
    figures = json.loads(Path("figures.json").read_text())
    assert list(figures) == names
    constant, plain = figures.values()
    expected = expected_figures("one/a.png", (20.0, -15.0))
    assert set(constant) == set(plain) == KEYS
    assert {key: constant[key] for key in expected} == pytest.approx(expected, rel=1e-3)
    assert isinstance(constant["gan_loss"], float)
    assert plain["gan_loss"] is None
    rows = parse_table(capsys.readouterr().out)
    share = constant["colorfulness"] / constant["colorfulness_real"]
    assert rows[names[0]] == {
        # One picture: its mean has an interval without width.
        "L1": f"{expected['l1']:.4f} ±0.0000",
        "GAN loss": f"{constant['gan_loss']:.4f} ±0.0000",
        "PSNR (dB)": f"{expected['psnr']:.2f} ±0.00",
        "SSIM": f"{constant['ssim']:.3f} ±0.000",
        "CIEDE2000": f"{expected['ciede2000']:.2f} ±0.00",
        "colourfulness": f"{constant['colorfulness']:.1f} ±0.0",
        "of photos'": f"{share:.2f}",
    }
    assert rows["plain"]["GAN loss"] == "-"
    assert rows["grey"]["PSNR (dB)"] == f"{expected['gray_psnr']:.2f}"
    assert rows["grey"]["colourfulness"] == "0.0"
    assert rows["constant"]["CIEDE2000"] == f"{expected['constant_ciede2000']:.2f}"
    assert rows["photos"]["colourfulness"] == f"{constant['colorfulness_real']:.1f}"


def parse_table(text: str) -> dict[str, dict[str, str]]:
    """Return the cells of each row by the columns' titles."""
    titles, *rows = [re.split(r"\s{2,}", line) for line in text.splitlines()]
    return {row[0]: dict(zip(titles[1:], row[1:], strict=True)) for row in rows if row[1:]}


def test_models_of_other_sizes_have_their_own_baselines(
    work: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(3):
        save(f"photos/{seed}.png", 40, 28, seed)
    copy_at_size(model_folder, "large", 32)
    models = [f"{model_folder}@1", "large", f"{model_folder}@2"]
    arguments = ["--data", "folder:photos", "--split", "all"]
    files = ["--json", "new/figures.json", "--markdown", "table.md", "--each", "each.csv"]
    assert main(["evaluate", "--models", *models, *arguments, *files]) == 0
    figures = json.loads(Path("new/figures.json").read_text())
    assert list(figures) == models
    with open("each.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["model"], row["picture"]) for row in rows] == [
        (model, f"{seed}.png") for model in models for seed in range(3)
    ]
    for model in models:
        psnr = [float(row["psnr"]) for row in rows if row["model"] == model]
        assert np.mean(psnr) == pytest.approx(figures[model]["psnr"], rel=1e-4)
    text = Path("table.md").read_text()
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    assert [line[:2] for line in lines[2:]] == [
        [models[0], "1"],
        [models[2], "1"],
        *([name, "1"] for name in ("grey", "constant", "photos")),
        ["large", "2"],
        *([name, "2"] for name in ("grey", "constant", "photos")),
    ]
    gray = [line[4] for line in lines if line[0] == "grey"]
    assert gray == [f"{figures[name]['gray_psnr']:.2f}" for name in (models[0], "large")]
    assert gray[0] != gray[1]
    for size in (16, 32):
        assert f"3 pictures, all of folder:photos, at {size}x{size}." in text
    assert text.splitlines()[4].split(" | ")[4] in capsys.readouterr().out


def evaluate(*arguments: str) -> dict[str, dict[str, float]]:
    """Return the figures of all pictures of a folder, by model."""
    assert main(["evaluate", "--split", "all", "--json", "figures.json", *arguments]) == 0
    figures: dict[str, dict[str, float]] = json.loads(Path("figures.json").read_text())
    return figures


def test_the_training_size_may_be_asked_for(work: Path, model_folder: Path) -> None:
    for seed in range(3):
        save(f"photos/{seed}.png", 40, 28, seed)
    arguments = ["--models", str(model_folder), "--data", "folder:photos"]
    assert evaluate(*arguments, "--size", "16") == evaluate(*arguments)


@pytest.fixture(scope="module")
def vivid_model(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of stronger colours than weights predict as they start."""
    files = find_model(model_folder)
    networks, mesh = create_networks(files.config), parallel.create_mesh()
    generator = read_variables(files, "generator", generator_shapes(networks), mesh)
    generator["params"]["Conv_0"]["kernel"] *= 10.0
    critic = read_variables(files, "critic", critic_shapes(networks), mesh)
    folder = tmp_path_factory.mktemp("vivid") / "model"
    folder.mkdir()
    configuration.save_config(files.config, folder)
    store = CheckpointStore(folder, keep=1)
    store.save_best(1, {"generator": generator, "critic": critic})
    store.close()
    return folder


@pytest.mark.parametrize("size", [12, 32])
def test_figures_at_another_size_are_those_of_the_colorizer(
    work: Path, vivid_model: Path, size: int
) -> None:
    save_smooth("photos/a.png", seed=3)
    arguments = ["--models", str(vivid_model), "--data"]
    [figures] = evaluate(*arguments, "folder:photos", "--size", str(size)).values()
    assert figures["size"] == size
    photo = Image.open("photos/a.png").resize((size, size), Image.Resampling.BICUBIC)
    true = np.asarray(photo)
    colored = Colorizer.load(vivid_model).colorize(true)
    assert metrics.colorfulness(colored / 255) > 10
    psnr = float(metrics.psnr(colored / 255, true / 255))
    assert figures["psnr"] == pytest.approx(psnr, abs=0.02)
    lab, true_lab = rgb2lab(colored), rgb2lab(true)
    difference = deltaE_ciede2000(lab, true_lab).mean()
    assert figures["ciede2000"] == pytest.approx(float(difference), abs=0.1)
    l1 = np.abs(lab - true_lab)[..., 1:].mean() / 110
    assert figures["l1"] == pytest.approx(float(l1), abs=2e-3)
    gray = lab2rgb(np.dstack([true_lab[..., :1], np.zeros_like(true_lab[..., 1:])]))
    expected = peak_signal_noise_ratio(true / 255, gray, data_range=1.0)
    assert figures["gray_psnr"] == pytest.approx(expected, abs=0.02)
    # The critic judges what the network sees, here rounded to 8 bits, and what it then predicts.
    seen = photo.resize((16, 16), Image.Resampling.BICUBIC)
    Path("seen").mkdir()
    seen.save("seen/a.png")
    [judged] = evaluate(*arguments, "folder:seen").values()
    assert figures["gan_loss"] == pytest.approx(judged["gan_loss"], rel=0.1)


def save_smooth(path: str, seed: int) -> None:
    """Write a picture in which colours flow into each other."""
    pixels = np.random.default_rng(seed).integers(80, 170, (6, 5, 3), dtype=np.uint8)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).resize((40, 48), Image.Resampling.BICUBIC).save(path)


def test_models_of_all_sizes_share_one_size(
    work: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(3):
        save(f"photos/{seed}.png", 40, 28, seed)
    copy_at_size(model_folder, "large", 32)
    models = [str(model_folder), "large"]
    figures = evaluate("--models", *models, "--data", "folder:photos", "--size", "24")
    small, large = figures.values()
    assert small["psnr"] != large["psnr"]
    shared = [name for name in small if name.startswith(("gray", "constant"))]
    assert [small[name] for name in shared] == [large[name] for name in shared]
    assert small["size"] == large["size"] == 24
    output = capsys.readouterr().out
    assert [row for row in parse_table(output) if row in (*models, "grey")] == [*models, "grey"]
    assert "3 pictures, all of folder:photos, at 24x24." in output
    notes = " ".join(output.split())
    assert "squashed bicubically to 24x24" in notes
    assert "to the model's training size" not in notes


def copy_at_size(model: Path, name: str, size: int) -> None:
    """Copy a model to a folder of its own, as if it had been trained at another size."""
    copy = Path(shutil.copytree(model, name))
    shutil.rmtree(copy / "best/2/critic")
    config = configuration.read_config(copy)
    config.image_size, config.data.cache_dir = size, "elsewhere"
    configuration.save_config(config, copy)


def test_heat_maps_are_drawn_of_some_pictures(work: Path, model_folder: Path) -> None:
    for seed in range(9):
        save(f"photos/{seed}.png", 40, 28, seed)
    arguments = ["--data", "folder:photos", "--split", "all", "--heat-maps", "maps.jpg"]
    assert main(["evaluate", "--models", str(model_folder), *arguments]) == 0
    sheet = Image.open("maps.jpg")
    assert sheet.format == "JPEG"
    assert sheet.width == 3 * (192 + 8) + 8
    assert 6 * 192 * 3 / 2 < sheet.height < 9 * 192 * 3 / 2


MEANS = ["psnr", "psnr_lab", "ssim", "ciede2000", "colorfulness", "colorfulness_abs", "l1"]
MEANS += ["gan_loss"]
KEYS = {
    "images",
    "size",
    "psnr",
    "psnr_lab",
    "ssim",
    "ciede2000",
    "colorfulness",
    "colorfulness_abs",
    "colorfulness_real",
    "l1",
    "gan_loss",
    "gray_psnr",
    "gray_ssim",
    "gray_ciede2000",
    "constant_psnr",
    "constant_ciede2000",
    "fid",
    *(f"{name}_{bound}" for name in MEANS for bound in ("low", "high")),
}


def expected_figures(path: str, ab: tuple[float, float]) -> dict[str, float]:
    """Return figures of a constant prediction, by scikit-image."""
    lab = rgb2lab(np.asarray(Image.open(path).resize((16, 16), Image.Resampling.BICUBIC)))
    predictions = {"": ab, "gray_": (0.0, 0.0), "constant_": lab[..., 1:].mean(axis=(0, 1))}
    figures: dict[str, float] = {
        "images": 1,
        "size": 16,
        "l1": float(np.abs(lab[..., 1:] - ab).mean() / 110),
        "psnr_lab": float(-10 * np.log10((np.square(lab[..., 1:] - ab) / 110**2).sum() / 768)),
    }
    for name, color in predictions.items():
        predicted = lab2rgb(np.dstack([lab[..., :1], np.broadcast_to(color, (16, 16, 2))]))
        error = np.square(predicted - lab2rgb(lab)).mean()
        figures[f"{name}psnr"] = float(-10 * np.log10(error))
        figures[f"{name}ciede2000"] = float(deltaE_ciede2000(rgb2lab(predicted), lab).mean())
    return figures


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "nowhere", "--data", "garden"], "There is no model"),
        (["--models", "MODEL", "--data", "flowers"], "a source is folder:PATH"),
        (["--models", "MODEL", "--data", "folder:nowhere"], "There is no folder"),
        (["--models", "MODEL", "--data", "folder:one", "--split", "train"], "--split all"),
        (["--models", "MODEL", "--data", "folder:one", "--json", "one"], "is a folder"),
        (
            ["--models", "MODEL", "--data", "folder:one", "--json", "one/a.png/x"],
            "can't be written",
        ),
        (["--models", "MODEL", "--data", "folder:one", "--markdown", "one"], "is a folder"),
        (["--models", "MODEL", "--data", "folder:one", "--heat-maps", "a.gif"], "no PNG or JPEG"),
        (["--models", "MODEL", "--data", "folder:one", "--size", "10"], "'10': give 11 to 2048"),
        (["--models", "MODEL", "--data", "folder:one", "--size", "2049"], "give 11 to 2048"),
        (["--models", "MODEL", "--data", "folder:one", "--size", "big"], "'big': give 11"),
    ],
)
def test_misuse_of_evaluate(
    work: Path,
    model_folder: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save("one/a.png")  # its hash puts it into the test split
    arguments = [text.replace("MODEL", str(model_folder)) for text in arguments]
    assert main(["evaluate", *arguments]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
