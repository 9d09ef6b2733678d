import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from colorjax import color, data, parallel
from colorjax.data.augment import random_horizontal_flip
from colorjax.errors import UserError
from colorjax.training.assembly import create_parts, create_phases, phase_at
from colorjax.training.objectives import Reconstruction, create_objective
from colorjax.training.optimizers import make_optimizer, make_schedule
from colorjax.training.state import create_state
from colorjax.training.step import make_train_step, update_average
from configs import common

PREPARE = data.make_training_prepare(common.data(), image_size=16)


@pytest.fixture
def parts(tiny_config):
    return create_parts(tiny_config, create_phases(tiny_config), steps_per_epoch=6)


@pytest.fixture
def state(parts):
    return create_state(parts, 16, jax.random.key(0))


def test_step_donates_the_state_and_counts_batches(parts, state):
    mesh = parallel.create_mesh()
    step = parallel.map_step(make_train_step(parts, Reconstruction(), 0, PREPARE), mesh)
    state = parallel.replicate(state, mesh)
    images = parallel.create_global_batch(np.zeros((4, 16, 16, 3), np.uint8), mesh)
    updated, _ = step(state, images)
    assert int(updated.step) == 1
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.generator.params))


def test_a_step_draws_by_its_number_and_the_seed(parts, state):
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)

    def l1(seed: int, number: int) -> float:
        step = jax.jit(make_train_step(parts, Reconstruction(), seed, PREPARE))
        _, metrics = step(state.replace(step=jnp.asarray(number)), images)
        return float(metrics["l1"])

    assert l1(0, 3) == l1(0, 3)
    assert len({l1(0, 3), l1(0, 4), l1(1, 3)}) == 3


@pytest.mark.parametrize("probability", [0.0, 1.0, 0.5])
def test_flip_mirrors_whole_pictures_with_its_probability(probability):
    images = np.random.default_rng(0).integers(0, 256, (1000, 2, 3, 3), dtype=np.uint8)
    flipped = np.asarray(random_horizontal_flip(images, jax.random.key(0), probability))
    mirrored = np.array(
        [np.array_equal(a, b[:, ::-1]) for a, b in zip(flipped, images, strict=True)]
    )
    same = np.array([np.array_equal(a, b) for a, b in zip(flipped, images, strict=True)])
    assert np.all(mirrored | same)
    assert abs(mirrored.mean() - probability) < 0.06


def test_average_follows_parameters_and_statistics(state):
    moved = jax.tree.map(lambda x: x + 1.0, state.generator)
    late = state.replace(generator=moved, step=jnp.asarray(100_000))
    average = update_average(late, decay=0.9).average
    expected = jax.tree.map(lambda x: x + 0.1, state.average)
    chex.assert_trees_all_close(average, expected, atol=1e-5)
    assert average.keys() == {"params", "batch_stats"}


def test_without_an_average_the_generator_itself_is_shipped(tiny_config):
    tiny_config.ema_decay = 0.0
    parts = create_parts(tiny_config, create_phases(tiny_config), steps_per_epoch=6)
    state = create_state(parts, 16, jax.random.key(0))
    assert state.average == {}
    chex.assert_trees_all_equal(state.inference_variables, state.generator.variables)
    assert update_average(state, 0.0) is state


def test_bfloat16_keeps_state_and_losses_in_float32(tiny_config):
    tiny_config.dtype = "bfloat16"
    phases = create_phases(tiny_config)
    parts = create_parts(tiny_config, phases, steps_per_epoch=6)
    state = create_state(parts, 16, jax.random.key(0))
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    step = jax.jit(make_train_step(parts, phases[-1].objective, 0, PREPARE))
    updated, metrics = step(state, images)
    kinds = {leaf.dtype for leaf in jax.tree.leaves((updated, metrics))}
    assert kinds == {jnp.dtype("float32"), jnp.dtype("int32")}
    chex.assert_tree_all_finite(metrics)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [1.0, 1.0, 1.0]),
        ("linear", [1.0, 0.5, 0.0]),
        ("cosine", [0.0, 0.5 + 0.5 * np.cos(np.pi * 40 / 90), 0.0]),
    ],
)
def test_schedules_at_start_middle_and_end(tiny_config, schedule, expected):
    fields = tiny_config.generator_optimizer
    fields.learning_rate, fields.schedule, fields.warmup_steps = 1.0, schedule, 10
    rates = [float(make_schedule(fields, 100)(count)) for count in (0, 50, 100)]
    np.testing.assert_allclose(rates, expected, atol=1e-6)


def test_phases_follow_one_another(tiny_config):
    tiny_config.phases.pretraining.epochs = 2
    tiny_config.phases.adversarial.epochs = 3
    phases = create_phases(tiny_config)
    names = [phase_at(phases, epoch).name for epoch in range(5)]
    assert names == ["pretraining"] * 2 + ["adversarial"] * 3
    tiny_config.phases.pretraining.epochs = 0
    assert phase_at(create_phases(tiny_config), 0).name == "adversarial"


def test_mistakes_in_phases_are_named(tiny_config):
    with pytest.raises(UserError, match="no option 'l1'"):
        create_objective({"objective": "wgan_gp", "epochs": 1, "l1": 3})
    tiny_config.phase_order = ("pretraing",)
    with pytest.raises(UserError, match="'pretraing'"):
        create_phases(tiny_config)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("generator_steps", 0),
        ("critic_steps", 0),
        ("reconstruction_weight", -1.0),
        ("adversarial_weight", -0.1),
        ("gradient_penalty_weight", float("nan")),
        ("critic_gate", 1.5),
        ("critic_gate", -0.1),
        ("noise_every_epochs", -1),
    ],
)
def test_an_objective_names_the_number_that_is_out_of_range(field, value):
    fields = common.wgan_gp()
    create_objective(fields)
    fields[field] = value
    with pytest.raises(UserError, match=rf"config\.phases\.\*\.{field}={value}: give a number"):
        create_objective(fields)


def test_the_weight_of_classes_is_not_negative():
    fields = common.reconstruction()
    fields.class_weight = -1.0
    with pytest.raises(UserError, match=r"config\.phases\.\*\.class_weight=-1\.0: give a number"):
        create_objective(fields)


def test_an_unknown_objective_names_its_field():
    with pytest.raises(UserError, match=r"config\.phases\.\*\.objective is 'wgan': choose one"):
        create_objective({"objective": "wgan", "epochs": 1})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("learning_rate", -1e-3, "learning_rate=-0.001: give a number of 0"),
        ("learning_rate", float("inf"), "learning_rate=inf"),
        ("b1", 1.0, "b1=1.0: give a number from 0.0 to 1.0, but not 1.0"),
        ("b2", -0.1, "b2=-0.1"),
        ("eps", 0.0, "eps=0.0: give a number of 0.0 or more, but not 0.0"),
        ("weight_decay", -0.1, "weight_decay=-0.1"),
        ("gradient_clip", -1.0, "gradient_clip=-1.0"),
        ("warmup_steps", -1, "warmup_steps=-1"),
        ("name", "sgd", "name is 'sgd': choose adam or adamw"),
        ("schedule", "step", "schedule is 'step': choose one of constant"),
    ],
)
def test_an_optimizer_names_the_field_that_is_wrong(field, value, message):
    fields = common.optimizer()
    make_optimizer(fields, 10)
    fields[field] = value
    with pytest.raises(UserError, match=r"config\.\*_optimizer\." + message):
        make_optimizer(fields, 10)


def test_pictures_that_the_generator_cannot_take_are_an_error(tiny_config):
    tiny_config.image_size = 15
    with pytest.raises(UserError, match="multiple of 2"):
        create_parts(tiny_config, create_phases(tiny_config), steps_per_epoch=6)


def test_codec_of_the_config_decides_what_the_networks_see(tiny_config):
    tiny_config.codec = "rgb"
    parts = create_parts(tiny_config, create_phases(tiny_config), steps_per_epoch=6)
    assert parts.codec == color.get_codec("rgb")
    state = create_state(parts, 16, jax.random.key(0))
    kernel = state.generator.params["DoubleConv_0"]["Conv_0"]["kernel"]
    chex.assert_shape(kernel, (3, 3, 3, 4))
