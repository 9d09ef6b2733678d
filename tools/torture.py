"""Kill a training run again and again; it must end as the run that was never killed.

    python tools/torture.py --config configs/wgan.py:tiny --restarts 50

First the recipe is trained once, undisturbed. Then it is trained again in another folder and killed
(SIGKILL, which no program can answer) at random moments: while it starts, between two steps, and
while a checkpoint is being written. Each time the same command is given again. In the end every
array of parameters, optimiser state, batch statistics and average, what the host carries, the
metrics (times and rates apart) and the sample pictures of both runs have to be the same to the bit.

Options that this program doesn't know go to train.py, such as --config.image_size=16.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
MOMENTS = {"starting": 0.15, "training": 0.45, "saving": 0.4}  # and how often each is chosen
TIMES = ("pictures_per_second",)  # the metrics that no two runs share
LONGEST_LINES = 2**14  # bytes that hold the last two lines of metrics.jsonl
POLL_SECONDS = 0.005
LONGEST_SAVE = 0.2  # seconds after a save's begin within which the run is killed


@dataclass(frozen=True)
class Life:
    """One start of the run and its end.

    Attributes:
      moment: when it was to be killed; "" for a life that was left to end.
      resumed: the step that it went on from; 0 for the beginning.
      reached: the last step in metrics.jsonl at its end.
      cut_saves: checkpoints that its end left unfinished.
      seconds: how long it lasted.
    """

    moment: str
    resumed: int
    reached: int
    cut_saves: int
    seconds: float


class Torture:
    """A run that is killed until it has been restarted often enough.

    Args:
      command: of the run, its folder included.
      workdir: its folder.
      steps: within so many it is killed the last time; it has a few more.
      restarts: how often it is killed.
      seed: of when.
    """

    def __init__(
        self, command: list[str], workdir: Path, steps: int, restarts: int, seed: int
    ) -> None:
        self._command, self._workdir = command, workdir
        self._steps, self._restarts = steps, restarts
        self._random = np.random.default_rng(seed)
        self._start_seconds = 5.0  # until a life's first step; learnt from those before

    def lives(self) -> Iterator[Life]:
        """Yield each killed life, then the one that ends by itself.

        Raises:
          SystemExit: if a life fails, or ends before it could be killed.
        """
        for number in range(self._restarts):
            yield self._live(self._choose_moment(), self._choose_step(number))
        yield self._live("", self._steps)

    def _choose_moment(self) -> str:
        return str(self._random.choice(list(MOMENTS), p=list(MOMENTS.values())))

    def _choose_step(self, number: int) -> int:
        """Return the step from which a life may be killed: steps are left for the others."""
        last = max(1, self._steps * (number + 1) // self._restarts)
        first = min(last_step(self._workdir), last - 1)
        return int(self._random.integers(first, last)) + 1

    def _live(self, moment: str, step: int) -> Life:
        started, began = time.monotonic(), time.time()
        log = self._workdir.with_name(f"{self._workdir.name}.log")
        with log.open("w") as file:
            process = subprocess.Popen(  # noqa: S603 (no shell; the caller's own arguments)
                self._command, stdout=file, stderr=file, start_new_session=True, cwd=ROOT
            )
        if moment:
            self._wait(process, moment, step)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        status = process.wait()
        if moment and status == 0:
            raise SystemExit("The run ended before it was killed often enough: give it more steps.")
        if status != (-signal.SIGKILL if moment else 0):
            raise SystemExit(f"The run ended with status {status}:\n{log.read_text()}")
        cut = [save for save in unfinished_saves(self._workdir) if save.stat().st_ctime > began]
        resumed, reached = resumed_step(log.read_text()), last_step(self._workdir)
        return Life(moment, resumed, reached, len(cut), time.monotonic() - started)

    def _wait(self, process: subprocess.Popen[bytes], moment: str, step: int) -> None:
        """Return at the moment when the run is to be killed, or when it has ended."""
        if moment == "starting":
            time.sleep(self._random.uniform(0.0, self._start_seconds))
            return
        started, before = time.monotonic(), modified(self._workdir)
        while process.poll() is None and modified(self._workdir) == before:
            time.sleep(POLL_SECONDS)
        self._start_seconds = time.monotonic() - started
        while process.poll() is None and last_step(self._workdir) < step:
            time.sleep(POLL_SECONDS)
        if moment == "saving":
            old = unfinished_saves(self._workdir)
            while process.poll() is None and not unfinished_saves(self._workdir) - old:
                time.sleep(POLL_SECONDS)
            time.sleep(LONGEST_SAVE * self._random.uniform() ** 3)  # rather early than late


def read_lines(workdir: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a run's metrics.jsonl, without times and rates."""
    path = workdir / "metrics.jsonl"
    text = path.read_text() if path.is_file() else ""
    lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [{name: line[name] for name in line if name not in TIMES} for line in lines]


def last_step(workdir: Path) -> int:
    """Return the step of the last whole line of metrics.jsonl, 0 without one."""
    path = workdir / "metrics.jsonl"
    if not path.is_file():
        return 0
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LONGEST_LINES))
        whole, _, _ = file.read().rpartition(b"\n")
    return json.loads(whole.splitlines()[-1])["step"] if whole else 0


def modified(workdir: Path) -> float:
    """Return when metrics.jsonl was changed last; 0 if there is none."""
    path = workdir / "metrics.jsonl"
    return path.stat().st_mtime if path.is_file() and path.stat().st_size else 0.0


def unfinished_saves(workdir: Path) -> set[Path]:
    """Return the folders of checkpoints that have not got their final names."""
    places = [workdir / "steps", workdir / "best"]
    found = (path for place in places if place.is_dir() for path in place.iterdir())
    return {path for path in found if not path.name.isdigit()}


def resumed_step(output: str) -> int:
    """Return the step that a run's output says it went on from; 0 if it began."""
    _, found, rest = output.partition("resumed from step ")
    return int(rest.split()[0]) if found else 0


def find_differences(whole: Path, killed: Path) -> list[str]:
    """Return a sentence for each thing in which two runs' folders differ; none if they are alike.

    What is compared is the last step and the best one, metrics.jsonl and the sample pictures.
    """
    differences = []
    if read_lines(whole) != read_lines(killed):
        differences.append("metrics.jsonl: " + _first_difference(whole, killed))
    for place in ("steps", "best"):
        steps = [
            max(int(path.name) for path in (each / place).iterdir()) for each in (whole, killed)
        ]
        if steps[0] != steps[1]:
            differences.append(
                f"{place}: the last is {steps[0]} in one run, {steps[1]} in the other"
            )
            continue
        one, other = (read_arrays(each, each / place / str(steps[0])) for each in (whole, killed))
        for name in sorted(one.keys() | other.keys()):
            if name not in one or name not in other or one[name] != other[name]:
                differences.append(f"{place}/{steps[0]}: {name}")
    pictures = [
        {path.name: path.read_bytes() for path in each.glob("samples/*")}
        for each in (whole, killed)
    ]
    for name in sorted(pictures[0].keys() | pictures[1].keys()):
        if pictures[0].get(name) != pictures[1].get(name):
            differences.append(f"samples/{name}")
    return differences


def read_arrays(workdir: Path, folder: Path) -> dict[str, tuple[Any, ...]]:
    """Return type, shape and bytes of every array of a step, and what the host carries."""
    import jax

    from colorjax import checkpoint, configuration
    from colorjax.training.assembly import create_parts, create_phases
    from colorjax.training.state import create_state

    config = configuration.read_config(workdir)
    parts = create_parts(config, create_phases(config), steps_per_epoch=1)
    key = jax.random.key(0)
    state = jax.eval_shape(lambda key: create_state(parts, config.image_size, key), key)
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    state = checkpoint.with_sharding(state, sharding)
    items = {"generator": state.inference_variables}
    if checkpoint.has_item(folder, "critic"):
        items["critic"] = state.critic.variables
    trees = {name: checkpoint.restore_item(folder, name, item) for name, item in items.items()}
    found: dict[str, tuple[Any, ...]] = {}
    if checkpoint.has_item(folder, "state"):
        trees["state"] = checkpoint.restore_state(folder, state)
        found["progress"] = (checkpoint.read_progress(folder),)
    for path, leaf in jax.tree_util.tree_leaves_with_path(trees):
        array = np.asarray(leaf)
        found[jax.tree_util.keystr(path)] = (str(array.dtype), array.shape, array.tobytes())
    return found


def _first_difference(whole: Path, killed: Path) -> str:
    one, other = read_lines(whole), read_lines(killed)
    for number, (line, twin) in enumerate(zip(one, other, strict=False), 1):
        for name in line.keys() | twin.keys():
            if line.get(name) != twin.get(name):
                return f"line {number}: {name} is {line.get(name)} and {twin.get(name)}"
    return f"{len(one)} lines in one run, {len(other)} in the other"


def main() -> int:
    """Torture a recipe; return 0 if it bore it, 1 if not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True, help="a recipe, such as configs/wgan.py:tiny")
    parser.add_argument("--restarts", type=int, default=50, help="how often the run is killed")
    parser.add_argument("--workdir", type=Path, default=Path("torture"), help="holds both runs")
    parser.add_argument("--save-every", type=int, default=5, help="steps between two checkpoints")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments, others = parser.parse_known_args()
    workdir = arguments.workdir.absolute()
    workdir.mkdir(parents=True, exist_ok=True)
    if (workdir / "killed").exists():
        parser.error(f"{workdir / 'killed'} is there already: name another --workdir")
    command = [sys.executable, "train.py", "--config", arguments.config, *others]
    command += [
        "--config.log_every_steps=1",
        f"--config.checkpoint.every_steps={arguments.save_every}",
    ]
    whole, killed = ([*command, "--workdir", str(workdir / name)] for name in ("whole", "killed"))
    subprocess.run(whole, cwd=ROOT, check=True)  # noqa: S603 (no shell; the caller's own arguments)
    steps = last_step(workdir / "whole")
    spare = 2 * arguments.save_every  # the last kill may wait for a save to begin
    if steps < 2 * arguments.restarts + spare:
        parser.error(f"a run of {steps} steps is too short for --restarts {arguments.restarts}")
    torture = Torture(killed, workdir / "killed", steps - spare, arguments.restarts, arguments.seed)
    print("\n| start | from step | killed while | after step | unfinished saves | seconds |")
    print("|---|---|---|---|---|---|")
    for number, life in enumerate(torture.lives(), 1):
        columns = (life.resumed, life.moment or "it ended", life.reached, life.cut_saves)
        print(f"| {number} | {' | '.join(map(str, columns))} | {life.seconds:.1f} |", flush=True)
    differences = find_differences(workdir / "whole", workdir / "killed")
    print(
        "\n" + ("\n".join(differences) or f"Both runs end alike after {steps} steps, bit for bit.")
    )
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
