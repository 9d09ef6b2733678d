"""The same training on 1, 2, 4 and 8 devices; run as a script, it trains on virtual ones."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
DEVICE_COUNTS = (1, 2, 4, 8)


def train_three_steps(device_count: int) -> dict[str, np.ndarray]:
    """Return the parameters after three steps of WGAN-GP on this many devices."""
    import jax

    from colorjax import configuration, data, parallel
    from colorjax.training.assembly import create_parts, create_phases
    from colorjax.training.state import create_state
    from colorjax.training.step import make_train_step

    config = configuration.load_recipe(str(ROOT / "configs/wgan.py") + ":tiny")
    config.generator.widths, config.critic.widths = (4, 8), (4, 8)
    config.data.rotation = 15.0
    phases = create_phases(config)
    parts = create_parts(config, phases, steps_per_epoch=10)
    mesh = parallel.create_mesh(jax.devices()[:device_count])
    state = parallel.replicate(create_state(parts, 16, jax.random.key(0)), mesh)
    prepare = data.make_training_prepare(config.data, image_size=16)
    step = parallel.map_step(make_train_step(parts, phases[-1].objective, 0, prepare), mesh)
    generator = np.random.default_rng(0)
    for _ in range(3):
        images = generator.integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
        state, _ = step(state, parallel.create_global_batch(images, mesh))
    networks = {"generator": state.generator, "critic": state.critic, "average": state.average}
    leaves = jax.tree_util.tree_leaves_with_path(networks)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, np.ndarray]]:
    folder = tmp_path_factory.mktemp("devices")
    flags = f"--xla_force_host_platform_device_count={max(DEVICE_COUNTS)}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, __file__, str(folder)], check=True, env=environment)
    return [dict(np.load(folder / f"{count}.npz")) for count in DEVICE_COUNTS]


@pytest.mark.parametrize("index", range(1, len(DEVICE_COUNTS)))
def test_several_devices_train_as_one_does(trained, index):
    assert trained[0].keys() == trained[index].keys()
    for name, expected in trained[0].items():
        np.testing.assert_allclose(trained[index][name], expected, atol=1e-4, err_msg=name)


if __name__ == "__main__":
    for count in DEVICE_COUNTS:
        np.savez(Path(sys.argv[1]) / f"{count}.npz", **train_three_steps(count))
