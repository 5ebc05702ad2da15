"""`zoo benchmark`: comparison tables, run and reported."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.table import Table

from zoo.benchmarks.launchers import LAUNCHERS, make_launcher
from zoo.benchmarks.suite import SIZES, Suite
from zoo.benchmarks.suite_file import load_suite, suite_names
from zoo.cli import front, speed
from zoo.cli.errors import UserError, user_errors
from zoo.cli.listing import Parser, show
from zoo.cli.runs_bar import RunsBar
from zoo.datamodules.machine import available_cpus

RESULTS = Path("runs/benchmarks")
VERBS = {
    "list": "the suites, and what each asks",
    "run": "do the runs of a suite that are not done yet",
    "report": "a suite's table and figures as Markdown, CSV, LaTeX and HTML",
    "ablate": "a grid of settings of one model, without a file",
    "compare": "run folders of zoo fit side by side",
    "speed": "images a second, peak memory and start-up on this machine",
}


def run(words: list[str]) -> int:
    """Do what the first word says; the exit status."""
    verb = words[0] if words else "--help"
    if verb in ("-h", "--help"):
        lines = "\n".join(f"  {name:<10}{what}" for name, what in VERBS.items())
        show(f"usage: zoo benchmark COMMAND [options]\n\n{lines}\n\nzoo benchmark COMMAND --help explains the options.")
        return 0
    front.check_choice("benchmark command", verb, list(VERBS))
    handlers: dict[str, Callable[[list[str]], int]] = {
        "list": list_suites,
        "run": run_suite,
        "report": report_suite,
        "ablate": ablate,
        "compare": compare,
        "speed": speed.run,
    }
    with user_errors(ValueError, OSError):
        return handlers[verb](words[1:])


def _parser(verb: str, text: str) -> Parser:
    return Parser(prog=f"zoo benchmark {verb}", allow_abbrev=False, description=text)


def list_suites(words: list[str]) -> int:
    """Print the suites."""
    parser = _parser("list", "The suites that come with zoo.")
    parser.add_argument("suite", nargs="?", metavar="SUITE", help="the rows and claims of this suite")
    options = parser.parse_args(words)
    if options.suite:
        show(_describe(load_suite(options.suite)))
        return 0
    table = Table("suite", "rows", "claims", "question", box=None, header_style="bold", pad_edge=False)
    for name in suite_names():
        suite = load_suite(name)
        table.add_row(name, str(len(suite.rows)), str(len(suite.claims)), suite.question)
    show(table)
    show("\nzoo benchmark list SUITE shows one; zoo benchmark run SUITE runs it.")
    return 0


def _describe(suite: Suite) -> str:
    lines = [f"{suite.name}: {suite.title}", suite.question, *([f"Paper: {suite.paper}"] if suite.paper else []), ""]
    lines += [f"  {row.name:<28}{row.label}".rstrip() for row in suite.rows]
    lines += ["", "Claims:", *(f"  {claim.text}" for claim in suite.claims), "", "Sizes:"]
    lines += [f"  {name:<8}{_seeds(size.seeds)}. {size.reduced}".rstrip() for name, size in suite.sizes.items()]
    return "\n".join(lines)


def _seeds(number: int) -> str:
    return "1 seed" if number == 1 else f"{number} seeds"


def run_suite(words: list[str]) -> int:
    """Do what is still to be done of a suite."""
    parser = _parser("run", "Do the runs of a suite; what is done is skipped, what was interrupted goes on.")
    _add_suite(parser)
    parser.add_argument("--rows", default="*", metavar="GLOB", help="only these rows, such as 'plain*,resnet20'")
    _add_running(parser)
    options = parser.parse_args(words)
    suite = load_suite(options.suite)
    status = _run(suite, options.size, options, options.rows)
    show(f"table and figures: zoo benchmark report {options.suite}" + _same(options))
    return status


def _same(options: argparse.Namespace) -> str:
    size = "" if options.size == "cpu" else f" --size {options.size}"
    return size + ("" if options.results == RESULTS else f" --results {options.results}")


def report_suite(words: list[str]) -> int:
    """Write the pages of a suite."""
    parser = _parser("report", "Write a suite's table and figures: report.md, report.html, table.csv, table.tex.")
    _add_suite(parser)
    parser.add_argument("--output", type=Path, metavar="DIR", help="where to (default: beside the results)")
    options = parser.parse_args(words)
    suite = load_suite(options.suite)
    _report(suite, options.size, options.results, options.output)
    return 0


def ablate(words: list[str]) -> int:
    """Run a grid of settings of one model and show its table."""
    from zoo.benchmarks.ablation import OWN_SIZE, make_ablation, parse_vary

    text = "Compare settings of one model: every combination of the values given. Other options hold for all runs, "
    text += "under the names that zoo fit has for them: --data mnist --recipe.epochs 5."
    parser = _parser("ablate", text)
    parser.add_argument("model", metavar="MODEL", help="a name from zoo list")
    parser.add_argument("--vary", action="append", required=True, metavar="NAME=A,B", help="model.norm=none,batch")
    _add_results(parser)
    _add_running(parser)
    options, rest = parser.parse_known_args(words)
    suite = make_ablation(options.model, [parse_vary(text) for text in options.vary], _fixed(rest))
    status = _run(suite, OWN_SIZE, options, "*")
    _report(suite, OWN_SIZE, options.results, None)
    return status


def _fixed(words: list[str]) -> dict[str, Any]:
    """Settings that hold for all runs of an ablation, from `--name value`."""
    import yaml

    from zoo.benchmarks.settings import number_or_text

    settings: dict[str, Any] = {}
    for word in front.plain(words):
        option, equals, text = word.partition("=")
        if not option.startswith("--") or not equals:
            raise UserError(f"'{word}' is no option: see zoo benchmark ablate --help")
        name, value = option.removeprefix("--").removesuffix(".name"), number_or_text(yaml.safe_load(text))
        if settings.setdefault(name, value) != value:
            raise UserError(f"{option} is given twice, as {settings[name]} and {value}: say one of them")
    return settings


def compare(words: list[str]) -> int:
    """Show run folders side by side."""
    from zoo.benchmarks.ablation import OWN_SIZE
    from zoo.benchmarks.comparison import compare_runs

    parser = _parser(
        "compare", "Run folders of zoo fit side by side; runs that differ in their seed alone are one row."
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders that hold a run.json")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write the pages there too")
    options = parser.parse_args(words)
    suite, by_row = compare_runs(options.runs)
    _show_table(suite, OWN_SIZE, by_row)
    if options.output:
        from zoo.benchmarks.report import write_report

        _say_written(write_report(suite, OWN_SIZE, by_row, options.output))
    return 0


def _add_suite(parser: Parser) -> None:
    parser.add_argument("suite", metavar="SUITE", help="a name from zoo benchmark list, or a .yaml file of your own")
    parser.add_argument("--size", default="cpu", help=f"{', '.join(SIZES)} (default: cpu)")
    _add_results(parser)


def _add_results(parser: Parser) -> None:
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help=f"default: {RESULTS}")


def _add_running(parser: Parser) -> None:
    parser.add_argument("--seeds", type=_count, metavar="N", help="seeds 0 to N - 1 (default: the suite's own number)")
    parser.add_argument("--jobs", type=_count, metavar="N", help="runs at a time (default: as many as there are cores)")
    parser.add_argument(
        "--data.root", dest="root", metavar="DIR", help="folder with MNIST/raw, cifar-10-batches-py, ..."
    )
    parser.add_argument(
        "--data.download", dest="download", choices=("true", "false"), default="false", help="fetch what is not there"
    )
    parser.add_argument("--launcher", default="local", metavar="NAME", help="local, ray or slurm (default: local)")
    parser.add_argument("--address", metavar="HOST:PORT", help="of a running Ray cluster (default: one of its own)")
    parser.add_argument(
        "--slurm", action="append", default=[], metavar="KEY=VALUE", help="an option of sbatch, such as partition=gpu"
    )


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' must be a whole number, at least 1")
    return int(text)


def _check_launcher(options: argparse.Namespace) -> dict[str, str]:
    """Look for what the launcher would leave aside; sbatch's options."""
    front.check_choice("launcher", options.launcher, LAUNCHERS)
    for name, value, launcher in (("address", options.address, "ray"), ("slurm", " ".join(options.slurm), "slurm")):
        if value and options.launcher != launcher:
            raise UserError(f"--{name} is {value}: it goes with --launcher {launcher}")
    slurm: dict[str, str] = {}
    for pair in options.slurm:
        name, _, value = pair.partition("=")
        if slurm.setdefault(name, value) != value:
            raise UserError(f"--slurm {name} is given twice, as {slurm[name]} and {value}: say one of them")
    return slurm


def _run(suite: Suite, size: str, options: argparse.Namespace, rows: str) -> int:
    """Do the runs with progress on the screen; 1 if some failed."""
    slurm = _check_launcher(options)
    from zoo.benchmarks.runner import describe_result, make_plan, run_plan, statuses
    from zoo.cli.progress_bar import progress_bar

    with progress_bar("reading the data") as report:
        plan = make_plan(
            suite,
            size,
            options.results,
            seeds=options.seeds,
            rows=rows,
            root=options.root,
            download=options.download == "true",
            progress=report,
        )
    show(f"{suite.name}, size {size}: {len(plan.jobs)} runs to do, {len(plan.finished)} are done")
    if not plan.jobs:
        return 0
    threads = plan.jobs[0].settings["protocol"]["threads"]
    processes = min(options.jobs or default_jobs(threads), len(plan.jobs))
    launcher = make_launcher(
        options.launcher,
        processes=processes,
        threads=threads,
        folder=options.results / suite.name / size / ".slurm",
        address=options.address,
        options=slurm,
    )
    try:
        with RunsBar(len(plan.jobs)) as bar:
            results = run_plan(plan, launcher, processes, lambda r: bar.tell(describe_result(suite, r)), bar.update)
    except (KeyboardInterrupt, SystemExit):
        show("interrupted: the same command goes on")
        raise
    counts = statuses(results)
    show(", ".join(f"{count} {status}" for status, count in counts.items()))
    return 1 if counts.get("failed") else 0


def default_jobs(threads: int) -> int:
    """As many as the cores carry; one where there is a GPU, or where torch is to use all cores."""
    import torch

    if threads == 0 or torch.accelerator.is_available():
        return 1
    return max(1, available_cpus() // threads)


def _report(suite: Suite, size: str, results: Path, output: Path | None) -> None:
    from zoo.benchmarks.report import write_report
    from zoo.benchmarks.results import read_results
    from zoo.benchmarks.runner import check_size

    check_size(suite, size)
    if not results.is_dir() and results != RESULTS:
        raise UserError(f"there is no folder '{results}'")
    found = read_results(suite, size, results)
    _show_table(suite, size, found.by_row)
    for count, of_what in (
        (found.other_settings, "settings that have changed"),
        (found.other_versions, "another version"),
    ):
        if count:
            show(f"note: {count} results of {of_what} are left out")
    _say_written(write_report(suite, size, found.by_row, output or results / suite.name / size))


def _show_table(suite: Suite, size: str, by_row: dict[str, list[dict[str, Any]]]) -> None:
    from zoo.benchmarks.report import screen, screen_claims

    show(screen(suite, size, by_row))
    if suite.claims:
        show("")
        show(screen_claims(suite, size, by_row))
    show("")


def _say_written(paths: list[Path]) -> None:
    show("written: " + ", ".join(map(str, paths)))
