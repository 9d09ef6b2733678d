"""The same training on 1, 2, 4 and 8 devices; run as a script, it trains on virtual ones."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

ROOT = Path(__file__).parents[2]
DEVICE_COUNTS = (1, 2, 4, 8)
STEPS = 4
TOLERANCE = 1e-4  # an update moves a weight by up to 1e-2
OBJECTIVES = ("reconstruction", "classes", "gan", "wgan_gp")
OTHER_DRAWS = "other_draws"

Arrays = dict[str, np.ndarray]


def create_config(objective: str, folder: Path) -> ConfigDict:
    """Return a recipe in which all that is random is switched on, of networks that are small."""
    import conftest
    from configs import common

    config = conftest.create_tiny_config(folder)
    config.batch_size, config.ema_decay = 8, 0.9
    config.data.rotation = 15.0
    config.generator = ConfigDict({"name": "small", "dropout": 0.5})
    config.critic = ConfigDict({"name": "small", "norm": "none", "dropout": 0.5})
    # An eps this large: Adam would make gradients that are 0 but for rounding as large as others.
    config.generator_optimizer = config.critic_optimizer = common.optimizer(1e-2, b1=0.5, b2=0.999)
    config.generator_optimizer.eps = config.critic_optimizer.eps = 1e-4
    phases = {
        "reconstruction": common.reconstruction(),
        "classes": common.reconstruction(),
        "gan": common.gan(epochs=1, reconstruction_weight=10.0),
        "wgan_gp": common.wgan_gp(epochs=1),
    }
    config.phase_order, config.phases = (objective,), ConfigDict({objective: phases[objective]})
    if objective == "gan":
        config.critic.norm = "batch"
        config.phases.gan.critic_gate = 0.5
    if objective == "classes":
        config.generator = ConfigDict(
            {"name": "unet", "widths": (2, 4), "classes": 3, "context": True, "dropout": 0.5}
        )
        config.phases.classes.class_weight = 0.5
    if objective in ("gan", "wgan_gp"):
        config.phases[objective].noise_every_epochs = 2
    return config


def train_some_steps(config: ConfigDict, device_count: int, first_step: int = 0) -> Arrays:
    """Return state and metrics after some steps on this many devices, by their paths.

    What is drawn follows from the number of the first step.
    """
    import jax
    import jax.numpy as jnp

    from colorjax import data, parallel
    from colorjax.training.assembly import create_parts, create_phases
    from colorjax.training.state import create_state
    from colorjax.training.step import make_train_step

    phases = create_phases(config)
    parts = create_parts(config, phases, steps_per_epoch=2)  # steps 2 and 3 may be of noise
    mesh = parallel.create_mesh(jax.devices()[:device_count])
    state = create_state(parts, config.image_size, jax.random.key(0))
    state = parallel.replicate(state.replace(step=jnp.asarray(first_step)), mesh)
    prepare = data.make_training_prepare(config.data, config.image_size)
    step = make_train_step(parts, phases[-1].objective, config.seed, prepare)
    step = parallel.map_step(step, mesh)
    generator = np.random.default_rng(0)
    metrics = {}
    for number in range(STEPS):
        batch = generator.integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
        if "classes" in config.generator:
            batch = batch, generator.integers(0, 3, 8, dtype=np.int32)
        state, metrics[str(number)] = step(state, parallel.create_global_batch(batch, mesh))
    networks = {"generator": state.generator, "critic": state.critic, "average": state.average}
    leaves = jax.tree_util.tree_leaves_with_path({"state": networks, "metrics": metrics})
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def run_script(devices: int, *arguments: str) -> None:
    """Run this file in a process that sees so many devices."""
    more = f"--xla_force_host_platform_device_count={devices}"
    flags = f"{os.environ.get('XLA_FLAGS', '')} {more}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    subprocess.run([sys.executable, __file__, *arguments], check=True, env=environment)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Arrays]]:
    """Every objective on every number of devices, and on one with other draws."""
    folder = tmp_path_factory.mktemp("devices")
    run_script(max(DEVICE_COUNTS), "steps", str(folder))
    return {
        objective: {path.stem: dict(np.load(path)) for path in (folder / objective).glob("*.npz")}
        for objective in OBJECTIVES
    }


def largest_difference(one: Arrays, other: Arrays) -> float:
    assert one.keys() == other.keys()
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_several_devices_train_as_one_does(trained, objective):
    alone = trained[objective]["1"]
    for count in DEVICE_COUNTS[1:]:
        for name, expected in alone.items():
            found = trained[objective][str(count)][name]
            np.testing.assert_allclose(
                found, expected, rtol=1e-4, atol=TOLERANCE, err_msg=f"{count}: {name}"
            )
    # Had any of it been drawn otherwise, it would show.
    assert largest_difference(alone, trained[objective][OTHER_DRAWS]) > 20 * TOLERANCE


def test_the_gate_was_both_open_and_closed(trained):
    names = [f"['metrics']['{number}']['critic_trained']" for number in range(STEPS)]
    assert {float(trained["gan"]["8"][name]) for name in names} == {0.0, 1.0}


def test_a_run_of_eight_devices_is_resumed_on_one_and_on_four(tmp_path):
    run_script(8, "train", str(tmp_path), "8", "1")
    for count in (1, 4):
        shutil.copytree(tmp_path / "8", tmp_path / str(count))
    ended = {}
    for count in (8, 4, 1):
        run_script(count, "train", str(tmp_path), str(count), "2")
        ended[count] = dict(np.load(tmp_path / f"{count}.npz"))
    for count in (4, 1):
        for name, expected in ended[8].items():
            np.testing.assert_allclose(
                ended[count][name], expected, atol=TOLERANCE, err_msg=f"{count}: {name}"
            )
    assert int(ended[1][".step"]) == 4


def save_steps(folder: Path) -> None:
    for objective in OBJECTIVES:
        (folder / objective).mkdir()
        config = create_config(objective, folder)
        for count in DEVICE_COUNTS:
            np.savez(folder / objective / f"{count}.npz", **train_some_steps(config, count))
        others = train_some_steps(config, 1, first_step=100)
        np.savez(folder / objective / f"{OTHER_DRAWS}.npz", **others)


def train_run(folder: Path, name: str, epochs: int) -> None:
    """Train, or go on training, a run up to this many epochs, and keep its state as arrays."""
    import jax

    from colorjax.training import loop
    from colorjax.training.interruption import Interruption

    config = create_config("gan", folder)
    config.phases.gan.epochs = epochs
    run = loop.Run(config, folder / name)
    assert run.host.step == 2 * (epochs - 1)  # epochs of two steps, all but one trained before
    assert run.train(Interruption()) == 0
    run.close()
    leaves = jax.tree_util.tree_leaves_with_path(run.state)
    arrays = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
    np.savez(folder / f"{name}.npz", **arrays)


if __name__ == "__main__":
    from small_networks import register_small_networks

    register_small_networks()
    if sys.argv[1] == "steps":
        save_steps(Path(sys.argv[2]))
    else:
        train_run(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
