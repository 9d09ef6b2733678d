"""How a training step's time grows with the number of devices, on virtual devices of one machine.

    python benchmarks/scaling.py --output docs/images

Weak scaling gives every device the same number of pictures, strong scaling divides one batch among
them. The virtual devices are threads that share the machine's cores, so what shows is what dividing
the step costs; what it gains needs real devices. `docs/scaling.md` says more. Beside the time, the
work of all cores is measured, which others on the machine don't disturb. Each number of
devices is measured in a process of its own; the bytes that are summed over the devices are read
off the program that XLA compiled.
"""

import argparse
import json
import re
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from apart import run_apart

from colorjax.parallel import THREADS_PER_DEVICE

ROOT = Path(__file__).parents[1]
DEVICES = (1, 2, 4, 8)
PER_DEVICE = 4  # pictures, in weak scaling
GLOBAL = 16  # pictures, in strong scaling
WIDTHS = (16, 32)  # of both networks: few layers, as compiling them is what measuring costs
BYTES = {"f64": 8, "s64": 8, "f32": 4, "s32": 4, "u32": 4, "bf16": 2, "f16": 2, "pred": 1, "u8": 1}


@dataclass(frozen=True)
class Measurement:
    """One program, timed.

    Attributes:
      devices: that share the batch.
      batch: pictures in it.
      seconds: of a step, the median.
      core_seconds: of a step, summed over the cores, the median; and the least and most.
      reduced_bytes: that all-reduces of the compiled program give on each device.
      gathered_bytes: that its all-gathers give.
      parameters: of generator and critic.
    """

    devices: int
    batch: int
    seconds: float
    core_seconds: float
    least: float
    most: float
    reduced_bytes: int
    gathered_bytes: int
    parameters: int


def main() -> None:
    """Measure every case and write JSON, a table and a plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("docs/images"), metavar="DIR")
    parser.add_argument("--recipe", default=str(ROOT / "configs/wgan.py") + ":tiny")
    parser.add_argument("--steps", type=int, default=9, help="timed, after one that is not")
    parser.add_argument("--case", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(asdict(measure(arguments.recipe, *arguments.case, arguments.steps))))
        return
    weak = {(count, count * PER_DEVICE) for count in DEVICES}
    strong = {(count, GLOBAL) for count in DEVICES}
    results = [_measure_apart(case, arguments) for case in sorted(weak | strong)]
    arguments.output.mkdir(parents=True, exist_ok=True)
    text = json.dumps([asdict(result) for result in results], indent=1)
    (arguments.output / "scaling.json").write_text(text + "\n")
    print(format_table(results))
    draw(results, arguments.output / "scaling.png")


def _measure_apart(case: tuple[int, int], arguments: argparse.Namespace) -> Measurement:
    """Measure in a process that sees so many devices."""
    environment = {
        "JAX_NUM_CPU_DEVICES": str(case[0]),
        "NPROC": str(THREADS_PER_DEVICE * max(DEVICES)),  # the same for each case
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
    }
    options = ["--recipe", arguments.recipe, "--steps", arguments.steps]
    [found] = run_apart(__file__, "--case", *case, *options, environment=environment)
    result = Measurement(**found)
    print(result, file=sys.stderr, flush=True)
    return result


def measure(recipe: str, devices: int, batch: int, steps: int) -> Measurement:
    """Return the time of a step of the recipe's last phase on all devices of this process."""
    import jax
    import numpy as np

    from colorjax import configuration, data, parallel
    from colorjax.memory import keep_freed_memory
    from colorjax.models.networks import count_parameters
    from colorjax.training.assembly import create_parts, create_phases
    from colorjax.training.state import create_state
    from colorjax.training.step import make_train_step

    keep_freed_memory(large=False)  # as train.py does
    assert jax.device_count() == devices
    config = configuration.load_recipe(recipe)
    config.generator.widths = config.critic.widths = WIDTHS
    phases = create_phases(config)
    parts = create_parts(config, phases, steps_per_epoch=100)
    mesh = parallel.create_mesh()
    state = parallel.replicate(create_state(parts, config.image_size, jax.random.key(0)), mesh)
    prepare = data.make_training_prepare(config.data, config.image_size)
    step = make_train_step(parts, phases[-1].objective, config.seed, prepare)
    shape = (batch, config.image_size, config.image_size, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    images = parallel.create_global_batch(images, mesh)
    parameters = count_parameters((state.generator.params, state.critic.params))
    compiled = parallel.map_step(step, mesh).lower(state, images).compile()
    state = jax.block_until_ready(compiled(state, images))[0]
    seconds, core_seconds = [], []
    for _ in range(steps):
        start, core_start = time.perf_counter(), time.process_time()
        state = jax.block_until_ready(compiled(state, images))[0]
        seconds.append(time.perf_counter() - start)
        core_seconds.append(time.process_time() - core_start)
    return Measurement(
        devices,
        batch,
        statistics.median(seconds),
        statistics.median(core_seconds),
        min(core_seconds),
        max(core_seconds),
        count_bytes(compiled.as_text(), "all-reduce"),
        count_bytes(compiled.as_text(), "all-gather"),
        parameters,
    )


def count_bytes(program: str, collective: str) -> int:
    """Return the bytes of the results of a collective in a compiled program, each once."""
    total = 0
    for line in program.splitlines():
        found = re.search(rf"= (.*?) {collective}(-start)?\(", line)
        for kind, sizes in re.findall(r"(\w+)\[([\d,]*)\]", found.group(1)) if found else ():
            numbers = [int(size) for size in sizes.split(",") if size]
            total += BYTES[kind] * _product(numbers)
    return total


def _product(numbers: list[int]) -> int:
    result = 1
    for number in numbers:
        result *= number
    return result


def format_table(results: list[Measurement]) -> str:
    """Return Markdown: both kinds of scaling, each against one device."""
    lines = [
        "| scaling | devices | pictures a step | seconds a step "
        "| core-seconds a step (least to most) | core-seconds a picture, against one device "
        "| all-reduced, all-gathered on each device |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, chosen in (("weak", _weak(results)), ("strong", _strong(results))):
        alone = chosen[0].core_seconds / chosen[0].batch
        for each in chosen:
            work = f"{each.core_seconds:.2f} ({each.least:.2f} to {each.most:.2f})"
            cells = [name, each.devices, each.batch, f"{each.seconds:.2f}", work]
            cells.append(f"{each.core_seconds / each.batch / alone:.2f}")
            cells.append(f"{each.reduced_bytes / 1e6:.2f}, {each.gathered_bytes / 1e6:.2f} MB")
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def draw(results: list[Measurement], path: Path) -> None:
    """Plot the work for a picture beside what it would be if dividing a step cost nothing."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    _draw_one(axes[0], _weak(results), f"Weak: {PER_DEVICE} pictures a device")
    _draw_one(axes[1], _strong(results), f"Strong: {GLOBAL} pictures in all")
    axes[0].set_ylabel("core-seconds a picture")
    axes[0].set_ylim(0, None)  # of both, once both are drawn
    figure.savefig(path, dpi=110)


def _draw_one(axis: Any, results: list[Measurement], title: str) -> None:
    devices = [each.devices for each in results]
    work = [each.core_seconds / each.batch for each in results]
    errors = [
        [(each.core_seconds - each.least) / each.batch for each in results],
        [(each.most - each.core_seconds) / each.batch for each in results],
    ]
    axis.axhline(work[0], linestyle="--", color="0.5", label="if dividing cost nothing")
    axis.errorbar(devices, work, errors, fmt="o-", capsize=3, label="measured, median and range")
    axis.set_xscale("log", base=2)
    axis.set_xticks(devices, [str(count) for count in devices])
    axis.set(title=title, xlabel="virtual devices on the same cores")
    axis.grid(alpha=0.3)
    axis.legend(loc="lower right")


def _weak(results: list[Measurement]) -> list[Measurement]:
    return [each for each in results if each.batch == each.devices * PER_DEVICE]


def _strong(results: list[Measurement]) -> list[Measurement]:
    return [each for each in results if each.batch == GLOBAL]


if __name__ == "__main__":
    main()
