"""`zoo data check`: what would hurt a training on a folder or table of images, before the training."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.progress import MofNCompleteColumn
from rich.table import Table

from zoo.cli.errors import UserError, user_errors
from zoo.cli.listing import Parser, show
from zoo.cli.progress_bar import progress_bar
from zoo.datamodules.layout import shown

if TYPE_CHECKING:
    from zoo.datamodules.audit import Report

_LINES = 5
"""How many findings of a kind are named."""
_CLASSES = 50
"""How many classes have a row of their own."""


def check(words: list[str]) -> int:
    """Check the images that the arguments name.

    Args:
        words: What was typed after `zoo data check`.

    Returns:
        The exit status: 0, or 1 if there are problems.

    Raises:
        UserError: The arguments are wrong, or there is nothing to check.
    """
    options = _parser().parse_args(words)
    if options.root is None and options.csv is None:
        raise UserError("zoo data check needs a folder: zoo data check ROOT, or --csv FILE")
    with user_errors(ValueError, OSError):
        report = _audit(options)
    if options.json:
        print(json.dumps(_facts(report), indent=2))
    else:
        _print(report)
    return 1 if report.problems else 0


def _parser() -> Parser:
    text = "Decode every image once: broken files, leakage between splits, conflicting labels, faults in the layout."
    parser = Parser(prog="zoo data check", allow_abbrev=False, description=text)
    parser.add_argument("root", nargs="?", type=Path, metavar="ROOT", help="ROOT/train/CLASS/... or ROOT/CLASS/...")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="a table of paths (below ROOT) and labels")
    parser.add_argument("--json", action="store_true", help="print all findings as JSON")
    return parser


def _audit(options: argparse.Namespace) -> "Report":
    from zoo.datamodules.audit import audit
    from zoo.datamodules.table import survey_table

    with progress_bar("decoding", MofNCompleteColumn()) as progress:
        if options.csv is None:
            return audit(options.root, progress=progress)
        tree, faults = survey_table(options.csv, options.root)
        return audit(tree, faults=faults, progress=progress)


def _facts(report: "Report") -> dict[str, Any]:
    sizes = [{"height": height, "width": width, "images": n} for (height, width), n in sorted(report.sizes.items())]
    return {
        "root": report.root,
        "counts": report.counts,
        "sizes": sizes,
        "problems": report.problems,
        "notes": report.notes,
    }


def _print(report: "Report") -> None:
    show(_counts(report))
    if report.sizes:
        small, large = (f(report.sizes, key=lambda size: size[0] * size[1]) for f in (min, max))
        number = len(report.sizes)
        span = f"{small[1]} x {small[0]}" + (f" to {large[1]} x {large[0]}" if small != large else "")
        show(f"\n{number} size{'s' * (number > 1)}, width x height: {span}")
    for kind, findings in (("problem", report.problems), ("note", report.notes)):
        for heading, lines in findings.items():
            show(f"\n{kind}: {heading} ({len(lines):,})")
            show("\n".join(f"  {line}" for line in lines[:_LINES]))
            if len(lines) > _LINES:
                show(f"  and {len(lines) - _LINES:,} more: --json names all")
    number = sum(map(len, report.problems.values()))
    show(f"\n{number:,} problem{'s' * (number > 1)}" if number else "\nno problems")


def _counts(report: "Report") -> Table:
    """A row for each class, unless there are too many, and one for all of them."""
    table = Table(box=None, pad_edge=False)
    table.add_column("class", no_wrap=True)
    for split in report.counts:
        table.add_column(split, justify="right")
    names = list(next(iter(report.counts.values()), {}))
    for name in names[:_CLASSES]:
        table.add_row(escape(shown(name)), *(f"{counts[name]:,}" for counts in report.counts.values()))
    if len(names) > _CLASSES:
        table.add_row(f"... {len(names) - _CLASSES} more", *("" for _ in report.counts))
    table.add_row(f"{len(names)} classes", *(f"{sum(counts.values()):,}" for counts in report.counts.values()))
    return table
