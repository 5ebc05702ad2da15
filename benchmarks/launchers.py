"""Launchers: where jobs are worked off. What they share is here, each of them in a module of its own.

A job is any value that can be pickled, and the work a function of a module. All launchers keep these promises:

- the caller hears of each job as it ends, in the process and the thread that called `run`;
- a job that raises, or whose process dies, has failed; the other jobs go on;
- Ctrl-C, SIGTERM and an error of the caller's own functions stop the running jobs before they leave `run`.
"""

import importlib.util
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol, TypeVar

from zoo.registry import nearest

AnyJob = TypeVar("AnyJob")
Value = TypeVar("Value")
Work = Callable[[AnyJob], Value]
OnDone = Callable[[AnyJob, Value | BaseException], None]
Poll = Callable[[], None]

LAUNCHERS = ("local", "ray", "slurm")
POLL_SECONDS = 0.5
"""How long a launcher waits for the end of a job before it calls `poll`."""


class Launcher(Protocol):
    """Works off jobs, several at once."""

    def run(
        self, jobs: Sequence[AnyJob], work: Work[AnyJob, Value], on_done: OnDone[AnyJob, Value], poll: Poll
    ) -> None:
        """Run all jobs and return when the last has ended.

        Args:
            jobs: Started in this order.
            work: Called with a job, in another process; what it returns must be picklable.
            on_done: Called with each job as it ends and what came of it: the value, or the exception that it raised.
                `ChildProcessError` stands for a process that died, and says how.
            poll: Called at least once a second: for a display of the progress.
        """


def make_launcher(
    name: str,
    *,
    processes: int,
    threads: int,
    folder: Path,
    address: str | None = None,
    options: Mapping[str, str] = {},
) -> Launcher:
    """The launcher of that name.

    Args:
        name: One of `LAUNCHERS`.
        processes: Jobs at once.
        threads: CPU threads of each job; 0 leaves that to torch.
        folder: Where Slurm's scripts and logs are written.
        address: Of a running Ray cluster.
        options: Of Slurm's `sbatch`, by their long names.

    The environment variable `ZOO_SUBMITIT_CLUSTER=local` makes Slurm's jobs processes of this machine, to try them out.

    Raises:
        ValueError: The name is unknown, a number is out of range, or the optional package is missing.
    """
    if name == "local":
        from zoo.benchmarks.launch_local import LocalLauncher

        return LocalLauncher(processes, threads)
    if name == "ray":
        from zoo.benchmarks.launch_ray import RayLauncher

        return RayLauncher(processes, threads, address)
    if name == "slurm":
        from zoo.benchmarks.launch_slurm import SlurmLauncher

        cluster = os.environ.get("ZOO_SUBMITIT_CLUSTER", "slurm")
        return SlurmLauncher(processes, threads, folder, dict(options), cluster)
    raise ValueError(f"unknown launcher '{name}'.{nearest(name, LAUNCHERS)}")


def check_numbers(processes: int, threads: int) -> None:
    """Raise ValueError unless there can be so many processes with so many threads each."""
    if processes < 1:
        raise ValueError(f"processes is {processes}: it must be at least 1")
    if threads < 0:
        raise ValueError(f"threads is {threads}: it must be at least 1, or 0 for torch's own choice")


def check_package(name: str, extra: str | None = None) -> None:
    """Raise ValueError unless the optional package is installed; `extra` is the extra that brings it."""
    if importlib.util.find_spec(name) is None:
        raise ValueError(f"this launcher needs {name}: pip install 'lightning-zoo[{extra or name}]'")


def attempt(work: Work[AnyJob, Value], job: AnyJob) -> Value | Exception:
    """What comes of a job, in a form that travels between processes: the value, or the exception with its traceback."""
    try:
        value = work(job)
        pickle.loads(pickle.dumps(value))
    except Exception as error:
        error.add_note("".join(traceback.format_exception(error)))  # pickle drops the traceback itself
        return _portable(error)
    return value


def set_threads(threads: int) -> None:
    """Give torch, and what else counts in OpenMP threads, so many of them in this process; 0 changes nothing."""
    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)  # for libraries that are imported after this, torch among them
        import torch

        torch.set_num_threads(threads)


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM raises SystemExit meanwhile, as SIGINT raises KeyboardInterrupt, so that `finally` clauses run."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may have handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, _raise_exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _portable(error: Exception) -> Exception:
    """The exception, or its text if it cannot be rebuilt in another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _raise_exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
