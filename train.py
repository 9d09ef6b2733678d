"""Train a colorizer: python train.py --config configs/wgan.py [--config.FIELD=VALUE ...]."""

import os
import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from colorjax import configuration, parallel
from colorjax.cli.errors import reporting_errors
from colorjax.cli.reporting import quieten
from colorjax.compilation import keep_compiled_programs
from colorjax.errors import UserError
from colorjax.memory import keep_freed_memory, leave_garbage_at_exit

_CONFIG = config_flags.DEFINE_config_file("config", help_string="A recipe, such as configs/wgan.py")
_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder; default checkpoints/<config>.")
_VERBOSE = flags.DEFINE_bool("verbose", False, "Show the traceback of an error, and logs.")
_COORDINATOR = flags.DEFINE_string(
    "coordinator",
    "",
    "host:port of process 0; none: one process; auto: JAX finds it; empty: as the cluster says.",
)
_PROCESSES = flags.DEFINE_integer("processes", 0, "How many processes there are.")
_PROCESS_ID = flags.DEFINE_integer("process_id", -1, "Which of them this is, from 0.")


def parse_flags(argv: list[str]) -> list[str]:
    """Parse the command line.

    Raises:
      UserError: in place of absl's and ml_collections' several errors.
    """
    try:
        rest = flags.FLAGS(argv)
        if not flags.FLAGS["config"].present:
            raise UserError("Name a recipe: --config configs/wgan.py.")
        list(_CONFIG.value)  # a recipe that could not be read raises only when it is used
    except SystemExit:
        sys.exit(0)  # --help was asked for and given, which absl calls a failure
    except AttributeError as error:
        problem = str(error).strip("\"'").replace("\\'", "'").replace("\\n", " ")
        raise UserError(
            f"The config has no field {problem}: configs/common.py lists the fields."
        ) from error
    except OSError as error:
        raise UserError("There is no such recipe: give --config configs/wgan.py.") from error
    except (flags.Error, TypeError, ValueError) as error:
        raise UserError(str(error).splitlines()[0]) from error
    if len(rest) > 1:
        raise UserError(f"{rest[1]!r} is no flag: options look like --workdir DIR.")
    return rest


def main(argv: list[str]) -> int:
    """Hand config and folder to the training loop; return the exit status."""
    from colorjax.training import loop

    quieten(_VERBOSE.value)
    if not _VERBOSE.value:
        logging.set_verbosity(logging.FATAL)  # Orbax logs errors that one sentence will tell
    keep_freed_memory(large=os.environ.get("COLORJAX_KEEP_MEMORY") == "1")
    keep_compiled_programs()
    parallel.initialize(_COORDINATOR.value, _PROCESSES.value, _PROCESS_ID.value)
    parallel.divide_among_cores(_CONFIG.value.batch_size)
    recipe = config_flags.get_config_filename(flags.FLAGS["config"])
    workdir = _WORKDIR.value or configuration.default_workdir(recipe)
    return loop.train(_CONFIG.value, Path(workdir), owns_process=True)


if __name__ == "__main__":
    leave_garbage_at_exit()
    # Flags are parsed within, where their errors are reported too.
    with parallel.leaving_at_once(), reporting_errors(verbose="--verbose" in sys.argv):
        app.run(main, flags_parser=parse_flags)
