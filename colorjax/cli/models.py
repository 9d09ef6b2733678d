"""List what MODEL may name."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes: nothing."""


def run(arguments: argparse.Namespace) -> int:
    """Print a line for each model that comes with colorjax or lies under ./checkpoints."""
    from colorjax.colorize.model import RUNS, list_runs, list_shipped
    from colorjax.colorize.shipped import DEFAULT
    from colorjax.console import say

    shipped = list_shipped()
    runs = {name: steps for name, steps in list_runs().items() if name not in shipped}
    for name in shipped:
        say(f"{name}  (shipped with colorjax{'; the default' if name == DEFAULT else ''})")
    for name, steps in runs.items():
        say(f"{name}  ({RUNS / name}{'; steps ' + ', '.join(steps) if steps else ''})")
    if not shipped and not runs:
        say(f"There is no model under {RUNS}/ and none is shipped: train.py makes one.")
    say("MODEL may also be any run's or model's folder, and DIR@STEP for one of its steps.")
    return 0
