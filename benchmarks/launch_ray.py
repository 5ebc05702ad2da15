"""Jobs as tasks of Ray, on the machines of a cluster."""

import importlib
import os
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
    check_package,
    set_threads,
    terminable,
)

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""Ray reports its use to its makers, and announces a change of what it does with GPUs, unless it is told not to."""
OBJECT_STORE_BYTES = 100 * 2**20  # results are small; the default is a third of the memory

CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class RayLauncher:
    """Tasks of Ray, each with its CPU threads and, where the cluster has GPUs, its share of them.

    The package must be installed on all machines, and all must see the data and the folder of the results under the
    same paths.

    Args:
        processes: Jobs at once, on all machines together.
        threads: CPU threads of each; 0 asks for one CPU and leaves their number to Ray, which then says one.
        address: Of a running cluster, as `ray.init` takes it; None starts one on this machine, and ends it.
    """

    processes: int
    threads: int = 0
    address: str | None = None

    def __post_init__(self) -> None:
        """Check the numbers, and that Ray is there."""
        check_numbers(self.processes, self.threads)
        check_package("ray")

    def run(
        self, jobs: Sequence[AnyJob], work: Work[AnyJob, Value], on_done: OnDone[AnyJob, Value], poll: Poll
    ) -> None:
        """Run all jobs; see `Launcher.run`.

        Raises:
            ConnectionError: No cluster answers at the address.
        """
        if not jobs:
            return
        with terminable(), connected(self._ray(), self.address, self._cpus * self.processes) as ray, terminable():
            task = ray.remote(_run_job).options(num_cpus=self._cpus, num_gpus=self._gpus(ray), max_retries=0)
            waiting = deque(jobs)
            running: dict[Any, AnyJob] = {}
            try:
                while waiting or running:
                    while waiting and len(running) < self.processes:
                        job = waiting.popleft()
                        running[task.remote(self.threads, work, job)] = job
                    # Without a timeout: `ray.wait` turns what a signal handler raises into an exit of its own.
                    for done in ray.wait(list(running), num_returns=len(running), timeout=0)[0]:
                        on_done(running.pop(done), _outcome(ray, done))
                    poll()
                    time.sleep(POLL_SECONDS if running else 0)
            finally:
                for left in running:  # the cluster may go on without this process
                    ray.cancel(left, force=True)

    @property
    def _cpus(self) -> int:
        return max(1, self.threads)

    def _gpus(self, ray: Any) -> float:
        """The share of a GPU that each job has if all run at once."""
        return float(min(1.0, ray.cluster_resources().get("GPU", 0) / self.processes))

    def _ray(self) -> Any:
        os.environ.update(QUIET)
        return importlib.import_module("ray")


@contextmanager
def connected(ray: Any, address: str | None, cpus: int) -> Iterator[Any]:
    """Ray, connected to a cluster; one of this machine only is started and ended here."""
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address is None:
            local = {"num_cpus": cpus, "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
            ray.init("local", **local, **quiet)
        else:
            _connect(ray, address, quiet)
        yield ray
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str, quiet: dict[str, Any]) -> None:
    try:
        host, _, port = address.removeprefix("ray://").rpartition(":")
        if port.isdecimal():  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
        ray.init(address, **quiet)
    except (OSError, OverflowError, ValueError) as error:
        raise ConnectionError(f"no Ray cluster at '{address}': {' '.join(str(error).split())}") from None


def _run_job(threads: int, work: Work[AnyJob, Value], job: AnyJob) -> Value | Exception:
    set_threads(threads)
    return attempt(work, job)


def _outcome(ray: Any, done: Any) -> Any:
    try:
        return ray.get(done)
    except ray.exceptions.RayError as error:
        return ChildProcessError(str(error).splitlines()[0])
