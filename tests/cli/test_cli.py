"""The program: exit statuses, one-sentence errors, files and figures."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.color import rgb2lab

from colorjax.cli import main
from conftest import save_picture as save

ROOT = Path(__file__).parents[2]


def colorize(*arguments: object) -> int:
    return main(["colorize", *map(str, arguments)])


def written(folder: str = "colorized") -> list[str]:
    root = Path(folder)
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def only_line(capsys: pytest.CaptureFixture[str]) -> str:
    output = capsys.readouterr()
    lines = output.err.strip().splitlines()
    assert len(lines) == 1, output.err
    assert not output.out
    return lines[0]


def test_a_reader_who_leaves_is_no_failure() -> None:
    read, write = os.pipe()
    os.close(read)  # as `| head` does once it has its lines
    command = [sys.executable, "-m", "colorjax", "models"]
    ended = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_help_needs_no_jax() -> None:
    code = (
        "import sys; from colorjax.cli import main\n"
        "assert main(['--help']) == 0 and main(['evaluate', '--help']) == 0\n"
        "assert not {'jax', 'numpy', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_colouring_a_photo_imports_nothing_that_it_does_not_need(
    work: Path, model_folder: Path
) -> None:
    save("photo.jpg")
    code = (
        "import sys; from colorjax.cli import main\n"
        f"assert main(['colorize', {str(work / 'photo.jpg')!r}, '--model', {str(model_folder)!r},"
        f" '--output', {str(work / 'coloured.png')!r}]) == 0\n"
        "print({'scipy', 'grain', 'tensorflow_datasets', 'gradio', 'matplotlib', 'skimage', 'av',"
        " 'requests'}"
        " & {name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.endswith("set()\n")


def test_python_m_is_the_same_program(work: Path) -> None:
    command = [sys.executable, "-m", "colorjax", "models", "--what"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr == "error: unrecognized arguments: --what (see colorjax --help)\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["paint"],
        ["colorize"],
        ["colorize", "a.png", "--size", "large"],
        ["colorize", "a.png", "--format", "gif"],
        ["evaluate"],
    ],
)
def test_wrong_calls(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert only_line(capsys).startswith("error: ")


def test_folders_keep_their_tree_and_a_second_run_skips(
    work: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save("photos/a.png", 1, 1)
    save("photos/deep/er/b.JPG", 33, 7)
    arguments = ("photos", "--model", model_folder)
    assert colorize(*arguments) == 0
    assert written() == ["a.png", "deep/er/b.png"]
    assert Image.open("colorized/deep/er/b.png").size == (7, 33)
    assert capsys.readouterr().out.splitlines() == [
        "photos/a.png -> colorized/a.png",
        "photos/deep/er/b.JPG -> colorized/deep/er/b.png",
    ]
    Path("colorized/a.png").write_text("mine")
    assert colorize(*arguments) == 0
    assert "exists" in capsys.readouterr().err
    assert Path("colorized/a.png").read_text() == "mine"
    assert colorize(*arguments, "--overwrite") == 0
    assert Image.open("colorized/a.png").size == (1, 1)


def test_results_are_no_inputs(work: Path, model_folder: Path) -> None:
    save("a.png")
    for _ in range(2):
        assert colorize(".", "--model", model_folder) == 0
        assert written() == ["a.png"]


def test_inputs_of_one_stem_never_share_an_output(work: Path, model_folder: Path) -> None:
    for seed, path in enumerate(("x/a.png", "x/a.jpg", "y/a.png", "x/A.bmp", "x/b.png")):
        save(path, seed=seed, width=20 + seed)
    assert colorize("x", "y/a.png", "x/a.png", "--model", model_folder) == 0
    assert written() == ["A.bmp.png", "a.jpg.png", "a.png-2.png", "a.png.png", "b.png"]
    widths = {name: Image.open(f"colorized/{name}").width for name in written()}
    assert widths["a.png-2.png"] == 22
    assert len(set(widths.values())) == 5


def test_patterns_formats_and_steps(work: Path, model_folder: Path) -> None:
    save("p/a.png")
    save("p/b.png", seed=1)
    Path("p/notes.txt").write_text("text")
    model = f"{model_folder}@1"
    assert colorize("p/*.png", "--model", model, "--format", "jpg", "--output", "out") == 0
    assert written("out") == ["a.jpg", "b.jpg"]
    lab = rgb2lab(np.asarray(Image.open("out/a.jpg")))
    np.testing.assert_allclose(lab[..., 1:].mean(axis=(0, 1)), (20, -15), atol=1.5)


def test_failed_inputs_are_named_and_the_others_done(
    work: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save("in/good.png")
    Path("in/text.jpg").write_text("text")
    Path("in/empty.png").touch()
    assert colorize("in", "missing.jpg", "nowhere", "--model", model_folder) == 1
    errors = capsys.readouterr().err
    for name in ("in/text.jpg", "in/empty.png", "missing.jpg", "nowhere"):
        assert sum(line.startswith(f"{name}: failed, ") for line in errors.splitlines()) == 1
    assert "Traceback" not in errors
    assert written() == ["good.png"]


def test_only_failures_leave_no_folder(work: Path, model_folder: Path) -> None:
    Path("text.jpg").write_text("text")
    assert colorize("text.jpg", "missing.png", "--model", model_folder) == 1
    assert not Path("colorized").exists()


def test_an_input_is_never_written_over(
    work: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save("a.png")
    before = Path("a.png").read_bytes()
    assert colorize("a.png", "--model", model_folder, "--output", ".", "--overwrite") == 1
    assert "itself an input" in only_line(capsys)
    assert Path("a.png").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.png"], "No model is shipped"),
        (["a.png", "--model", "nowhere"], "There is no model 'nowhere'"),
        (["a.png", "--model", "texts"], "no config.json"),
        (["a.png", "--model", "MODEL@9"], "no checkpoint of step 9"),
        (["a.png", "--model", "MODEL", "--size", "7"], "multiple of 2"),
        (["a.png", "--model", "MODEL", "--saturation", "-1"], "0 or more"),
        (["a.png", "--model", "MODEL", "--output", "a.png/x"], "can't be written"),
        (["a.png", "--model", "MODEL", "--output", "/proc/x"], "can't be written"),
        (["nowhere", "--model", "MODEL"], "There is no file or folder nowhere"),
        (["empty", "--model", "MODEL"], "no image files"),
        (["texts", "--model", "MODEL"], "no image files"),
        (["*.gif", "--model", "MODEL"], "No file matches"),
    ],
)
def test_misuse_is_one_sentence_and_writes_nothing(
    work: Path,
    nothing_shipped: None,
    model_folder: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save("a.png")
    Path("empty").mkdir()
    Path("texts").mkdir()
    Path("texts/a.txt").write_text("text")
    assert colorize(*(text.replace("MODEL", str(model_folder)) for text in arguments)) == 2
    line = only_line(capsys)
    assert line.startswith("error: ")
    assert message in line
    assert sorted(path.name for path in work.iterdir()) == ["a.png", "empty", "texts"]


def test_verbose_shows_the_traceback(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert colorize("a.png", "--model", "nowhere", "--verbose") == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_damaged_model_is_an_error(
    work: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save("a.png")
    copy = Path(shutil.copytree(model_folder, "copy"))
    files = [path for path in (copy / "best/2/generator").rglob("*") if path.is_file()]
    max(files, key=lambda path: path.stat().st_size).write_bytes(b"damaged")
    assert colorize("a.png", "--model", "copy") == 2
    assert "damaged" in only_line(capsys)
    assert not Path("colorized").exists()


def test_models_are_listed_and_may_be_named(
    work: Path, nothing_shipped: None, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models"]) == 0
    assert "no model" in capsys.readouterr().out
    shutil.copytree(model_folder, "checkpoints/flowers")
    Path("checkpoints/other").mkdir()
    assert main(["models"]) == 0
    listed = capsys.readouterr().out
    assert "flowers  (checkpoints/flowers; steps 1, 2)" in listed
    assert "other" not in listed
    save("a.png")
    assert colorize("a.png", "--model", "flowers@1") == 0


def test_describe_counts_the_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", str(ROOT / "configs/wgan.py")]) == 0
    text = capsys.readouterr().out
    for part in ("31,036,546", "2,795,008", "128x128x64", "1x1x1", "GFLOPs", "wgan_gp, 110"):
        assert part in text


def test_describe_takes_a_run(model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", str(model_folder)]) == 0
    assert "16x16x4" in capsys.readouterr().out


@pytest.mark.parametrize("recipe", ["nothing.py", "configs/wgan.py:huge", "nowhere"])
def test_describe_of_nothing(
    recipe: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["describe", recipe]) == 2
    assert only_line(capsys).startswith("error: ")
