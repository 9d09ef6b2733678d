"""Pictures as they are seldom found: each is read and coloured, or refused in one sentence.

`python tools/fuzz.py` runs many more of the same cases, under limits of time and memory.
"""

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from colorjax import Colorizer
from colorjax.errors import UserError
from tools import fuzz


def quick(cases: int) -> settings:
    """Return settings under which cases are the same each time; `tools/fuzz.py` finds new ones."""
    return settings(
        max_examples=cases,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def check_colorize(model_folder: Path) -> Callable[[Path], bool]:
    return fuzz.make_check_colorize(f"{model_folder}@1")


@pytest.fixture(scope="module")
def check_batch(model_folder: Path) -> Callable[[Path], bool]:
    return fuzz.make_check_batch(f"{model_folder}@1")


@pytest.fixture(scope="module")
def colorizer(model_folder: Path) -> Colorizer:
    return Colorizer.load(f"{model_folder}@1")


def try_case(draw: st.DrawFn, kind: str, check: Callable[[Path], bool]) -> None:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, while cases are made
        check(fuzz.write_case(draw, kind, Path(folder)))


@quick(120)
@given(st.data())
def test_any_file_is_read_or_refused(data: st.DataObject) -> None:
    try_case(data.draw, "read", fuzz.check_reading)


@quick(15)
@given(st.data())
def test_any_file_is_coloured_or_refused(
    check_colorize: Callable[[Path], bool], data: st.DataObject
) -> None:
    try_case(data.draw, "colorize", check_colorize)


@quick(5)
@given(st.data())
def test_any_folder_is_coloured_or_its_files_named(
    check_batch: Callable[[Path], bool], data: st.DataObject
) -> None:
    try_case(data.draw, "batch", check_batch)


@quick(10)
@given(fuzz.images())
def test_any_image_is_coloured(colorizer: Colorizer, image: Image.Image) -> None:
    assert colorizer.colorize(image).shape == (image.height, image.width, 3)


@quick(40)
@given(
    arrays.arrays(
        st.sampled_from([np.uint8, np.uint16, np.int64, np.float32, np.bool_, ">u2", "S3"]),
        st.lists(st.integers(0, 4), max_size=4).map(tuple) | st.sampled_from([(4, 3), (5, 2, 3)]),
    )
)
def test_any_array_is_coloured_or_refused(colorizer: Colorizer, array: np.ndarray) -> None:
    is_gray, is_rgb = array.ndim == 2, array.ndim == 3 and array.shape[2] == 3
    if array.size and array.dtype in (np.uint8, np.uint16) and (is_gray or is_rgb):
        result = colorizer.colorize(array)
        assert result.dtype == array.dtype
        assert result.shape == (*array.shape[:2], 3)
    else:
        with pytest.raises(UserError, match="is a uint8 or uint16 array"):
            colorizer.colorize(array)
