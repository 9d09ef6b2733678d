"""Tiny configs and pictures that many tests share."""

import os
import shutil
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from colorjax import configuration

ROOT = Path(__file__).parents[1]

# Many tests, and the programs that they start, compile the same tiny steps: once is enough. JAX
# reads these when it is imported, which nothing above does.
_COMPILED = tempfile.TemporaryDirectory(prefix="colorjax-compiled-")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", _COMPILED.name)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
# On a CPU most of that cost is optimisation, which gains nothing on tiny networks, and XLA's newer
# way of fusing loops.
FAST_COMPILATION = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    " --xla_cpu_use_fusion_emitters=false"
)
# Tests change colorjax within a process, which programs that are kept whole wouldn't show.
os.environ.setdefault("COLORJAX_KEEP_PROGRAMS", "0")
if shutil.which("nvidia-smi") is None:
    os.environ.setdefault("XLA_FLAGS", FAST_COMPILATION)

# What is started in the background ignores Ctrl-C, and so would the programs that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What commands decode doesn't go to the user's cache; matplotlib's list of fonts may stay there.
_USERS_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
os.environ.setdefault("MPLCONFIGDIR", str(_USERS_CACHE / "matplotlib"))
_DECODED = tempfile.TemporaryDirectory(prefix="colorjax-decoded-")
os.environ["XDG_CACHE_HOME"] = _DECODED.name


# What takes longest begins first: a worker has each file to itself.
LONGEST = (
    "test_loop.py",
    "test_end_to_end.py",
    "test_recipes.py",
    "test_train.py",
    "test_resume.py",
    "test_devices.py",
    "test_archive.py",
    "test_page.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the longest files first, the others as they are found."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.fixture
def tiny_config(tmp_path: Path) -> ConfigDict:
    """A recipe for one test; see `create_tiny_config`."""
    return create_tiny_config(tmp_path)


def create_tiny_config(folder: Path) -> ConfigDict:
    """Return a WGAN-GP recipe of seconds: 24 drawn pictures of 16 pixels, two epochs."""
    config = configuration.load_recipe(str(ROOT / "configs/wgan.py") + ":tiny")
    config.image_size = 16
    config.batch_size = 4
    config.generator.widths = (4, 8)
    config.critic.widths = (4, 8)
    config.data.garden_images = 24
    config.data.cache_dir = str(folder / "cache")
    config.phases.pretraining.epochs = 1
    config.phases.adversarial.epochs = 1
    config.phases.adversarial.generator_steps = 1
    config.generator_optimizer.schedule = "constant"
    config.log_every_steps = 1
    config.sample_images = 2
    return config


@pytest.fixture
def photo_folder(tmp_path: Path) -> Path:
    """A folder of 12 small pictures of smooth random colours."""
    folder = tmp_path / "photos"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for index in range(12):
        coarse = generator.integers(0, 256, (3, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((40, 30), Image.Resampling.BICUBIC).save(
            folder / f"photo_{index:02d}.png"
        )
    return folder


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def nothing_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of colorjax that comes without models."""
    from colorjax.colorize import shipped

    monkeypatch.setattr(shipped, "PLACES", ())


def save_picture(path: str, height: int = 12, width: int = 20, seed: int = 0) -> None:
    """Write a picture of random colours that sRGB can show at any hue."""
    pixels = np.random.default_rng(seed).integers(80, 170, (height, width, 3), dtype=np.uint8)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder of 16 pixels that was not trained.

    Step 1 predicts ab = (20, -15) everywhere; step 2, the best, is as weights start. Tests that
    change it take a copy.
    """
    import jax

    from colorjax.checkpoint import CheckpointStore
    from colorjax.training.assembly import create_parts, create_phases
    from colorjax.training.state import create_state

    folder = tmp_path_factory.mktemp("runs") / "model"
    folder.mkdir()
    config = configuration.load_recipe(str(ROOT / "configs/wgan.py") + ":tiny")
    config.image_size, config.batch_size = 16, 4
    config.generator.widths, config.critic.widths = (4, 8), (4, 8)
    config.data.cache_dir = str(folder / "cache")
    configuration.save_config(config, folder)
    parts = create_parts(config, create_phases(config), steps_per_epoch=1)
    state = create_state(parts, config.image_size, jax.random.key(0))
    critic = state.critic.variables
    store = CheckpointStore(folder, keep=2)
    constant = jax.tree.map(np.asarray, state.generator.variables)
    constant["params"]["Conv_0"] = {
        "kernel": np.zeros_like(constant["params"]["Conv_0"]["kernel"]),
        "bias": np.array([20.0, -15.0], np.float32) / 110.0,
    }
    store.save(1, state, {"generator": constant, "critic": critic}, {})
    networks = {"generator": state.generator.variables, "critic": critic}
    store.save(2, state, networks, {})
    store.save_best(2, networks)
    store.close()
    return folder
