"""What a search found: its table as Markdown, CSV and LaTeX, two pictures, and the best settings as a command."""

import math
import shlex
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from zoo.benchmarks import markup
from zoo.benchmarks.formatting import heading, seconds_text, value_text
from zoo.benchmarks.metrics import METRICS
from zoo.benchmarks.table import Column, Table
from zoo.cli.folder import write_text
from zoo.cli.report import plural
from zoo.cli.search_figures import Point, history, parallel
from zoo.cli.search_study import MONITORS, Search

STATUSES = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
FEWEST = 2
"""So many finished trials make a picture."""


def table(search: Search) -> Table:
    """The trials that have ended, the best first, then those that were stopped, then those that failed."""
    plan, metric = search.plan, MONITORS[search.plan.monitor]
    trials = sorted(search.trials(*STATUSES), key=lambda trial: _rank(search, trial))
    columns = [Column("trial", stays=True), *(Column(one.name, is_text=True) for one in plan.varied)]
    columns += [Column(heading(metric)), Column("epochs"), Column("time (s)"), Column("outcome", is_text=True)]
    return Table(
        title=f"Search {search.folder.name}",
        label=f"search-{search.folder.name}",
        caption=_caption(search, trials),
        columns=tuple(columns),
        rows=tuple(_row(search, trial) for trial in trials),
        records=tuple(_facts(search, trial) for trial in trials),
    )


def _rank(search: Search, trial: FrozenTrial) -> tuple[int, float, int]:
    place = list(STATUSES).index(trial.state)
    best = _best(search, trial)
    value = 0.0 if best is None else best[1]
    return place, -value if search.plan.is_maximised else value, trial.number


def _best(search: Search, trial: FrozenTrial) -> tuple[int, float] | None:
    """The best epoch, from 1 on, and what it reached."""
    reached = trial.intermediate_values
    if not reached:
        return None
    choose = max if search.plan.is_maximised else min
    epoch = choose(reached, key=lambda step: reached[step])
    return epoch + 1, reached[epoch]


def settings_of(trial: FrozenTrial) -> list[str]:
    """What was varied, as options of `zoo fit`."""
    return list(trial.user_attrs.get("settings", []))


def _outcome(trial: FrozenTrial) -> str:
    word = str(trial.user_attrs.get("status", STATUSES[trial.state]))
    return f"{word}: {trial.user_attrs['error']}" if "error" in trial.user_attrs else word


def shown(search: Search, trial: FrozenTrial) -> str:
    """What a trial came to, in a few words: `validation accuracy 97.22 %`, or why it has none."""
    outcome, best = _outcome(trial), _best(search, trial)
    if best is None or outcome.startswith("failed"):
        return outcome
    metric = MONITORS[search.plan.monitor]
    value = f"{metric} {value_text(metric, METRICS[metric].shown(best[1]))} {METRICS[metric].unit}".rstrip()
    return (
        value
        if outcome == "finished"
        else f"{outcome} after {plural(len(trial.intermediate_values), 'epoch')}, {value}"
    )


def shown_best(search: Search) -> str:
    """The best trial so far, to be put behind another; nothing if there is none."""
    if not search.trials(TrialState.COMPLETE):
        return ""
    best = search.study.best_trial
    return f" (best: trial {best.number}, {shown(search, best).rpartition('accuracy ')[2].rpartition('loss ')[2]})"


def _row(search: Search, trial: FrozenTrial) -> tuple[str, ...]:
    metric = MONITORS[search.plan.monitor]
    best, seconds = _best(search, trial), trial.user_attrs.get("seconds")
    value = "" if best is None else value_text(metric, METRICS[metric].shown(best[1]))
    time = "" if seconds is None else seconds_text(seconds)
    epochs = len(trial.intermediate_values) or ""
    given = settings_of(trial)[1::2] or [""] * len(search.plan.varied)
    return (str(trial.number), *given, value, str(epochs), time, _outcome(trial))


def _facts(search: Search, trial: FrozenTrial) -> dict[str, Any]:
    settings, best = settings_of(trial), _best(search, trial)
    return {
        "trial": trial.number,
        **dict(zip((one.name for one in search.plan.varied), settings[1::2], strict=False)),
        search.plan.monitor: None if best is None else best[1],
        "best_epoch": None if best is None else best[0],
        "epochs": len(trial.intermediate_values),
        "seconds": trial.user_attrs.get("seconds"),
        "outcome": _outcome(trial),
    }


def _caption(search: Search, trials: list[FrozenTrial]) -> str:
    counts = {
        word: sum(_outcome(trial).startswith(word) for trial in trials) for word in ("pruned", "diverged", "failed")
    }
    parts = [f"{count} {word}" for word, count in counts.items() if count]
    what = f"{plural(len(trials), 'trial')} of zoo fit {shlex.join(search.plan.words)}"
    chosen = f"{MONITORS[search.plan.monitor]} of the best epoch; the test set was not looked at"
    how = f"Optuna {optuna.__version__}, tree-structured Parzen estimator, seed {search.plan.seed}, median pruning"
    return f"{what}{' (' + ', '.join(parts) + ')' if parts else ''}. Shown is the {chosen}. {how}."


def best_command(search: Search) -> str | None:
    """The command of `zoo fit` that repeats the best trial and tests it; None if no trial has a result."""
    finished = search.trials(TrialState.COMPLETE)
    if not finished:
        return None
    words = [*search.plan.words, *settings_of(search.study.best_trial)]
    return shlex.join(["zoo", "fit", *(word for word in words if word not in ("--no-test", "--no_test"))])


def write_report(search: Search) -> list[Path]:
    """Write the table and the pictures beside the trials; the files.

    Raises:
        OSError: If they cannot be written.
    """
    found, folder = table(search), search.folder
    pictures = _pictures(search)
    command = best_command(search)
    parts = [f"# {found.title}", markup.markdown(found).rstrip()]
    parts += [] if command is None else [f"The best settings, trained again and tested: `{command}`"]
    parts += [f"![{name}]({name}.png)" for name in pictures]
    texts = {
        "report.md": "\n\n".join(parts) + "\n",
        "table.csv": markup.csv_text(found),
        "table.tex": markup.latex(found),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    return [*(folder / name for name in texts), *(folder / f"{name}.png" for name in pictures)]


def _pictures(search: Search) -> list[str]:
    """Draw what was reached trial by trial, and which settings went with it; the names of the pictures."""
    plan, metric = search.plan, MONITORS[search.plan.monitor]
    points = [_point(search, trial) for trial in search.trials(TrialState.COMPLETE, TrialState.PRUNED)]
    drawn = [point for point in points if point is not None]
    if sum(point.is_finished for point in drawn) < FEWEST:
        return []
    label = heading(metric)
    history(drawn, label, plan.is_maximised, search.folder / "history.png")
    parallel(drawn, plan.varied, label, plan.is_maximised, search.folder / "parallel.png")
    return ["history", "parallel"]


def _point(search: Search, trial: FrozenTrial) -> Point | None:
    best = _best(search, trial)
    if best is None or not math.isfinite(best[1]):
        return None
    reached = METRICS[MONITORS[search.plan.monitor]].shown(best[1])
    return Point(trial.number, tuple(settings_of(trial)[1::2]), reached, trial.state is TrialState.COMPLETE)
