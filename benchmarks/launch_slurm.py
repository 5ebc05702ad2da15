"""Jobs of Slurm, submitted as one array."""

import functools
import importlib
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
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

TIMEOUT_MINUTES = 24 * 60
"""How long a job may take if the options have no `time`."""
RESULT_SECONDS = 15.0
"""How long the result of a job that has ended may take to come through a shared file system."""


@dataclass(frozen=True)
class SlurmLauncher:
    """A job array of Slurm, submitted and watched through submitit.

    All nodes must see this Python, the data, `folder` and the folder of the results under the same paths. The array
    belongs to the scheduler: it goes on if the caller is killed, and is cancelled if the caller is interrupted.

    Args:
        processes: Jobs at once; the rest of the array waits.
        threads: CPUs of each job, all for its threads; 0 asks for one CPU and leaves the threads to torch.
        folder: Where scripts, logs and what goes to and fro are written.
        options: Of `sbatch`, by their long names without dashes in front: partition, time, account, gres.
        cluster: `local` runs them as processes of this machine, all at once and without the options: for tests.
    """

    processes: int
    threads: int
    folder: Path
    options: dict[str, str] = field(default_factory=dict)
    cluster: str = "slurm"

    def __post_init__(self) -> None:
        """Check the numbers, and that submitit and Slurm are there."""
        check_numbers(self.processes, self.threads)
        check_package("submitit", extra="slurm")
        if self.cluster == "slurm" and shutil.which("srun") is None:
            raise ValueError("there is no srun here: start the launcher slurm on a machine of a Slurm cluster")

    def run(
        self, jobs: Sequence[AnyJob], work: Work[AnyJob, Value], on_done: OnDone[AnyJob, Value], poll: Poll
    ) -> None:
        """Run all jobs; see `Launcher.run`. That the scheduler has ended one is known after a minute at most."""
        if not jobs:
            return
        with terminable():
            handles = self._executor().map_array(functools.partial(_run_job, self.threads, work), jobs)
            running = list(zip(handles, jobs, strict=True))
            try:
                while running:
                    for handle, job in [pair for pair in running if pair[0].done()]:
                        on_done(job, _outcome(handle, poll))
                        running.remove((handle, job))
                    poll()
                    time.sleep(POLL_SECONDS if running else 0)
            finally:
                for handle, _ in running:
                    handle.cancel(check=False)

    def _executor(self) -> Any:
        executor = importlib.import_module("submitit").AutoExecutor(self.folder, cluster=self.cluster)
        executor.update_parameters(
            name="zoo",
            timeout_min=TIMEOUT_MINUTES,
            cpus_per_task=max(1, self.threads),
            slurm_array_parallelism=self.processes,
            slurm_additional_parameters={name.replace("-", "_"): value for name, value in self.options.items()},
        )
        return executor


def _run_job(threads: int, work: Work[AnyJob, Value], job: AnyJob) -> Value | Exception:
    # By this name Lightning leaves Slurm's signals to submitit, which has the job queued again if it is preempted.
    os.environ["SLURM_JOB_NAME"] = "interactive"
    set_threads(threads)
    return attempt(work, job)


def _outcome(handle: Any, poll: Poll) -> Any:
    """What came of a job that has ended, as soon as its file is here."""
    deadline = time.monotonic() + RESULT_SECONDS
    while not handle.paths.result_pickle.exists() and time.monotonic() < deadline:
        poll()
        time.sleep(POLL_SECONDS)
    if not handle.paths.result_pickle.exists():
        return ChildProcessError(f"job {handle.job_id} left no result, its state is {handle.state}")
    if handle.exception() is not None:  # outside of the job itself: a module that is missing there, for instance
        return ChildProcessError(f"job {handle.job_id} failed to start: see {handle.paths.stderr.name}")
    return handle.result()
