"""Jobs in processes of this machine."""

import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from zoo.benchmarks.launchers import (
    POLL_SECONDS,
    AnyJob,
    OnDone,
    Poll,
    Value,
    Work,
    attempt,
    check_numbers,
    set_threads,
    terminable,
)

GRACE_SECONDS = 20.0
"""What a job has between SIGTERM and SIGKILL: time to write a checkpoint."""


@dataclass(frozen=True)
class LocalLauncher:
    """Processes on this machine, which live for many jobs: their imports take seconds.

    Args:
        processes: How many.
        threads: CPU threads of each; 0 leaves that to torch.
        in_process: Work in this process instead, one job after the other: for debugging. Nothing polls during a job.
    """

    processes: int
    threads: int = 0
    in_process: bool = False

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_numbers(self.processes, self.threads)

    def run(
        self, jobs: Sequence[AnyJob], work: Work[AnyJob, Value], on_done: OnDone[AnyJob, Value], poll: Poll
    ) -> None:
        """Run all jobs; see `Launcher.run`."""
        if self.in_process:
            set_threads(self.threads)
            for job in jobs:
                on_done(job, attempt(work, job))
                poll()
            return
        workers = [_Worker(self.threads) for _ in range(min(self.processes, len(jobs)))]
        with terminable():
            try:
                _work_off(workers, jobs, work, on_done, poll)
            finally:
                _stop(workers)


# concurrent.futures is not enough: before Python 3.14 its executors cannot stop a running call, and they fail all calls
# when one process dies.
class _Worker:
    """A process that works off one job at a time, and is replaced if it dies."""

    connection: Connection

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._process: SpawnProcess | None = None

    def submit(self, work: Work[AnyJob, Value], job: AnyJob) -> None:
        """Start a job."""
        if not self.is_alive():
            self._start()
        self.connection.send((work, job))

    def is_alive(self) -> bool:
        """Whether there is a process."""
        return self._process is not None and self._process.is_alive()

    def outcome(self) -> Any:
        """What came of the job, once the connection is ready or the process has died."""
        with suppress(EOFError, OSError):
            if self.connection.poll():
                return self.connection.recv()
        return self._bury()

    def terminate(self) -> None:
        """Ask the process to end, whether it works or waits for a job."""
        if self._process is not None and self.is_alive():
            self.connection.close()
            self._process.terminate()

    def kill(self) -> None:
        """End the process now, with all that it started."""
        if self._process is None or self._process.pid is None:
            return
        if sys.platform != "win32":
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()

    def _bury(self) -> ChildProcessError:
        assert self._process is not None
        self._process.join(POLL_SECONDS)  # the connection closes a little before the process ends
        _stop([self])
        return ChildProcessError(_cause_of_death(self._process.exitcode or 0))

    def _start(self) -> None:
        context = get_context("spawn")  # a fork of a process with threads, such as torch's, may hang
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._threads))
        self._process.start()
        theirs.close()


def _work_off(
    workers: list[_Worker],
    jobs: Sequence[AnyJob],
    work: Work[AnyJob, Value],
    on_done: OnDone[AnyJob, Value],
    poll: Poll,
) -> None:
    waiting = deque(jobs)
    running: dict[_Worker, AnyJob] = {}
    while waiting or running:
        for worker in workers:
            if waiting and worker not in running:
                running[worker] = waiting.popleft()
                worker.submit(work, running[worker])
        ready = connection.wait([worker.connection for worker in running], POLL_SECONDS)
        for worker in [worker for worker in running if worker.connection in ready or not worker.is_alive()]:
            on_done(running.pop(worker), worker.outcome())
        poll()


def _stop(workers: list[_Worker]) -> None:
    """End the processes: by SIGTERM, and by SIGKILL those that are still there when their time is over."""
    try:
        for worker in workers:
            worker.terminate()
        deadline = time.monotonic() + GRACE_SECONDS
        while any(worker.is_alive() for worker in workers) and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:  # also when a second Ctrl-C ends the waiting
        for worker in workers:
            worker.kill()


def _serve(caller: Connection, threads: int) -> None:
    """The life of a process: job after job, until the caller closes the connection or dies."""
    if sys.platform != "win32":
        os.setpgrp()  # the terminal's Ctrl-C is for the caller, who stops this process and all that it started at once
    threading.Thread(target=_die_with_parent, daemon=True).start()
    set_threads(threads)
    with suppress(EOFError, BrokenPipeError):
        while True:
            work, job = caller.recv()
            caller.send(attempt(work, job))


def _die_with_parent() -> None:
    """The caller may be killed during a job, and then nobody else stops it."""
    parent = parent_process()
    if parent is not None:
        parent.join()
    if sys.platform != "win32":
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _cause_of_death(status: int) -> str:
    if status >= 0:
        return f"its process ended with status {status}"
    name = signal.Signals(-status).name
    return f"its process was ended by {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")
