import json
import math
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import chex
import jax
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict
from PIL import Image
from small_networks import register_small_networks

from colorjax import checkpoint
from colorjax.errors import TrainingError, UserError
from colorjax.training import loop
from colorjax.training.interruption import Interruption

TIMES = ("pictures_per_second",)


def read_state(workdir: Path, step: int) -> dict:
    """Return every array of a step's state, whatever its tree."""
    folder = workdir / "steps" / str(step)
    config = loop.configuration.read_config(workdir)
    phases = loop.create_phases(config)
    parts = loop.create_parts(config, phases, 4)
    abstract = jax.eval_shape(
        lambda key: loop.create_state(parts, config.image_size, key), jax.random.key(0)
    )
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return checkpoint.restore_state(folder, checkpoint.with_sharding(abstract, sharding))


def read_lines(workdir: Path) -> list[dict]:
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{name: line[name] for name in line if name not in TIMES} for line in lines]


class StopAfter(Interruption):
    """An interruption that comes, as a signal would, once the loop has looked so many times."""

    def __init__(self, looks: int) -> None:
        self._looks = looks
        super().__init__()

    @property
    def signal_number(self) -> int:
        self._looks -= 1
        return signal.SIGTERM if self._looks < 0 else 0

    @signal_number.setter
    def signal_number(self, number: int) -> None:
        pass


def train_until_stopped(config: ConfigDict, workdir: Path, looks: int) -> int:
    run = loop.Run(config, workdir)
    try:
        return run.train(StopAfter(looks))
    finally:
        run.close()


def with_small_networks(config: ConfigDict) -> ConfigDict:
    """Return a config changed to networks that compile in a moment."""
    config.generator = ConfigDict({"name": "small", "width": 4})
    config.critic = ConfigDict({"name": "small"})
    return config


@pytest.fixture(scope="module", autouse=True)
def small_networks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        register_small_networks(patch.setitem)
        yield


@pytest.fixture
def small_config(tiny_config: ConfigDict) -> ConfigDict:
    """A run of seconds: the loop is what is tested here, whatever the networks."""
    return with_small_networks(tiny_config)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[ConfigDict, Path]:
    """A run of two phases, never stopped."""
    import conftest

    folder = tmp_path_factory.mktemp("whole")
    config = with_small_networks(conftest.create_tiny_config(folder))
    assert loop.train(config, folder / "run") == 0
    return config, folder / "run"


def test_a_run_leaves_what_the_interface_promises(whole_run):
    _, workdir = whole_run
    assert sorted(path.name for path in (workdir / "steps").iterdir()) == ["4", "8"]
    assert len(list((workdir / "best").iterdir())) == 1
    for name in ("config.json", "plots/losses.png", "samples/epoch_0002.png", "tensorboard"):
        assert (workdir / name).exists(), name
    grid = Image.open(workdir / "samples/epoch_0002.png")
    assert grid.size == (2 * (16 + 4) + 4, 3 * (16 + 4) + 4)
    checksums = json.loads((workdir / "steps/8/checksums.json").read_text())
    assert {name.split("/")[0] for name in checksums} >= {"state", "generator", "progress"}


def test_a_step_is_traced_once_a_phase(small_config, tmp_path, monkeypatch):
    traced = []
    make_train_step = loop.make_train_step

    def make_telling(*arguments):
        step = make_train_step(*arguments)

        def telling_step(*states):
            traced.append(step)
            return step(*states)

        return telling_step

    monkeypatch.setattr(loop, "make_train_step", make_telling)
    assert train_until_stopped(small_config, tmp_path / "run", 5) == 143  # in the second phase
    assert len(set(traced)) == len(traced) == 2


def test_metrics_tell_of_both_phases_and_are_finite(whole_run):
    _, workdir = whole_run
    lines = read_lines(workdir)
    epochs = [line for line in lines if "validation/psnr" in line]
    assert [(line["step"], line["epoch"]) for line in epochs] == [(4, 1), (8, 2)]
    assert all(math.isfinite(value) for line in lines for value in line.values())
    named = {"psnr", "psnr_lab", "ssim", "colorfulness", "l1"}
    critic = {"critic_loss", "wasserstein", "gradient_penalty", "gan_loss"}
    names = [{name.removeprefix("validation/") for name in line} for line in epochs]
    assert named <= names[0]
    assert not critic & names[0]
    assert named | critic <= names[1]
    steps = [line["train/l1"] for line in lines if "validation/psnr" not in line]
    np.testing.assert_allclose(epochs[0]["train/l1"], np.mean(steps[:4]), rtol=1e-12)


@pytest.mark.parametrize("looks", [0, 4, 6])
def test_a_resumed_run_ends_bit_for_bit_as_one_never_stopped(whole_run, tmp_path, looks):
    config, whole = whole_run
    assert train_until_stopped(config, tmp_path / "run", looks) == 143
    assert loop.train(config, tmp_path / "run") == 0
    chex.assert_trees_all_equal(read_state(tmp_path / "run", 8), read_state(whole, 8))
    assert read_lines(tmp_path / "run") == read_lines(whole)


def test_lines_beyond_the_restored_step_are_cut(whole_run, tmp_path):
    config, _ = whole_run
    workdir = tmp_path / "run"
    train_until_stopped(config, workdir, 2)
    kept = read_lines(workdir)
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 700, "epoch": 9, "train/l1": 1.0}\n{"step": 70')
    train_until_stopped(config, workdir, 0)
    assert read_lines(workdir)[: len(kept)] == kept
    assert max(line["step"] for line in read_lines(workdir)) < 700


def flip_a_byte(folder: Path) -> None:
    """Flip one bit in the middle of the folder's largest file."""
    file = max(folder.rglob("*"), key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_a_damaged_newest_step_is_passed_over(whole_run, tmp_path, capsys):
    config, whole = whole_run
    config.checkpoint.every_steps = 1
    workdir = tmp_path / "run"
    train_until_stopped(config, workdir, 2)
    config.checkpoint.every_steps = 0
    newest = max((workdir / "steps").iterdir(), key=lambda path: int(path.name))
    flip_a_byte(newest / "state")
    assert loop.train(config, workdir) == 0
    assert str(newest) in capsys.readouterr().err
    chex.assert_trees_all_equal(read_state(workdir, 8), read_state(whole, 8))


def test_training_can_start_from_earlier_weights_and_optimisers(whole_run, tmp_path):
    config, whole = whole_run
    config = config.copy_and_resolve_references()
    config.init_from = f"{whole}@4"
    config.phases.pretraining.epochs = 0
    run = loop.Run(config, tmp_path / "run")
    run.close()
    expected = read_state(whole, 4)
    for name in ("generator", "critic"):
        ours, theirs = getattr(run.state, name), getattr(expected, name)
        chex.assert_trees_all_equal(ours.variables, theirs.variables)
        chex.assert_trees_all_equal(ours.opt_state[0], theirs.opt_state[0])  # Adam's moments
    assert int(run.state.step) == 0


def save_generator(run: Path, folder: Path) -> None:
    """Make a model's folder, which holds a generator alone, of a run's last step."""
    folder.mkdir()
    shutil.copy(run / "config.json", folder)
    checkpoint.save_model(folder, read_state(run, 8).generator.variables)


def test_training_can_start_from_the_generator_of_a_model(whole_run, tmp_path, capsys):
    config, whole = whole_run
    save_generator(whole, tmp_path / "model")
    config = config.copy_and_resolve_references()
    fresh = loop.Run(config, tmp_path / "fresh")
    fresh.close()
    config.init_from = str(tmp_path / "model")
    run = loop.Run(config, tmp_path / "run")
    run.close()
    expected = read_state(whole, 8).generator
    chex.assert_trees_all_equal(run.state.generator.variables, expected.variables)
    chex.assert_trees_all_equal(run.state.average, expected.variables)
    chex.assert_trees_all_equal(run.state.generator.opt_state, fresh.state.generator.opt_state)
    chex.assert_trees_all_equal(run.state.critic, fresh.state.critic)
    assert f"starting from the weights of {tmp_path}/model" in capsys.readouterr().out


def test_the_generator_of_a_model_must_fit(whole_run, tmp_path):
    config, whole = whole_run
    save_generator(whole, tmp_path / "model")
    config = config.copy_and_resolve_references()
    config.init_from = str(tmp_path / "model")
    config.generator.width = 6
    with pytest.raises(UserError, match=r"model/generator doesn't fit the network: "):
        loop.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_weights_move_after_a_start_from_a_run_whose_rate_had_decayed(whole_run, tmp_path):
    config, _ = whole_run
    config = config.copy_and_resolve_references()
    config.generator_optimizer.schedule = config.critic_optimizer.schedule = "linear"
    assert loop.train(config, tmp_path / "first") == 0
    config.init_from = str(tmp_path / "first")
    assert loop.train(config, tmp_path / "second") == 0
    before, after = (read_state(tmp_path / name, 8) for name in ("first", "second"))
    for network in ("generator", "critic"):
        old, new = (getattr(state, network).params for state in (before, after))
        assert max(np.abs(a - b).max() for a, b in pairs(old, new)) > 1e-4


def pairs(a, b):
    return zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)


def test_damaged_weights_are_not_started_from(whole_run, tmp_path):
    config, whole = whole_run
    shutil.copytree(whole, tmp_path / "copy")
    flip_a_byte(tmp_path / "copy/steps/8/state")
    config = config.copy_and_resolve_references()
    config.init_from = str(tmp_path / "copy")
    with pytest.raises(UserError, match="the checkpoint is damaged"):
        loop.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_resumed_on_other_pictures(small_config, photo_folder, tmp_path):
    small_config.data.source = f"folder:{photo_folder}"
    train_until_stopped(small_config, tmp_path / "run", 0)
    for index in range(12):
        name = f"photo_{index:02d}.png"
        shutil.copy(photo_folder / name, photo_folder / f"new_{name}")
    with pytest.raises(UserError, match="trained on other pictures"):
        loop.train(small_config, tmp_path / "run")


def test_epochs_of_a_phase_that_is_over_cannot_change(whole_run, tmp_path):
    config, whole = whole_run
    shutil.copytree(whole, tmp_path / "run")
    config = config.copy_and_resolve_references()
    config.phases.pretraining.epochs = 3
    with pytest.raises(UserError, match="only epochs of the running and later phases may change"):
        loop.train(config, tmp_path / "run")


def test_a_best_that_a_kill_kept_from_being_saved_is_saved_on_resuming(whole_run, tmp_path):
    config, _ = whole_run
    config = config.copy_and_resolve_references()
    config.phases.adversarial.epochs = 0
    loop.train(config, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/best/4")
    loop.train(config, tmp_path / "run")
    best = tmp_path / "run/best/4/checksums.json"
    assert set(json.loads(best.read_text())) > {"generator/_METADATA"}


def test_the_best_of_a_run_that_was_here_before_is_not_shipped(whole_run, tmp_path):
    config, whole = whole_run
    shutil.copytree(whole / "best", tmp_path / "run/best")
    config = config.copy_and_resolve_references()
    config.seed = 7
    loop.train(config, tmp_path / "run")
    (best,) = (tmp_path / "run/best").iterdir()
    (old,) = (whole / "best").iterdir()
    assert (best / "checksums.json").read_text() != (old / "checksums.json").read_text()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("seed", 7, "config.seed=42, not 7"),
        ("batch_size", 8, "config.batch_size=4, not 8"),
        ("generator.width", 8, "config.generator.width=4, not 8"),
        ("data.source", "folder:nowhere", "config.data.source='garden'"),
        ("data.split_fractions", (0.8, 0.1, 0.1), r"=\(0\.7, 0\.15, 0\.15\), not \(0\.8, 0\.1"),
    ],
)
def test_a_run_cannot_be_resumed_as_another(whole_run, field, value, message):
    config, workdir = whole_run
    changed = config.copy_and_resolve_references()
    changed.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=message):
        loop.train(changed, workdir)


def test_more_epochs_go_on_from_the_last(whole_run, tmp_path):
    config, _ = whole_run
    config = config.copy_and_resolve_references()
    config.phases.adversarial.epochs = 0
    loop.train(config, tmp_path / "run")
    config.phases.adversarial.epochs = 1
    loop.train(config, tmp_path / "run")
    assert [line["step"] for line in read_lines(tmp_path / "run")][-1] == 8


def test_training_ends_when_the_validation_loss_has_not_fallen_for_long_enough(
    small_config, tmp_path, capsys
):
    small_config.phase_order = ("pretraining",)
    small_config.phases.pretraining.epochs = 20
    small_config.generator_optimizer.learning_rate = 3.0  # of no good
    small_config.patience = 2
    for _ in range(2):  # the second start finds nothing left to do
        assert loop.train(small_config, tmp_path / "run") == 0
        assert "2 epochs without a lower validation loss" in capsys.readouterr().out
        lines = read_lines(tmp_path / "run")
        by_epoch = [line["validation/l1"] for line in lines if "validation/l1" in line]
        stale = len(by_epoch) - 1 - int(np.argmin(by_epoch))
        assert stale == 2
        assert len(by_epoch) < 20


def test_a_phase_with_an_optimizer_of_its_own_begins_it_anew(whole_run, tmp_path):
    config, _ = whole_run
    config = config.copy_and_resolve_references()
    own = config.generator_optimizer.copy_and_resolve_references()
    own.b1 = 0.5
    config.phases.adversarial.generator_optimizer = own

    def count(network_state) -> int:
        return int(optax.tree.get(network_state.opt_state, "count", filtering=_is_adam))

    # Stopped in the first phase, at the border and in the second.
    for looks in (2, 0, 1):
        assert train_until_stopped(config, tmp_path / "run", looks) == 143
    assert loop.train(config, tmp_path / "run") == 0
    state = read_state(tmp_path / "run", 8)
    assert count(state.generator) == 4 * config.phases.adversarial.generator_steps
    assert loop.train(config, tmp_path / "straight") == 0
    chex.assert_trees_all_equal(read_state(tmp_path / "straight", 8), state)


def _is_adam(path, _) -> bool:
    return "ScaleByAdamState" in str(path)


FROZEN = ("conv1", "bn1", "layer1.0.conv1", "layer1.0.bn1")
NORM_PARTS = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def save_encoder(path: Path) -> dict[str, np.ndarray]:
    """Write a ResNet-18's first layers, in torchvision's names and layout, and return them."""
    generator = np.random.default_rng(0)
    tensors = {"conv1.weight": generator.normal(0, 0.1, (64, 3, 7, 7))}
    for name in ("layer1.0.conv1", "layer1.0.conv2"):
        tensors[f"{name}.weight"] = generator.normal(0, 0.05, (64, 64, 3, 3))
    for name in ("bn1", "layer1.0.bn1", "layer1.0.bn2"):
        for part in NORM_PARTS.values():
            tensors[f"{name}.{part}"] = generator.uniform(0.5, 1.5, 64)
    tensors = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}
    np.savez(path, **tensors)
    return tensors


def test_a_frozen_pretrained_encoder_stays_as_its_file_has_it(tiny_config, tmp_path):
    tensors = save_encoder(tmp_path / "encoder.npz")
    tiny_config.pretrained = str(tmp_path / "encoder.npz")
    fields = {"name": "resnet_transfer", "depth": 18, "conv_bias": False, "frozen": FROZEN}
    tiny_config.generator = ConfigDict(fields)
    tiny_config.critic.name = ""
    tiny_config.phase_order = ("pretraining",)
    tiny_config.generator_optimizer.learning_rate = 0.1
    assert train_until_stopped(tiny_config, tmp_path / "run", 1) == 143  # and then resumed
    assert loop.train(tiny_config, tmp_path / "run") == 0
    state = read_state(tmp_path / "run", 4)
    for variables in (state.generator.variables, state.average):
        params = variables["params"]["encoder"]
        np.testing.assert_array_equal(
            params["conv1"]["kernel"], tensors["conv1.weight"].transpose(2, 3, 1, 0)
        )
        np.testing.assert_array_equal(
            params["layer1_0"]["conv1"]["kernel"],
            tensors["layer1.0.conv1.weight"].transpose(2, 3, 1, 0),
        )
        assert np.abs(params["layer1_0"]["conv2"]["kernel"]).max() > 0.3  # these are trained
        block = {kind: variables[kind]["encoder"]["layer1_0"] for kind in variables}
        encoder = {kind: variables[kind]["encoder"] for kind in variables}
        for layers, name in ((encoder, "bn1"), (block, "layer1.0.bn1")):
            norm = layers["params"]["bn1"] | layers["batch_stats"]["bn1"]
            for flax_name, torch_name in NORM_PARTS.items():
                np.testing.assert_array_equal(norm[flax_name], tensors[f"{name}.{torch_name}"])
    held = {leaf.shape for leaf in jax.tree.leaves(state.generator.opt_state)}
    assert (7, 7, 3, 64) not in held  # no moments of the frozen convolution
    assert (3, 3, 64, 64) in held


def test_phases_share_an_optimizer_while_none_has_its_own(tiny_config):
    fields = tiny_config.phases.pretraining.to_dict()
    own = tiny_config.generator_optimizer.copy_and_resolve_references()
    names = ("a", "b", "c", "d", "e")
    tiny_config.phase_order = names
    tiny_config.phases = ConfigDict({name: dict(fields) for name in names})
    tiny_config.phases.c.generator_optimizer = own
    phases = loop.create_phases(tiny_config)
    anew = [loop.begins_anew(tiny_config, phases, phase, "generator_optimizer") for phase in phases]
    assert anew == [False, False, True, True, False]
    # Each schedule ends where its optimiser does: the rate is 0 after the last of its updates.
    tiny_config.generator_optimizer.schedule = own.schedule = "linear"
    for phase, updates in zip(phases, (8, 8, 4, 8, 8), strict=True):
        parts = loop.create_parts(tiny_config, phases, 4, phase)
        rates = [rate_after(parts.generator_optimizer, count) for count in (updates - 1, updates)]
        assert rates[0] > rates[1] == 0.0


def rate_after(optimizer: optax.GradientTransformation, updates: int) -> float:
    """Return how far a parameter moves once the optimiser has made so many updates."""
    state = optimizer.init(0.0)
    state = jax.tree.map(lambda x: np.int32(updates) if x.dtype == np.int32 else x, state)
    return abs(float(optimizer.update(1.0, state, 0.0)[0]))


def test_moments_of_an_earlier_run_are_kept_where_the_first_phase_has_its_own(whole_run, tmp_path):
    config, whole = whole_run
    config = config.copy_and_resolve_references()
    config.init_from = str(whole)
    config.phases.pretraining.generator_optimizer = config.generator_optimizer
    assert train_until_stopped(config, tmp_path / "run", 0) == 143
    moments = read_state(tmp_path / "run", 1).generator.opt_state
    before = read_state(whole, 8).generator.opt_state
    counts = [
        int(optax.tree.get(state, "count", filtering=_is_adam)) for state in (before, moments)
    ]
    assert counts == [8, 9]


def test_early_stopping_is_for_a_run_of_one_phase(small_config, tmp_path):
    small_config.patience = 3
    with pytest.raises(UserError, match=r"config\.patience=3 is for a run of one phase"):
        loop.train(small_config, tmp_path / "run")


def test_a_critic_is_kept_once_it_has_been_trained(whole_run):
    _, workdir = whole_run
    assert not checkpoint.has_item(workdir / "steps/4", "critic")
    assert checkpoint.has_item(workdir / "steps/8", "critic")


def test_optimizers_of_two_kinds_in_two_phases_are_an_error(small_config, tmp_path):
    own = small_config.generator_optimizer.copy_and_resolve_references()
    own.gradient_clip = 1.0
    small_config.phases.adversarial.generator_optimizer = own
    with pytest.raises(UserError, match=r"phases\.adversarial are of another kind"):
        loop.train(small_config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_weights_that_do_not_fit_are_named(whole_run, tmp_path):
    config, whole = whole_run
    config = config.copy_and_resolve_references()
    config.init_from = str(whole)
    config.generator.width = 6
    with pytest.raises(
        UserError, match=r"doesn't fit the network: \S+ is shaped .* there, .* here"
    ):
        loop.train(config, tmp_path / "run")


def test_a_loss_that_is_not_finite_stops_the_run(small_config, tmp_path):
    small_config.generator_optimizer.learning_rate = 1e38
    with pytest.raises(TrainingError, match=r"train/\w+ is (nan|inf) at step \d"):
        loop.train(small_config, tmp_path / "run")
    for step in (tmp_path / "run/steps").iterdir():
        chex.assert_tree_all_finite(read_state(tmp_path / "run", int(step.name)))


@pytest.mark.parametrize("epochs_of_pretraining", [0, 1])
def test_weights_that_are_not_finite_are_never_saved(small_config, tmp_path, epochs_of_pretraining):
    # One step an epoch, whose own loss is that of the good weights before it.
    small_config.ema_decay = 0.0
    small_config.batch_size = 16
    small_config.generator_optimizer.learning_rate = 1e38
    small_config.phases.pretraining.epochs = epochs_of_pretraining
    with pytest.raises(TrainingError, match=r"is (nan|inf) at step 1"):
        loop.train(small_config, tmp_path / "run")
    assert list((tmp_path / "run/steps").iterdir()) == []


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("critic.norm", "batch", "set config.critic.norm to instance or none"),
        ("critic.norm", "foo", "norm is 'foo'"),
        ("critic.name", "", "needs a critic"),
        ("generator.widths", (0, 4), "give positive numbers"),
        ("phases.adversarial.generator_steps", 0, "generator_steps=0"),
        ("log_every_steps", 0, "config.log_every_steps=0"),
        ("ema_decay", 2.0, "config.ema_decay=2.0"),
    ],
)
def test_what_cannot_be_trained_is_said_before_anything_is_written(
    tiny_config, tmp_path, field, value, message
):
    tiny_config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=message):
        loop.train(tiny_config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_small_folder_shrinks_the_batch_and_says_so(small_config, photo_folder, tmp_path, capsys):
    small_config.data.source = f"folder:{photo_folder}"
    small_config.batch_size = 64
    small_config.phases.adversarial.epochs = 0
    assert loop.train(small_config, tmp_path / "run") == 0
    assert "training pictures are fewer than a batch" in capsys.readouterr().err
    assert read_lines(tmp_path / "run")[-1]["step"] == 1


def test_the_first_lines_and_the_summary_say_what_happens(
    small_config, photo_folder, tmp_path, capsys
):
    (photo_folder / "broken.jpg").write_text("no picture")
    small_config.data.source = f"folder:{photo_folder}"
    small_config.phases.adversarial.epochs = 0
    loop.train(small_config, tmp_path / "run")
    captured = capsys.readouterr()
    assert captured.out.startswith("devices: 1 x cpu")
    assert "parameters" in captured.out
    assert "train," in captured.out
    assert "1 pictures skipped" in captured.out
    assert captured.err.count("broken.jpg") == 1


def test_a_folder_of_something_else_is_left_alone(tiny_config, tmp_path):
    (tmp_path / "steps").mkdir()
    with pytest.raises(UserError, match=r"has steps but no config\.json"):
        loop.train(tiny_config, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["steps"]


def test_the_config_of_another_program_is_left_alone(tiny_config, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "other"}')
    with pytest.raises(UserError, match="belongs to another program"):
        loop.train(tiny_config, tmp_path)
    assert (tmp_path / "config.json").read_text() == '{"model_type": "other"}'


def test_a_workdir_that_cannot_be_written_is_an_error(tiny_config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="can't be written"):
        loop.train(tiny_config, tmp_path / "file" / "run")


def test_the_first_signal_asks_and_the_second_is_left_to_the_system(capfd):
    before = signal.getsignal(signal.SIGINT)
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGINT)
        assert interruption.exit_status == 130
        for number in (signal.SIGINT, signal.SIGTERM):
            assert signal.getsignal(number) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) == before
    assert "once more to stop at once" in capfd.readouterr().err
