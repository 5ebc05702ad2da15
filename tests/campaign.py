"""What the long runs of changed input share: the options of their commands, what they say, and the numbers kept."""

import argparse
import sys
import time
from collections.abc import Callable, Iterator

Figures = dict[str, int | float | str]


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def told(numbers: range, violations: Callable[[], int], every: int = 50) -> Iterator[int]:
    """The numbers of the cases, one after the other; how many are done and the time left are said now and then.

    Args:
        numbers: Of the cases.
        violations: Counts those found so far.
        every: Cases between two such lines.
    """
    start = time.perf_counter()
    for done, number in enumerate(numbers, 1):
        yield number
        if done % every == 0:
            left = (time.perf_counter() - start) / done * (len(numbers) - done)
            say(f"{done} of {len(numbers)} cases, {violations()} violations, {left:.0f} s left")


def run(description: str | None, name: str, cases: int, campaign: Callable[[int, range], Figures]) -> int:
    """Run the campaign that the command line asks for.

    Args:
        description: Of the command.
        name: Of the figures' file, `benchmarks/results/reliability/NAME.json`.
        cases: How many, unless the command says otherwise.
        campaign: Given the seed and the numbers of the cases, counts; `violations` among other things.

    Returns:
        1 if there was a violation.
    """
    parser = argparse.ArgumentParser(
        description=description, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=cases)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="this one alone")
    parser.add_argument("--write", action="store_true", help="keep the figures")
    options = parser.parse_args()
    numbers = range(options.cases) if options.case is None else range(options.case, options.case + 1)
    figures = campaign(options.seed, numbers)
    say("\n".join(f"{what}: {value}" for what, value in figures.items()))
    if options.write:
        from tests.figures import write_figures  # imports much that the cases shall not have

        write_figures(name, figures)
    return 1 if figures["violations"] else 0
