"""How fast colorjax is, beside PyTorch and onnxruntime where they are installed.

    python benchmarks/run.py --photos ../shared/data/flowers --json speed.json --markdown speed.md
    python benchmarks/run.py --quick                     # small, to see that it works

Training: a whole iteration of `configs/wgan.py` (two updates of the generator, one of the critic
with its gradient penalty) and its parts; inference: the generator with its conversion of colours;
then the loader, the start of the program and the memory of a step. In PyTorch the same networks run
with the same parameters; losses are compared first. Ways to do one thing take turns of two calls,
the second of which is timed, and a figure is the median of `--rounds`; ratios are time by PyTorch's
(or onnxruntime's) best time, so that less than 1 is faster. Each side has its own process, in
which colorjax manages its memory as train.py and `colorjax colorize` do.
"""

import argparse
import contextlib
import importlib.util
import itertools
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from apart import Side, run_apart, serve

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]  # `configs`, and the files beside this one
CRITIC_WIDTHS = (32, 64, 128, 256, 512)
PACKAGES = ("jax", "flax", "torch", "onnxruntime", "numpy")
OURS = "colorjax"
TRAINING_PARTS = (
    "iteration",
    "generator forward",
    "generator forward + backward",
    "critic",
    "penalty",
)
LOWER = "(lower precision)"  # what ours isn't compared with


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
      case: what was done.
      way: by what.
      value: in `unit`.
      ratio: of the value to the best of the others; None where there are no others.
    """

    case: str
    way: str
    value: float
    unit: str
    ratio: float | None = None


def main() -> None:
    """Measure what the command line asks for and write the table."""
    arguments = parse_arguments()
    choose_device(arguments.device)
    if arguments.memory_of:
        print(json.dumps({"megabytes": find_peak_memory(arguments)}))
        return
    if arguments.trace:
        write_trace(arguments)
        return
    if arguments.side:
        SIDES[arguments.side](arguments)
        return
    if arguments.alone:
        for row in PARTS[arguments.alone](arguments):
            print(json.dumps(asdict(row)), flush=True)
        return
    rows = list(measure_apart(arguments))
    if arguments.json:
        figures = {"machine": describe_machine(), "rows": [asdict(row) for row in rows]}
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    if arguments.markdown:
        arguments.markdown.write_text(format_markdown(rows))


def measure_apart(arguments: argparse.Namespace) -> Iterator[Row]:
    """Yield each part's rows, printed as they come, each part from a process of its own.

    So none finds memory that another has used, or is slowed by what another left behind; of
    training, each width and batch is a process.
    """
    cases = [([width], [batch]) for width in arguments.widths for batch in arguments.batch]
    for part in arguments.parts or PARTS:
        together = [(arguments.widths, arguments.batch)]
        for widths, batches in cases if part == "training" else together:
            case = ["--widths", *widths, "--batch", *batches]
            for fields in run_apart(__file__, "--alone", part, *case, *common_flags(arguments)):
                row = Row(**fields)
                print(format_row(row), flush=True)
                yield row


def common_flags(arguments: argparse.Namespace) -> list[object]:
    """Return what every process is told alike."""
    flags = ["--device", arguments.device, "--size", arguments.size, "--rounds", arguments.rounds]
    flags += ["--photos", arguments.photos] if arguments.photos else []
    return [*flags, "--quick"] if arguments.quick else flags


def parse_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 32])
    parser.add_argument("--batch", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--size", type=int, default=128, help="pixels of a picture in training")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--photos", type=Path, help="a folder of photos, for the loader")
    parser.add_argument("--quick", action="store_true", help="narrow networks, small pictures")
    parser.add_argument("--trace", type=Path, metavar="DIR", help="write a profile, nothing else")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.widths, arguments.batch, arguments.rounds = [8], [2], 2
    return arguments


def choose_device(device: str) -> None:
    """Let JAX compute on the device that was asked for, here and in the processes begun from here.

    It then fails where there is none. On a GPU several processes share the memory, of which each
    takes what it needs; by default the first one of JAX's takes three quarters.
    """
    os.environ["JAX_PLATFORMS"] = device
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def measure_peaks(arguments: argparse.Namespace) -> Iterator[Row]:
    """Yield what a large matrix product and a convolution reach on this machine."""
    import jax
    import jax.numpy as jnp
    from timing import alternate

    is_cuda = arguments.device == "cuda"
    dtype = jnp.bfloat16 if is_cuda else jnp.float32
    # A GPU is done with what keeps a CPU busy before the next call reaches it.
    side, batch, channels = (8192, 256, 256) if is_cuda else (2048, 16, 128)
    if arguments.quick:
        side, batch = 512, 4
    matrix = jnp.ones((side, side), dtype)
    pictures = jnp.ones((batch, 64, 64, channels), dtype)
    kernel = jnp.ones((3, 3, channels, channels), dtype)
    layout = ("NHWC", "HWIO", "NHWC")
    convolve = partial(
        jax.lax.conv_general_dilated,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=layout,
    )
    ways = {
        "matrix product": (jax.jit(jnp.matmul), (matrix, matrix), 2 * side**3),
        "convolution 3x3": (
            jax.jit(convolve),
            (pictures, kernel),
            2 * batch * 64**2 * 9 * channels**2,
        ),
    }
    for name, (function, operands, operations) in ways.items():

        def run(function: Any = function, operands: Any = operands) -> None:
            jax.block_until_ready(function(*operands))

        seconds = alternate({name: run}, arguments.rounds)[name]
        yield Row(f"peak, {name}", OURS, operations / seconds / 1e9, "GFLOP/s")


def measure_training(arguments: argparse.Namespace) -> Iterator[Row]:
    """Yield the times of an iteration and of its parts, at one width and batch.

    Ours and PyTorch's are at home in a process each, with the memory management of each: train.py's
    here, as it comes there.
    """
    [width], [batch] = arguments.widths, arguments.batch
    case = f"width {width}, batch {batch}, {arguments.size} px"
    flags = ["--widths", width, "--batch", batch, *common_flags(arguments)]
    with contextlib.ExitStack() as opened:
        mine = Side(__file__, "--side", OURS, *flags)
        sides = [opened.enter_context(mine)]
        if is_installed("torch"):
            list(run_apart(__file__, "--side", "agreement", *flags))
            sides.append(opened.enter_context(Side(__file__, "--side", "PyTorch", *flags)))
        for part in TRAINING_PARTS:
            seconds = take_turns(sides, part, arguments.rounds)
            yield from make_rows(f"{part}, {case}", seconds)
            rate = mine.told["operations"][part] / seconds[OURS] / 1e9
            way = f"{OURS}, {mine.told['devices']} device(s)"
            yield Row(f"arithmetic of {part}, {case}", way, rate, "GFLOP/s")


def take_turns(sides: list[Side], part: str, rounds: int) -> dict[str, float]:
    """Return the median seconds that each way of each side takes for a part."""
    from timing import alternate

    ways = {way: partial(side.run, f"{part}, {way}") for side in sides for way in side.told["ways"]}
    return alternate(ways, rounds)


def is_installed(module: str) -> bool:
    """Return whether a module can be imported."""
    return importlib.util.find_spec(module) is not None


def serve_ours(arguments: argparse.Namespace) -> None:
    """Be colorjax's side of `measure_training`."""
    training = create_ours(arguments)
    made = training.make_ways()
    operations = {part: count for part, (_, count) in made.items()}
    told = {"ways": [OURS], "operations": operations, "devices": training.mesh.size}
    serve(told, {f"{part}, {OURS}": way for part, (way, _) in made.items()})


def serve_theirs(arguments: argparse.Namespace) -> None:
    """Be PyTorch's side of `measure_training`."""
    ways = {}
    trainings = create_theirs(arguments)
    for name, training in trainings.items():
        for part, way in training.make_ways().items():
            ways[f"{part}, PyTorch {name}"] = way
    serve({"ways": [f"PyTorch {name}" for name in trainings]}, ways)


def create_ours(arguments: argparse.Namespace, dtype: str | None = None) -> Any:
    """Return colorjax's training on noise, in the device's usual precision unless told."""
    import numpy as np
    from jax_wgan import Training

    from colorjax import parallel
    from colorjax.memory import keep_freed_memory

    [width], [batch] = arguments.widths, arguments.batch
    keep_freed_memory(large=False)  # this and the next as train.py does
    parallel.divide_among_cores(batch)
    shape = (batch, arguments.size, arguments.size, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    usual = "bfloat16" if arguments.device == "cuda" else "float32"
    return Training(images, width, CRITIC_WIDTHS, dtype or usual)


def create_theirs(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return PyTorch's trainings by name."""
    modes: dict[str, dict[str, Any]] = {"eager": {}, "channels_last": {"channels_last": True}}
    if not arguments.quick:
        modes["compiled"] = {"channels_last": True, "compiled": True}
    if not arguments.quick and computes_in_bfloat16(arguments.device):
        # On a GPU colorjax computes in bfloat16 too.
        name = "bfloat16" if arguments.device == "cuda" else f"bfloat16 {LOWER}"
        modes[name] = {"channels_last": True, "bfloat16": True}
    if arguments.device == "cuda" and not arguments.quick:
        modes["compiled bfloat16"] = {"channels_last": True, "bfloat16": True, "compiled": True}
    return {name: create_one_of_theirs(arguments, options) for name, options in modes.items()}


def computes_in_bfloat16(device: str) -> bool:
    """Return whether PyTorch is fast at it: without AVX-512 an iteration took 130 s, not 8."""
    import torch

    return device == "cuda" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def create_one_of_theirs(arguments: argparse.Namespace, options: dict[str, Any]) -> Any:
    """Return a training of PyTorch's, on noise."""
    import numpy as np
    from torch_wgan import Training
    from widths import stage_widths

    [width], [batch] = arguments.widths, arguments.batch
    noise = np.random.default_rng(0).uniform(-1, 1, (batch, arguments.size, arguments.size, 3))
    gray, ab = np.split(noise.astype(np.float32), [1], axis=-1)
    widths = stage_widths(width)
    return Training(widths, CRITIC_WIDTHS, (gray, ab), device=arguments.device, **options)


def check_agreement(arguments: argparse.Namespace) -> None:
    """Raise unless both sides compute the same losses from the same parameters, in float32."""
    import jax
    import numpy as np
    from torch_wgan import Training, compute_exactly

    jax.config.update("jax_default_matmul_precision", "highest")  # not a GPU's TensorFloat-32
    compute_exactly()
    ours = create_ours(arguments, "float32")
    example = tuple(np.asarray(array) for array in ours.example)
    theirs = Training(ours.widths, CRITIC_WIDTHS, example, device=arguments.device)
    theirs.load(*ours.networks)
    key = jax.random.key(0)
    alpha = theirs.to_tensor(np.asarray(jax.random.uniform(key, (len(ours.images), 1, 1, 1))))
    pictures = theirs.pictures()
    others = {
        "L1": theirs.reconstruction_loss(),
        "critic": theirs.judgement(*pictures),
        "penalty": theirs.penalty(*pictures, alpha),
    }
    for name, mine in ours.losses(key).items():
        other = others[name].item()
        np.testing.assert_allclose(float(mine), other, rtol=2e-3, atol=1e-5, err_msg=name)


def measure_inference(arguments: argparse.Namespace) -> Iterator[Row]:
    """Yield the times of the generator with its conversion of colours, each side's in a process."""
    names = [OURS]
    names += ["PyTorch"] if is_installed("torch") else []
    names += ["onnxruntime"] if arguments.device == "cpu" and is_installed("onnxruntime") else []
    cases = [(1, 64)] if arguments.quick else [(1, 256), (1, 512), (8, 256)]
    for width, (batch, size) in itertools.product(arguments.widths, cases):
        flags = ["--device", arguments.device, "--widths", width, "--batch", batch, "--size", size]
        with contextlib.ExitStack() as opened:
            sides = [
                opened.enter_context(Side(__file__, "--side", f"inference {name}", *flags))
                for name in names
            ]
            seconds = take_turns(sides, "inference", arguments.rounds)
        case = f"inference, width {width}, batch {batch}, {size} px"
        yield from make_rows(case, seconds)
        rate = sides[0].told["operations"] / seconds[OURS] / 1e9
        yield Row(f"arithmetic of {case}", OURS, rate, "GFLOP/s")


def serve_inference(name: str, arguments: argparse.Namespace) -> None:
    """Be a side of `measure_inference`."""
    from inference import make_ways

    from colorjax.memory import keep_freed_memory

    if name == OURS:
        keep_freed_memory()  # as `colorjax colorize` does
    [width], [batch] = arguments.widths, arguments.batch
    ways, operations = make_ways(name, width, batch, arguments.size, arguments.device)
    told = {"ways": list(ways), "operations": operations}
    serve(told, {f"inference, {way}": function for way, function in ways.items()})


def measure_loader(arguments: argparse.Namespace) -> Iterator[Row]:
    """Yield pictures per second: decoded once, beside Pillow's own, then read batch by batch."""
    if arguments.photos is None:
        print("loader: not measured, as --photos names no folder", file=sys.stderr)
        return
    from loader import measure_decoding, measure_reading

    size, count = (64, 64) if arguments.quick else (256, 0)
    with tempfile.TemporaryDirectory() as folder:
        for way, rate in measure_decoding(arguments.photos, size, count, Path(folder)).items():
            yield Row(f"first epoch, {size} px", way, rate, "pictures/s")
        rate = measure_reading(arguments.photos, size, count, Path(folder))
        yield Row(f"later epochs, {size} px", OURS, rate, "pictures/s")


def measure_start(arguments: argparse.Namespace) -> Iterator[Row]:
    """Yield how long the program takes to start, and to colour one photo."""
    from start import NEW, make_commands

    with tempfile.TemporaryDirectory() as folder:
        for name, (command, environment) in make_commands(Path(folder)).items():
            seconds = []
            rounds = 1 if "nothing compiled" in name else arguments.rounds
            for _ in range(rounds):
                new = f"{tempfile.mkdtemp(dir=folder)}/new"
                began = time.perf_counter()
                subprocess.run(  # noqa: S603 (no shell; our own arguments)
                    [part.replace(NEW, new) for part in command],
                    env=environment,
                    check=True,
                    capture_output=True,
                )
                seconds.append(time.perf_counter() - began)
            yield Row(name, OURS, sorted(seconds)[len(seconds) // 2], "s")


def measure_memory(arguments: argparse.Namespace) -> Iterator[Row]:
    """Yield the most memory that a process held which made three iterations."""
    for width in arguments.widths:
        for batch in arguments.batch:
            used = {}
            for way in (OURS, "PyTorch eager", "PyTorch channels_last"):
                found = run_memory_of(arguments, way, width, batch)
                if found is not None:
                    used[way] = found
            case = f"memory of an iteration, width {width}, batch {batch}, {arguments.size} px"
            yield from make_rows(case, used, unit="MB", factor=1.0)


def run_memory_of(arguments: argparse.Namespace, way: str, width: int, batch: int) -> float | None:
    """Return the megabytes of a process of its own; None where PyTorch isn't installed."""
    if way != OURS and not is_installed("torch"):
        return None
    case = ["--widths", width, "--batch", batch, *common_flags(arguments)]
    [found] = run_apart(__file__, "--memory-of", way, *case)
    return float(found["megabytes"])


def find_peak_memory(arguments: argparse.Namespace) -> float:
    """Iterate three times and return the most megabytes in use: this process's, or the device's."""
    is_cuda = arguments.device == "cuda"
    if arguments.memory_of == OURS:
        training = create_ours(arguments)
    else:
        last = arguments.memory_of.endswith("channels_last")
        options = {"channels_last": last, "bfloat16": is_cuda}
        training = create_one_of_theirs(arguments, options)
    for _ in range(3):
        training.iterate()
    if not is_cuda:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    if arguments.memory_of == OURS:
        import jax

        return max(each.memory_stats()["peak_bytes_in_use"] for each in jax.devices()) / 1e6
    import torch

    return torch.cuda.max_memory_allocated() / 1e6


def write_trace(arguments: argparse.Namespace) -> None:
    """Write a profile of five iterations, begun as train.py does, without waiting for each.

    TensorBoard's profile plugin shows it; so does ui.perfetto.dev, the file `*.trace.json.gz`.
    """
    import jax

    arguments.widths, arguments.batch = arguments.widths[:1], arguments.batch[:1]
    training = create_ours(arguments)
    training.iterate()
    with jax.profiler.trace(str(arguments.trace)):
        for _ in range(5):
            training.begin()
        jax.block_until_ready(training.state)


def make_rows(
    case: str, values: dict[str, float], unit: str = "ms", factor: float = 1e3
) -> Iterator[Row]:
    """Yield a row for each way, ours with its ratio to the best other of the same precision."""
    others = [value for way, value in values.items() if way != OURS and LOWER not in way]
    for way, value in values.items():
        ratio = value / min(others) if way == OURS and others else None
        yield Row(case, way, value * factor, unit, ratio)


def describe_machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    import jax

    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "-"
    return {
        "date": date.today().isoformat(),
        "processor": name_processor(),
        "cores": len(os.sched_getaffinity(0)),
        "device": jax.devices()[0].device_kind,
        "load": round(os.getloadavg()[0], 1),
        "command": " ".join(["python", *sys.argv]),
        **versions,
    }


def name_processor() -> str:
    """Return the processor's name, as far as the system tells it."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def format_row(row: Row) -> str:
    """Return a row as a line."""
    ratio = "" if row.ratio is None else f"  {row.ratio:.2f}x the best other"
    return f"{row.case:55} {row.way:24} {row.value:10.1f} {row.unit}{ratio}"


def format_markdown(rows: list[Row]) -> str:
    """Return the table and what it depends on."""
    lines = ["| | by | | ratio |", "|---|---|--:|--:|"]
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        lines.append(f"| {row.case} | {row.way} | {row.value:,.1f} {row.unit} | {ratio} |")
    machine = ", ".join(f"{name} {value}" for name, value in describe_machine().items())
    return "\n".join(lines) + f"\n\n{machine}\n"


SIDES: dict[str, Callable[[argparse.Namespace], None]] = {
    OURS: serve_ours,
    "PyTorch": serve_theirs,
    "agreement": check_agreement,
    **{
        f"inference {name}": partial(serve_inference, name)
        for name in (OURS, "PyTorch", "onnxruntime")
    },
}
PARTS: dict[str, Callable[[argparse.Namespace], Iterator[Row]]] = {
    "peak": measure_peaks,
    "training": measure_training,
    "inference": measure_inference,
    "loader": measure_loader,
    "start": measure_start,
    "memory": measure_memory,
}

if __name__ == "__main__":
    main()
