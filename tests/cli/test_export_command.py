"""`colorjax export`: the file that it writes, and what it refuses."""

import sys
from pathlib import Path

import jax.export
import pytest

from colorjax.cli import main


def export(*arguments: object, output: str = "model.stablehlo") -> int:
    return main(["export", *map(str, arguments), "--output", output])


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    output = capsys.readouterr()
    assert not output.out
    assert len(output.err.splitlines()) == 1
    return output.err


def test_one_file_for_all_platforms(
    work: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export("--model", model_folder, "--format", "stablehlo", output="new/m.stablehlo") == 0
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{model_folder} -> new/m.stablehlo: 0.")
    assert "RGB (b, 2 h, 2 w, 3) in [0, 1], for cpu, cuda, tpu; a picture of noise" in line
    [file] = Path("new").iterdir()
    # The digest at its end is passed over by jax itself.
    exported = jax.export.deserialize(bytearray(file.read_bytes()))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    assert str(exported.in_avals) == "(ShapedArray(float32[b,2*h,2*w,3]),)"
    assert str(exported.out_avals) == "(ShapedArray(float32[b,2*h,2*w,3]),)"


def test_a_file_is_written_over_only_when_asked(
    work: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path("model.stablehlo")
    path.write_text("mine")
    arguments = ("--model", model_folder, "--format", "stablehlo")
    assert export(*arguments) == 2
    assert "exists: --overwrite" in error_of(capsys)
    assert path.read_text() == "mine"
    assert export(*arguments, "--overwrite") == 0
    assert path.stat().st_size > 10_000
    assert list(Path().iterdir()) == [path]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "stablehlo"], "No model is shipped"),
        (["--format", "stablehlo", "--model", "nowhere"], "There is no model 'nowhere'"),
        (["--format", "stablehlo", "--model", "file"], "is a file: name a run's"),
        (["--format", "tflite", "--model", "file"], "invalid choice: 'tflite'"),
        (["--model", "file"], "required: --format"),
    ],
)
def test_wrong_calls_write_nothing(
    arguments: list[str],
    message: str,
    work: Path,
    nothing_shipped: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("file").write_text("no model")
    assert export(*arguments) == 2
    assert message in error_of(capsys)
    assert [path.name for path in Path().iterdir()] == ["file"]


def test_a_place_that_can_not_be_written_is_named_before_the_work(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").touch()
    arguments = ("--model", "nowhere", "--format", "onnx")
    assert export(*arguments, output="file/model.onnx") == 2
    assert "can't be written" in error_of(capsys)
    assert export(*arguments, output=".") == 2
    assert "is a folder" in error_of(capsys)


@pytest.mark.parametrize("package", ["jax2onnx", "onnx", "onnxruntime"])
def test_a_missing_extra_is_one_sentence(
    package: str,
    work: Path,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # importing it fails
    assert export("--model", model_folder, "--format", "onnx", output="model.onnx") == 2
    assert error_of(capsys) == (
        f"error: An export as ONNX needs packages that are not installed ({package}): "
        "pip install 'colorjax[onnx]'.\n"
    )
    assert not Path("model.onnx").exists()


def test_stablehlo_says_which_package_is_missing(
    work: Path,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delitem(sys.modules, "jax._src.export.serialization", raising=False)
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    assert export("--model", model_folder, "--format", "stablehlo") == 2
    assert "pip install flatbuffers" in error_of(capsys)
