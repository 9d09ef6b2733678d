"""docs/demo.ipynb: from a link to grey, colourised and original, side by side."""

import base64
import functools
import io
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

from colorjax import Colorizer
from colorjax.data import garden
from colorjax.evaluation import gray_images

NOTEBOOK = Path(__file__).parents[1] / "docs/demo.ipynb"
SIDE = 300  # pixels, as the notebook has it


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def link(tmp_path: Path) -> Iterator[str]:
    """The address of a drawn flower, on a server of this machine."""
    Image.fromarray(garden.draw(3, SIDE)).save(tmp_path / "flower.png")
    handler = functools.partial(Quiet, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/flower.png"
        server.shutdown()


def find_pictures(sheet: np.ndarray) -> list[np.ndarray]:
    """Return the three pictures of a sheet; margins are white, and titles stand above."""
    margin = (sheet.shape[1] - 3 * SIDE) // 4
    bottom = sheet.shape[0] - margin
    starts = [margin + column * (SIDE + margin) for column in range(3)]
    return [sheet[bottom - SIDE : bottom, start : start + SIDE] for start in starts]


def test_the_notebook_leads_from_a_link_to_three_pictures(
    link: str, tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = f"{model_folder}@1"
    monkeypatch.setenv("COLORJAX_DEMO_LINK", link)
    monkeypatch.setenv("COLORJAX_DEMO_MODEL", model)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    shown = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(output.data["image/png"]))))
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if "image/png" in output.get("data", ())
    ]
    original = np.asarray(Image.open(tmp_path / "flower.png"))
    gray = gray_images(original)
    colored = Colorizer.load(model).colorize(gray)
    alone, triptych, saturations = shown
    np.testing.assert_array_equal(alone, gray)
    for found, expected in zip(find_pictures(triptych), (gray, colored, original), strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(find_pictures(saturations)[1], colored)


def test_the_notebook_is_kept_small_and_without_traces_of_a_run() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert NOTEBOOK.stat().st_size < 300_000
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert not any(output.output_type in ("error", "stream") for output in outputs)
