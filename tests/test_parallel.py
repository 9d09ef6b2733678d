"""Which launcher started several processes, and that they join; run as a script, it is one."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from colorjax import parallel
from colorjax.parallel import find_cluster

ROOT = Path(__file__).parents[1]

# What the launchers set, as their manuals and users' listings have it.
OPEN_MPI = {
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
}
BATCH_SCRIPT = {
    "SLURM_JOB_ID": "200505",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_JOB_NODELIST": "gnode[10,20]",
}
SRUN = BATCH_SCRIPT | {
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "gnode[10,20]",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NUM_NODES": "2",
}
POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "HOSTNAME": "web-7d4"}


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, None),
        (OPEN_MPI, "Open MPI"),
        (OPEN_MPI | {"OMPI_COMM_WORLD_SIZE": "1"}, None),
        (OPEN_MPI | SRUN, "Open MPI"),  # mpirun starts its own helpers by srun
        (SRUN, "Slurm"),
        (SRUN | {"SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1"}, None),
        (SRUN | {"SLURM_STEP_NUM_TASKS": "1"}, None),  # srun -n 1 in a job of four
        (BATCH_SCRIPT, None),
        (POD, None),
        (POD | {"JOB_COMPLETION_INDEX": "0"}, "Kubernetes"),
        ({"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"}, None),
        ({"TPU_WORKER_HOSTNAMES": "a,b", "TPU_WORKER_ID": "0"}, "a TPU pod"),
        (POD | {"TPU_PROCESS_ADDRESSES": "a:1,b:1", "JOB_COMPLETION_INDEX": "0"}, "a TPU pod"),
        ({"TPU_WORKER_HOSTNAMES": "localhost", "MEGASCALE_NUM_SLICES": "2"}, "a TPU pod"),
        ({"OMPI_COMM_WORLD_SIZE": "many"}, None),
    ],
)
def test_the_launcher_is_known_by_its_variables(environment, name):
    cluster = find_cluster(environment)
    assert (cluster and cluster.name) == name


def test_a_cluster_says_how_many_processes_there_are_and_which_this_is():
    for environment, index in ((OPEN_MPI, 3), (SRUN, 2)):
        cluster = find_cluster(environment)
        assert (cluster.processes, cluster.process_id) == (4, index)


def test_processes_that_share_a_host_take_one_of_its_devices_each():
    alone = ({"SLURM_STEP_NUM_NODES": "4"}, {"OMPI_COMM_WORLD_LOCAL_SIZE": "1"})
    for environment, change in zip((SRUN, OPEN_MPI), alone, strict=True):
        assert find_cluster(environment).local_id == 1
        assert find_cluster(environment | change).local_id is None


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def start(variables: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    """Start this file with these variables of a launcher."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)} | variables
    return subprocess.Popen(
        [sys.executable, __file__, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Return the last lines of stdout and stderr."""
    texts = process.communicate(timeout=300)
    output, errors = ((text.splitlines() or [""])[-1] for text in texts)
    return output, errors


def test_processes_of_open_mpi_join_by_its_variables_alone():
    port = free_port()
    shared = {
        "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://127.0.0.1,10.0.0.1:34911",
        "OMPI_COMM_WORLD_SIZE": "2",
        "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
        "JAX_COORDINATOR_PORT": str(port),
    }
    ranks = ({"OMPI_COMM_WORLD_RANK": rank, "OMPI_COMM_WORLD_LOCAL_RANK": rank} for rank in "01")
    processes = [start(shared | rank) for rank in ranks]
    outputs = [finish(process) for process in processes]
    assert [output for output, _ in outputs] == ["0 of 2 stops: 143", "1 of 2 stops: 143"], outputs


def test_a_given_coordinator_takes_the_rest_from_the_launcher():
    # As under Open MPI 5, which doesn't say where its first process is.
    shared = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}
    address = f"localhost:{free_port()}"
    processes = [start(shared | {"OMPI_COMM_WORLD_RANK": rank}, address) for rank in "01"]
    outputs = [finish(process) for process in processes]
    assert [output for output, _ in outputs] == ["0 of 2 stops: 143", "1 of 2 stops: 143"], outputs


@pytest.mark.parametrize(
    ("variables", "arguments", "message"),
    [
        (OPEN_MPI, (), "under Open MPI 4 alone; give --coordinator HOST:PORT"),
        (POD | {"JOB_COMPLETION_INDEX": "0"}, (), "pip install 'jax[k8s]'"),
        ({}, ("auto",), "could not join each other"),
        ({}, ("somewhere", "2", "0"), "--coordinator=somewhere: give HOST:PORT"),
        ({}, ("localhost:1", "2", "2"), "also needs --processes and --process_id"),
        ({}, ("", "2", "0"), "go with --coordinator"),
    ],
)
def test_processes_that_cannot_join_say_so_in_one_sentence(variables, arguments, message):
    process = start(variables, *arguments)
    output, last_line = finish(process)
    assert process.returncode == 1
    assert output == ""
    assert last_line.startswith("colorjax.errors.UserError: ")
    assert message in last_line


def test_a_process_can_be_told_to_train_alone():
    assert finish(start(OPEN_MPI, "none"))[0] == "0 of 1 stops: 143"


if __name__ == "__main__":
    from colorjax import parallel
    from colorjax.training.interruption import Interruption

    coordinator, processes, process_id = (*sys.argv[1:], *("", "0", "-1")[len(sys.argv) - 1 :])
    parallel.initialize(coordinator, int(processes), int(process_id))
    interruption = Interruption()
    if parallel.process_index() == parallel.process_count() - 1:
        interruption.signal_number = signal.SIGTERM  # came to the last one; all have to stop
    assert parallel.agree("the same")
    assert parallel.agree(str(parallel.process_index())) == (parallel.process_count() == 1)
    place = f"{parallel.process_index()} of {parallel.process_count()}"
    told = "stops:" if interruption.share() else "goes on:"
    print(place, told, interruption.exit_status, flush=True)


@pytest.mark.parametrize(
    ("cores", "batch_size", "devices"),
    [(1, 16, 1), (2, 16, 2), (2, 15, 1), (2, 6, 1), (4, 16, 4), (4, 18, 3), (64, 64, 4), (2, 0, 1)],
)
def test_cores_share_a_batch_evenly_with_work_enough_for_each(cores, batch_size, devices):
    assert parallel.count_devices(cores, batch_size) == devices


def run_divided(batch_size: int, program: str, **variables: str) -> list[str]:
    """Run a program in a process that divides a batch among its cores; return what it prints."""
    told = ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES", "NPROC")
    environment = {name: os.environ[name] for name in os.environ if name not in told}
    beginning = f"from colorjax import parallel; parallel.divide_among_cores({batch_size})\n"
    result = subprocess.run(
        [sys.executable, "-c", beginning + program],
        env=environment | {"JAX_PLATFORMS": "cpu", **variables},
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


@pytest.mark.parametrize(
    ("variables", "devices"),
    [
        ({"JAX_NUM_CPU_DEVICES": "3"}, 3),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=5"}, 5),
        ({"NPROC": "1"}, 1),
        ({}, parallel.count_devices(parallel.count_cores(), 64)),
        ({"NPROC": "many"}, parallel.count_devices(parallel.count_cores(), 64)),
    ],
)
def test_the_environment_says_how_many_devices_a_cpu_has(variables, devices):
    program = "import jax, os; print(len(jax.devices()), os.environ.get('NPROC', 0))"
    count, threads = run_divided(64, program, **variables)
    assert int(count) == devices
    assert devices == 1 or int(threads) >= 2 * devices


@pytest.mark.skipif(parallel.count_cores() < 2, reason="one core is one device")
def test_programs_in_flight_on_several_cores_do_not_block_one_another():
    # 300 programs begun at once: XLA aborts after 40 s if their sums wait for threads.
    program = """
import jax, jax.numpy as jnp
mesh = parallel.create_mesh()
x = parallel.create_global_batch(jnp.ones((16, 32, 32, 32)), mesh)
kernel = parallel.replicate(jnp.ones((1, 1, 32, 32)) / 32, mesh)
@jax.jit
def convolve(x, bias):
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel + bias, (1, 1), "SAME", dimension_numbers=layout)
mean = jax.jit(lambda x: jnp.mean(x))
means = [mean(convolve(x, i / 32)) for i in range(300)]
print(len(jax.devices()), round(float(means[-1])))
"""
    count = parallel.count_devices(parallel.count_cores(), 16)
    assert run_divided(16, program) == [str(count), "300"]
