"""Launchers really run jobs here: in processes, on a Ray cluster of this machine, and as submitit's local jobs."""

import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PYTHON_PATH, ROOT, environment
from zoo.benchmarks.launch_local import LocalLauncher
from zoo.benchmarks.launchers import Launcher, make_launcher

SQUARES = [("square", number) for number in range(4)]


class OddError(Exception):
    """Its `args` are not what its constructor takes, so that pickle cannot rebuild it."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


def work(job: tuple[str, Any]) -> Any:
    kind, value = job
    if kind == "raise":
        raise ValueError(f"no run for {value}")
    if kind == "odd":
        raise OddError(1, 2)
    if kind == "function":
        return lambda: value
    if kind == "exit":
        sys.exit(value)
    if kind == "kill":
        os.kill(os.getpid(), value)
    if kind == "variable":
        return os.environ[value]
    return value**2 if kind == "square" else os.getpid()


def never_end(is_stubborn: bool) -> None:
    """A job that shares its output with a process of its own, as a loader of data does."""
    if is_stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen(["sleep", "600"])
    os.write(1, b"started\n")
    while True:
        signal.pause()


def hold(pipe: str) -> None:
    """A job that never ends, and keeps a named pipe open."""
    with open(pipe, "wb", buffering=0) as held:  # noqa: PTH123
        held.write(b"open")
        while True:
            signal.pause()


def outcomes(launcher: Launcher, jobs: list[tuple[str, Any]]) -> dict[tuple[str, Any], Any]:
    """What came of each job, after the calls have been checked."""
    told: list[tuple[tuple[str, Any], Any]] = []
    polls: list[None] = []
    launcher.run(jobs, work, lambda job, outcome: told.append((job, outcome)), lambda: polls.append(None))
    assert sorted(job for job, _ in told) == sorted(jobs), "each job is told once"
    assert polls
    return dict(told)


def start(script: str) -> "subprocess.Popen[str]":
    """A process that runs a script; jobs find their functions in this module."""
    return subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=environment() | {"PYTHONPATH": PYTHON_PATH, "ZOO_SUBMITIT_CLUSTER": "local"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("processes", [1, 3])
def test_local_processes_work_off_all_jobs(processes: int) -> None:
    told = outcomes(LocalLauncher(processes), [*SQUARES, ("pid", 0), ("pid", 1)])
    assert [told[job] for job in SQUARES] == [0, 1, 4, 9]
    assert os.getpid() not in (told["pid", 0], told["pid", 1])
    if processes == 1:
        assert told["pid", 0] == told["pid", 1], "the imports are paid once"


def test_a_job_that_raises_or_dies_fails_alone() -> None:
    bad = [("raise", 7), ("kill", signal.SIGKILL), ("kill", signal.SIGSEGV), ("exit", 3), ("odd", 0), ("function", 0)]
    jobs = [job for pair in zip(bad, [*SQUARES, ("square", 4), ("square", 5)], strict=True) for job in pair]
    told = outcomes(LocalLauncher(2), jobs)
    assert [told["square", number] for number in range(6)] == [0, 1, 4, 9, 16, 25]
    assert isinstance(told["raise", 7], ValueError) and str(told["raise", 7]) == "no run for 7"
    assert "in work" in told["raise", 7].__notes__[0], "the traceback comes along"
    killed, crashed, left = told["kill", 9], told["kill", 11], told["exit", 3]
    assert {type(killed), type(crashed), type(left)} == {ChildProcessError}
    assert "SIGKILL" in str(killed) and "SIGSEGV" in str(crashed) and "status 3" in str(left)
    assert str(told["odd", 0]) == "OddError: 1 and 2"
    assert isinstance(told["function", 0], Exception), "a value that cannot travel"


def test_threads_of_a_process() -> None:
    told: list[Any] = []
    asked = ["__import__('os').environ['OMP_NUM_THREADS']", "__import__('torch').get_num_threads()"]
    LocalLauncher(1, threads=2).run(asked, eval, lambda job, outcome: told.append(outcome), lambda: None)
    assert told == ["2", 2]


def test_in_process_runs_here_and_survives_exceptions() -> None:
    told = outcomes(LocalLauncher(1, in_process=True), [("raise", 1), ("pid", 0)])
    assert isinstance(told["raise", 1], ValueError) and told["pid", 0] == os.getpid()


def test_an_error_of_the_caller_stops_the_jobs_and_propagates() -> None:
    handler = signal.getsignal(signal.SIGTERM)

    def stop() -> None:
        raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="the disk is full"):
        LocalLauncher(2).run([False, False], never_end, lambda job, outcome: None, stop)
    assert signal.getsignal(signal.SIGTERM) is handler


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_caller_that_is_stopped_leaves_no_process(number: signal.Signals, status: int) -> None:
    process = start(
        "import zoo.benchmarks.launch_local as local\n"
        "from tests.test_bench_launchers import never_end\n"
        "local.GRACE_SECONDS = 1\n"
        "local.LocalLauncher(2).run([False, True], never_end, print, lambda: None)"
    )
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["started\n"] * 2
    process.send_signal(number)
    process.communicate(timeout=15)  # the end of the output: no process that shares it is left
    assert process.returncode == status


@pytest.mark.parametrize("name", ["ray", "slurm"])
def test_clusters_work_off_all_jobs_and_a_job_that_dies_fails_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray" if name == "ray" else "submitit")
    monkeypatch.setenv("ZOO_SUBMITIT_CLUSTER", "local")
    monkeypatch.setenv("PYTHONPATH", PYTHON_PATH)
    monkeypatch.setattr("zoo.benchmarks.launch_slurm.RESULT_SECONDS", 0)
    handler = signal.getsignal(signal.SIGTERM)
    launcher = make_launcher(name, processes=2, threads=0, folder=tmp_path, options={"time": "60"})
    jobs = [("kill", signal.SIGKILL), ("square", 2), ("raise", 7), ("odd", 0), ("square", 3)]
    told = outcomes(launcher, jobs)
    assert (told["square", 2], told["square", 3]) == (4, 9)
    assert isinstance(told["raise", 7], ValueError) and str(told["raise", 7]) == "no run for 7"
    assert str(told["odd", 0]) == "OddError: 1 and 2"
    assert isinstance(told["kill", 9], ChildProcessError) and len(str(told["kill", 9]).splitlines()) == 1
    assert signal.getsignal(signal.SIGTERM) is handler


@pytest.mark.parametrize("name", ["ray", "slurm"])
def test_ctrl_c_stops_the_jobs_of_a_cluster(name: str, tmp_path: Path) -> None:
    pytest.importorskip("ray" if name == "ray" else "submitit")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = start(
        "from pathlib import Path\n"
        "from tests.test_bench_launchers import hold\n"
        "from zoo.benchmarks.launchers import make_launcher\n"
        f"launcher = make_launcher('{name}', processes=1, threads=0, folder=Path('{tmp_path}'))\n"
        f"launcher.run(['{pipe}'], hold, print, lambda: None)"
    )
    # Opened at once, and waited on for long enough: a job that cannot start, on a full disk, must not be waited for.
    with os.fdopen(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as reader:
        assert select.select([reader], [], [], 120)[0] and reader.read() == b"open"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=20) and process.returncode == -signal.SIGINT
        assert select.select([reader], [], [], 10)[0] and reader.read() == b"", "the job has closed it"


def test_ray_says_at_once_that_no_cluster_answers() -> None:
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    launcher = make_launcher("ray", processes=1, threads=0, folder=Path(), address=address)
    with pytest.raises(ConnectionError, match=f"no Ray cluster at '{address}'"):
        outcomes(launcher, [("square", 1)])


def install(folder: Path, **programs: str) -> None:
    folder.mkdir()
    for name, script in programs.items():
        (folder / name).write_text(f"#!/bin/bash\n{script}\n")
        (folder / name).chmod(0o755)


def test_slurm_gets_one_array_with_the_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against stand-ins for Slurm's programs, which start the tasks of the array as Slurm does."""
    pytest.importorskip("submitit")
    task = "SLURM_JOB_ID=77 SLURM_ARRAY_JOB_ID=77 SLURM_ARRAY_TASK_ID=$task SLURM_NTASKS=1 SLURM_JOB_NAME=zoo"
    install(
        tmp_path / "bin",
        sbatch=f"cp $1 {tmp_path}/script; echo Submitted batch job 77; exec &> /dev/null\n"
        f"for task in 0 1; do {task} bash $1 & done",
        srun='while [[ $1 == --* ]]; do [[ $1 == --unbuffered ]] || shift; shift; done; exec "$@" > /dev/null 2>&1',
        sacct="",
    )
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", PYTHON_PATH)
    options = {"partition": "long", "time": "90", "gres": "gpu:1", "cpus-per-task": "5"}
    launcher = make_launcher("slurm", processes=1, threads=0, folder=tmp_path / "jobs", options=options)
    told = outcomes(launcher, [("variable", "SLURM_JOB_NAME"), ("square", 3)])
    assert told == {("variable", "SLURM_JOB_NAME"): "interactive", ("square", 3): 9}
    lines = (tmp_path / "script").read_text().splitlines()
    flags = dict(line.removeprefix("#SBATCH --").split("=", 1) for line in lines if line.startswith("#SBATCH --"))
    wanted = {"array": "0-1%1", "partition": "long", "time": "90", "gres": "gpu:1", "cpus-per-task": "5"}
    assert flags.items() >= wanted.items()
    assert len([line for line in lines if "cpus" in line]) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "slrum"}, "unknown launcher 'slrum'. Did you mean 'slurm'\\? Known: local, ray, slurm"),
        ({"processes": 0}, "processes is 0: it must be at least 1"),
        ({"threads": -1}, "threads is -1: it must be at least 1, or 0"),
    ],
)
def test_wrong_arguments_get_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_launcher(**({"name": "local", "processes": 1, "threads": 0, "folder": Path()} | changes))


@pytest.mark.parametrize(("name", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_missing_package_is_named(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=rf"needs {package}: pip install 'lightning-zoo\[{name}\]'"):
        make_launcher(name, processes=1, threads=0, folder=Path())


def test_slurm_needs_a_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="there is no srun here"):
        make_launcher("slurm", processes=1, threads=0, folder=tmp_path)
