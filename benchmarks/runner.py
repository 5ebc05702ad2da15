"""Which runs of a suite are still to be done, and doing them: finished ones are skipped, interrupted ones go on."""

import fnmatch
import json
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.benchmarks.data import read_data
from zoo.benchmarks.execute import PROGRESS, run_job
from zoo.benchmarks.jobs import Job
from zoo.benchmarks.launchers import Launcher
from zoo.benchmarks.results import DONE, Result, is_of, new_result, read_result, write_result
from zoo.benchmarks.suite import SIZES, Row, Suite
from zoo.datamodules.download import Progress
from zoo.registry import nearest


@dataclass(frozen=True)
class Plan:
    """The runs of a suite: those to be done, and the results that are there."""

    jobs: list[Job]
    finished: list[Result]


def choose_rows(suite: Suite, pattern: str) -> list[Row]:
    """The rows whose names match; several patterns are divided by commas.

    Raises:
        ValueError: If a pattern matches none.
    """
    names = [row.name for row in suite.rows]
    chosen: set[str] = set()
    for part in pattern.split(","):
        matching = fnmatch.filter(names, part.strip())
        if not matching:
            raise ValueError(f"suite {suite.name} has no row '{part.strip()}'.{nearest(part, names)}")
        chosen.update(matching)
    return [row for row in suite.rows if row.name in chosen]


def check_size(suite: Suite, size: str) -> None:
    """Raise ValueError unless the suite has this size."""
    if size not in suite.sizes:
        raise ValueError(f"unknown size '{size}'.{nearest(size, SIZES)}")


def make_plan(
    suite: Suite,
    size: str,
    results: Path,
    *,
    seeds: int | None = None,
    rows: str = "*",
    root: str | None = None,
    download: bool = False,
    progress: Progress | None = None,
) -> Plan:
    """What is to be done, seed by seed, so that an early table has all rows.

    Raises:
        ValueError: The size, a row or a setting is unknown, or a data set needs a folder.
        FileNotFoundError: The folder does not hold the data set.
    """
    check_size(suite, size)
    chosen = [row for row in choose_rows(suite, rows) if not row.not_run]
    settings = [suite.settings_of(row, size) for row in chosen]
    facts = read_data(settings, root, progress, download=download)
    jobs, finished = [], []
    place = (
        None if root is None else str(Path(root).expanduser().absolute())
    )  # processes elsewhere start in another folder
    for seed in range(seeds or suite.sizes[size].seeds):
        for row, one, data in zip(chosen, settings, facts, strict=True):
            job = Job(suite.name, size, row.name, seed, one.as_dict(), data, place, results.absolute())
            result = read_result(job.path) if job.path.is_file() else None
            if result is not None and result["status"] in DONE and is_of(result, one):
                finished.append(result)
                shutil.rmtree(job.work, ignore_errors=True)  # left by a process that was killed just before
            else:
                jobs.append(job)
    return Plan(jobs, finished)


def run_plan(
    plan: Plan,
    launcher: Launcher,
    processes: int,
    on_result: Callable[[Result], None],
    on_progress: Callable[["Forecast"], None],
) -> list[Result]:
    """Do the jobs; the results of these, in the order in which they came.

    A job whose process ends without a result has failed; the next start tries failed ones again.
    """
    forecast, done = Forecast(plan, processes), list[Result]()

    def finish(job: Job, outcome: object) -> None:
        if isinstance(outcome, BaseException):
            error = " ".join(f"{type(outcome).__name__}: {outcome}".split())[:300]
            result = new_result(job) | {"status": "failed", "error": error}
            write_result(job.path, result)
        else:
            result = read_result(job.path)
        done.append(result)
        forecast.finish(job, result)
        on_result(result)

    launcher.run(plan.jobs, run_job, finish, lambda: on_progress(forecast))
    return done


class Forecast:
    """How long the rest takes: from the runs of the same row that are finished, and from how far others have come.

    Args:
        plan: What is to be done.
        processes: How many runs there are at a time.
    """

    def __init__(self, plan: Plan, processes: int) -> None:
        self.total, self.done = len(plan.jobs), 0
        self._open = list(plan.jobs)
        self._processes = processes
        self._seconds: dict[str, list[float]] = {}
        self._seen: dict[Path, tuple[float, float]] = {}
        for result in plan.finished:
            self._seconds.setdefault(result["row"], []).append(result["seconds"])

    def finish(self, job: Job, result: Result) -> None:
        """Count a run that has ended."""
        self.done += 1
        self._open.remove(job)
        if result["status"] == "finished":
            self._seconds.setdefault(job.row, []).append(result["seconds"])

    def seconds_left(self) -> float | None:
        """Seconds until all is done; None while nothing can be said."""
        shares = {job.work: self._share(job) for job in self._open}
        known = {row: statistics.mean(seconds) for row, seconds in self._seconds.items()}
        for job in self._open:
            if job.row not in known and (estimate := self._from_progress(job.work, shares[job.work])):
                known[job.row] = estimate
        if not known:
            return None
        usual = statistics.mean(known.values())
        work = sum(known.get(job.row, usual) * (1 - shares[job.work]) for job in self._open)
        return work / min(self._processes, max(1, len(self._open)))

    def _share(self, job: Job) -> float:
        try:
            return float(json.loads((job.work / PROGRESS).read_text())["done"])
        except (OSError, ValueError):
            return 0.0

    def _from_progress(self, work: Path, share: float) -> float | None:
        """What a run takes in all, from the time between the first share that was seen and this one."""
        now = time.monotonic()
        first, since = self._seen.setdefault(work, (share, now)) if share else (0.0, now)
        return (now - since) / (share - first) if share > first > 0 else None


def describe_result(suite: Suite, result: Result) -> str:
    """One line about a run that has ended."""
    from zoo.benchmarks.metrics import METRICS, value_of

    name = f"{result['row']}, seed {result['seed']}"
    if result["status"] != "finished":
        return f"{name}: {result['status']}: {result['error']}"
    value, metric = value_of(result, suite.metric), METRICS[suite.metric]
    shown = "" if value is None else f"{suite.metric} {value:.{metric.decimals}f} {metric.unit}".rstrip() + ", "
    return f"{name}: {shown}{result['seconds']:.0f} s"


def statuses(results: Sequence[Result]) -> dict[str, int]:
    """How many results there are of each status."""
    found = [str(result["status"]) for result in results]
    return {status: found.count(status) for status in ("finished", "diverged", "failed") if status in found}
