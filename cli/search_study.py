"""The trials of a search: Optuna's study in a file, and a run folder for each of them."""

import json
import math
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from zoo.checkpoint_io import LAST, PREVIOUS
from zoo.cli import front
from zoo.cli.metrics_log import read_metrics
from zoo.cli.search_space import Varied, typed
from zoo.seeds import mixed_seed

MONITORS = {"val/acc": "validation accuracy", "val/loss": "validation loss"}
"""What trials can be compared by, and what the tables call it."""
MOST_FAILURES = 3
"""So many failed trials, and none that did not: the rest would fail too."""


@dataclass(frozen=True)
class Plan:
    """What a search is asked for.

    Args:
        words: Options of `zoo fit` that hold for all trials.
        varied: What differs between them.
        monitor: One of `MONITORS`.
        trials: How many there are to be in the end, with those of earlier starts.
        seed: Of what is drawn.
    """

    words: tuple[str, ...]
    varied: tuple[Varied, ...]
    monitor: str
    trials: int
    seed: int

    @property
    def is_maximised(self) -> bool:
        """Whether more of what is monitored is better."""
        return self.monitor == "val/acc"

    def facts(self) -> dict[str, Any]:
        """What must be the same when a search goes on, or its trials could not be compared."""
        varied = {one.name: repr(one) for one in self.varied}
        return {"options": front.plain(self.words), "vary": varied, "monitor": self.monitor, "seed": self.seed}


@dataclass
class Attempt:
    """A trial while it runs.

    Args:
        trial: Optuna's side of it.
        folder: The run folder.
        words: What is typed after `zoo`.
        settings: What is varied, as options.
    """

    trial: Trial
    folder: Path
    words: list[str]
    settings: list[str]
    seen: int = field(default=0, init=False)
    is_pruned: bool = field(default=False, init=False)

    @property
    def log(self) -> Path:
        """The file with what the run prints."""
        return self.folder.with_suffix(".log")


class Search:
    """Which trials there are, which come next, which are stopped early, and what came of them.

    What is drawn for a trial depends on the seed, its number and the trials before it alone, so that a search that was
    killed goes on as if it had not been. A trial that had begun goes on too, from its last checkpoint.

    Args:
        plan: What is asked for.
        study: Optuna's study.
        folder: Of the search.
    """

    def __init__(self, plan: Plan, study: optuna.Study, folder: Path) -> None:
        self.plan, self.study, self.folder = plan, study, folder
        self.unfinished = self.trials(TrialState.RUNNING)
        self.left = max(len(self.unfinished), plan.trials - len(self.trials(TrialState.COMPLETE, TrialState.PRUNED)))
        self._failures = 0

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """The trials in these states, in the order of their numbers."""
        return self.study.get_trials(deepcopy=False, states=states or None)

    def next(self) -> Attempt | None:
        """The next trial to run; None if there is none."""
        if not self.left or (self._failures >= MOST_FAILURES and not self.trials(TrialState.COMPLETE)):
            return None
        self.left -= 1
        if self.unfinished:
            begun = self.unfinished.pop(0)
            self._seed(begun.number)
            trial = Trial(self.study, begun._trial_id)
        else:
            self._seed(len(self.trials()))
            trial = self.study.ask()
        settings = typed(self.plan.varied, [one.draw(trial) for one in self.plan.varied])
        trial.set_user_attr("settings", settings)
        folder = self.folder / "trials" / f"{trial.number:04d}"
        folder.parent.mkdir(exist_ok=True)
        return Attempt(trial, folder, self._words(folder, settings), settings)

    def _seed(self, number: int) -> None:
        self.study.sampler = optuna.samplers.TPESampler(seed=mixed_seed(self.plan.seed, number) % 2**32)

    def _words(self, folder: Path, settings: Sequence[str]) -> list[str]:
        """A new run; or what goes on with one that has saved something."""
        if any((folder / "checkpoints" / name).is_file() for name in (LAST, PREVIOUS)):
            return ["fit", "--run_dir", str(folder), "--resume", "true"]
        shutil.rmtree(folder, ignore_errors=True)
        return ["fit", *self.plan.words, *settings, "--run_dir", str(folder), "--no_test", "true"]

    def values(self, folder: Path) -> list[float]:
        """What the run's epochs have reached so far."""
        return values_of(folder, self.plan.monitor)

    def follow(self, attempt: Attempt, values: Sequence[float]) -> bool:
        """Tell the study of epochs that have ended; whether the trial is not worth going on with.

        Args:
            attempt: The trial.
            values: What its epochs have reached, from the first to the last.
        """
        if len(values) > attempt.seen:
            known = self.trials()[attempt.trial.number].intermediate_values
            for epoch in range(attempt.seen, len(values)):
                if epoch not in known:
                    attempt.trial.report(values[epoch], epoch)
                attempt.seen = epoch + 1
                if attempt.seen >= len(known) and attempt.trial.should_prune():
                    attempt.is_pruned = True
                    break
        return attempt.is_pruned

    def finish(self, attempt: Attempt, status: int | None) -> str:
        """Tell the study how a trial ended; one word for it: finished, pruned, diverged or failed.

        Args:
            attempt: The trial.
            status: The exit status of its process, negative for a signal; None if that is not known.
        """
        values = self.values(attempt.folder)
        if not attempt.is_pruned:
            self.follow(attempt, values)
        record, trial = _record(attempt.folder), attempt.trial
        for name in ("seconds", "epochs"):
            trial.set_user_attr(name, record.get(name))
        word = "pruned" if attempt.is_pruned else str(record.get("status"))
        values = [value for value in values if math.isfinite(value)]
        if word == "finished" and status in (0, None) and values:
            self.study.tell(trial, max(values) if self.plan.is_maximised else min(values))
        elif word in ("pruned", "diverged"):  # Optuna learns from both that it is bad here, and from failures nothing
            trial.set_user_attr("status", word)
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            word, self._failures = "failed", self._failures + 1
            trial.set_user_attr("error", _reason(attempt, status, self.plan.monitor))
            self.study.tell(trial, state=TrialState.FAIL)
        return word


def values_of(folder: Path, monitor: str) -> list[float]:
    """What the validations of a run gave, from its first to its last so far."""
    return [float(row[monitor]) for row in read_metrics(folder / "metrics.csv") if monitor in row]


def _record(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / "run.json").read_text())
    except (OSError, ValueError):
        return {}
    return found


def _reason(attempt: Attempt, status: int | None, monitor: str) -> str:
    """Why a trial has no result."""
    if status is not None and status < 0:
        name = signal.Signals(-status).name
        return f"its process was ended by {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")
    if status == 0:
        return f"the run has no {monitor}"
    lines = attempt.log.read_text(errors="replace").splitlines() if attempt.log.is_file() else []
    said = [line.partition("zoo: ")[2].removeprefix("error: ") for line in lines if line.startswith("zoo: ")]
    return (said or [line for line in lines if line.strip()] or ["its process died"])[-1].strip()[:300]
