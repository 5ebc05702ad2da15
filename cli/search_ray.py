"""The trials of a search on the machines of a Ray cluster, through Ray Tune."""

import importlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from zoo.benchmarks.launch_ray import connected
from zoo.benchmarks.launchers import POLL_SECONDS, terminable
from zoo.cli.search_child import start, stop
from zoo.cli.search_local import OnEnd
from zoo.cli.search_study import Attempt, Search, values_of
from zoo.datamodules.machine import available_cpus

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray reports its use to its makers, and announces changes, unless told not to
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the run folders have the metrics
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is for the search
    "RAY_AIR_NEW_OUTPUT": "0",
}


class ZooFit(tune.Trainable):
    """A trial on whichever machine: each step of Ray Tune is an epoch of `zoo fit`."""

    def setup(self, config: dict[str, Any]) -> None:
        """Start the run."""
        self._seen = 0
        self._folder, self._metric = Path(config["folder"]), config["monitor"]
        os.chdir(config["place"])
        self._process = start(config["words"], Path(config["log"]), threads=config["threads"])

    def step(self) -> dict[str, Any]:
        """Wait for an epoch or for the end: what the epochs have reached, and at the end the exit status."""
        while True:
            status = self._process.poll()
            values = values_of(self._folder, self._metric)
            if status is not None or len(values) > self._seen:
                self._seen = len(values)
                return {"values": values, "status": status, "done": status is not None}
            time.sleep(POLL_SECONDS)

    def cleanup(self) -> None:
        """End the run, if it is stopped early."""
        stop(self._process)


class _Asks(Searcher):
    """Ray Tune's side of the study: it asks for trials, and says how they ended."""

    def __init__(self, search: Search, threads: int, on_end: OnEnd) -> None:
        super().__init__(metric="status", mode="min")  # which it wants to know, and does not look at
        self._search, self._threads, self._on_end = search, threads, on_end
        self.attempts: dict[str, Attempt] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str:  # type: ignore[override]  # its hint forgets FINISHED
        """What the next trial is to do."""
        attempt = self._search.next()
        if attempt is None:
            return str(Searcher.FINISHED)
        self.attempts[trial_id] = attempt
        return {
            "words": attempt.words,
            "folder": str(attempt.folder),
            "log": str(attempt.log),
            "monitor": self._search.plan.monitor,
            "threads": self._threads,
            "place": str(Path.cwd()),
        }

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the study, and whoever watches."""
        attempt = self.attempts.pop(trial_id)
        status = None if error or result is None else result.get("status")
        self._on_end(attempt, self._search.finish(attempt, status))

    def save(self, checkpoint_path: str) -> None:
        """The study is in a file already."""

    def restore(self, checkpoint_path: str) -> None:
        """It is read from there at the next start."""

    def __getstate__(self) -> dict[str, Any]:
        """Ray Tune keeps a copy of its settings, for a restart of its own; ours needs none."""
        return {}


class _StopsEarly(FIFOScheduler):
    """Ends the trials that the study would prune."""

    def __init__(self, search: Search, asks: _Asks, poll: Callable[[], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Ray leaves its constructor untyped
        self._search, self._asks, self._poll = search, asks, poll

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Whether a trial goes on after an epoch."""
        self._poll()
        is_over = self._search.follow(self._asks.attempts[trial.trial_id], result["values"])
        return str(FIFOScheduler.STOP if is_over else FIFOScheduler.CONTINUE)

    def __getstate__(self) -> dict[str, Any]:
        """See `_Asks`."""
        return {}


def run_ray(search: Search, jobs: int, address: str | None, on_end: OnEnd, poll: Callable[[], None]) -> None:
    """Run what is left of a search.

    All machines must have the package, and see the data and the folder of the search under the same paths.

    Args:
        search: The search.
        jobs: Trials at once, on all machines together.
        address: Of a running cluster; None starts one on this machine, and ends it.
        on_end: See `OnEnd`.
        poll: Called after each epoch.

    Raises:
        ConnectionError: No cluster answers at the address.
    """
    if not search.left:
        return
    os.environ.update(SETTINGS)
    ray: Any = importlib.import_module("ray")
    threads = max(1, available_cpus() // jobs)
    notes = search.folder.absolute() / ".ray"
    try:
        with terminable(), connected(ray, address, threads * jobs), terminable():
            gpus = float(min(1.0, ray.cluster_resources().get("GPU", 0) / jobs))
            asks = _Asks(search, threads, on_end)
            tune.Tuner(
                tune.with_resources(ZooFit, {"cpu": threads, "gpu": gpus}),
                tune_config=tune.TuneConfig(
                    search_alg=asks,
                    scheduler=_StopsEarly(search, asks, poll),
                    num_samples=search.left,
                    max_concurrent_trials=jobs,
                ),
                run_config=tune.RunConfig(
                    name="search",
                    storage_path=str(notes),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # the run folders have them
                    verbose=0,
                ),
            ).fit()
    finally:
        shutil.rmtree(notes, ignore_errors=True)
