"""`zoo search`: good settings by many short runs of `zoo fit`, which Optuna chooses and stops early."""

import argparse
import importlib.util
import time
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli import front
from zoo.cli.errors import UserError, user_errors
from zoo.cli.listing import Parser, show
from zoo.cli.progress_bar import progress_bar
from zoo.cli.runs_bar import RunsBar
from zoo.cli.search_space import FORMS, Varied, corners, read_space

if TYPE_CHECKING:
    from zoo.cli.search_study import Attempt, Plan, Search

LAUNCHERS = ("local", "ray")
PLACE = Path("runs/search")


def run(words: list[str]) -> int:
    """Search, or go on with a search; the exit status: 1 if no trial has a result."""
    options, fixed = _parser().parse_known_args(words)
    varied = read_space(options.vary, fixed)
    _check(options)
    name = check_settings(varied, fixed)
    from zoo.cli.search_study import Plan

    plan = Plan(tuple(fixed), tuple(varied), options.monitor, options.trials, options.seed)
    folder = PLACE / (options.name or name)
    return _search(plan, folder, options.storage or folder / "study.db", options)


def _parser() -> Parser:
    text = "Look for good settings: many short runs of zoo fit, chosen by what the ones before reached, and stopped "
    text += "early where others were better at that epoch. The test set is not looked at. The same command goes on "
    text += "with a search that was interrupted; with more --trials it makes a finished one longer."
    note = "All other options are those of zoo fit, and hold for all trials: --model NAME --data NAME ..."
    parser = Parser(prog="zoo search", allow_abbrev=False, description=text, epilog=note)
    parser.add_argument("--vary", action="append", default=[], metavar="NAME=VALUES", help=FORMS)
    parser.add_argument("--trials", type=_count, default=20, metavar="N", help="trials in all (default: %(default)s)")
    parser.add_argument("--name", metavar="NAME", help=f"its folder is {PLACE}/NAME (default: MODEL-DATA)")
    parser.add_argument("--storage", type=Path, metavar="FILE", help="Optuna's (default: study.db in that folder)")
    parser.add_argument("--seed", type=int, default=0, help="of what is chosen; the runs have --seed_everything")
    parser.add_argument("--monitor", default="val/acc", metavar="METRIC", help="val/acc or val/loss (default: val/acc)")
    parser.add_argument("--jobs", type=_count, default=1, metavar="N", help="trials at a time (default: 1)")
    parser.add_argument("--launcher", default="local", metavar="NAME", help="local or ray (default: local)")
    parser.add_argument("--address", metavar="HOST:PORT", help="of a running Ray cluster (default: one of its own)")
    return parser


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' must be a whole number, at least 1")
    return int(text)


def _check(options: argparse.Namespace) -> None:
    """What needs no torch to be wrong."""
    front.check_choice("launcher", options.launcher, LAUNCHERS)
    front.check_choice("metric", options.monitor, ("val/acc", "val/loss"))
    if options.name is not None and Path(options.name).name != options.name:
        raise UserError(f"--name is '{options.name}': it must be the name of one folder")
    if options.storage is not None and not options.storage.parent.is_dir():
        raise UserError(f"--storage is '{options.storage}': there is no folder '{options.storage.parent}'")
    if options.address is not None and options.launcher != "ray":
        raise UserError(f"--address is {options.address}: it goes with --launcher ray")
    needed = {"optuna": "search", **({"ray": "ray", "pyarrow": "ray"} if options.launcher == "ray" else {})}
    for package, extra in needed.items():
        if importlib.util.find_spec(package) is None:
            raise UserError(f"this search needs {package}: pip install 'lightning-zoo[{extra}]'")


def check_settings(varied: list[Varied], fixed: list[str]) -> str:
    """Build what `zoo fit` would, for every choice and both ends of every range; MODEL-DATA of the first.

    Raises:
        UserError: As `zoo fit` does, if it would refuse one of them, or if a run has nothing to compare.
    """
    from zoo.cli.search_check import Rehearsal

    names = []
    with progress_bar("checking the settings") as report:
        commands = list(corners(varied))
        for done, words in enumerate(commands):
            report(done, len(commands))
            cli = Rehearsal(front.prepare("fit", [*fixed, *words]))
            trainer = cli.config_init.trainer
            if "val" not in cli.datamodule.splits or trainer.limit_val_batches == 0:
                raise UserError("there are no validation images to compare trials by: a search needs some")
            if trainer.logger is False or trainer.fast_dev_run or trainer.barebones:
                raise UserError("a search reads each run's metrics.csv: leave out what turns it off")
            names.append(f"{cli.model_name}-{cli.datamodule.spec.name}")
    return names[0]


def _search(plan: "Plan", folder: Path, storage: Path, options: argparse.Namespace) -> int:
    from zoo.cli.report import plural
    from zoo.cli.search_storage import opened

    with opened(plan, folder, storage) as search:
        done = len(search.trials()) - len(search.unfinished)
        show(f"search {folder.name}: {plural(search.left, 'trial')} to do, {done} are done")
        watch = Watch(search, options.jobs)
        try:
            with RunsBar(search.left) as watch.bar, user_errors(ConnectionError):
                if options.launcher == "ray":
                    from zoo.cli.search_ray import run_ray

                    run_ray(search, options.jobs, options.address, watch.tell, watch.update)
                else:
                    from zoo.cli.search_local import run_local

                    run_local(search, options.jobs, watch.tell, watch.update)
        except (KeyboardInterrupt, SystemExit):
            show("interrupted: the same command goes on")
            raise
        with user_errors(OSError):
            return _report(search)


class Watch:
    """What is shown while trials run: each that ends, the best so far, the time left.

    Args:
        search: The search.
        jobs: Trials at once.
    """

    def __init__(self, search: "Search", jobs: int) -> None:
        self.bar: RunsBar | None = None
        self.done = 0
        self._search, self._jobs, self._total = search, jobs, search.left
        self._started = time.monotonic()

    def seconds_left(self) -> float | None:
        """As long for each as for those before; None before the first has ended."""
        if not self.done:
            return None
        return (time.monotonic() - self._started) / self.done * (self._total - self.done)

    def update(self) -> None:
        """Show how far it is."""
        if self.bar is not None:
            self.bar.update(self)

    def tell(self, attempt: "Attempt", word: str) -> None:
        """Print a line about a trial that has ended."""
        from zoo.cli.search_report import shown, shown_best

        self.done += 1
        self.update()
        trial = self._search.trials()[attempt.trial.number]
        what = " ".join(attempt.settings)
        if self.bar is not None:
            self.bar.tell(f"trial {trial.number}: {shown(self._search, trial)}{shown_best(self._search)}; {what}")


def _report(search: "Search") -> int:
    from zoo.benchmarks.report import for_screen
    from zoo.cli.search_report import best_command, table, write_report

    show(for_screen(table(search)))
    files = write_report(search)
    show("\nwritten: " + ", ".join(str(file) for file in files))
    command = best_command(search)
    if command is None:
        show("no trial has a result: zoo search tries others when it is started again")
        return 1
    best = search.folder / "trials" / f"{search.study.best_trial.number:04d}"
    show(f"best:  {best}\nnext:  {command}")
    return 0
