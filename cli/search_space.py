"""What `zoo search` varies: `--vary NAME=VALUES`, and how a trial's values are drawn and typed."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.cli import front
from zoo.cli.errors import UserError

if TYPE_CHECKING:
    from optuna.trial import Trial

FORMS = "recipe.lr=log:1e-4..1e-1, model.dropout=0..0.5, model.width=int:8..64 or recipe.optimizer=sgd,adamw"
OF_A_RUN = ("run_dir", "resume", "resume_inexact", "ckpt_path", "no_test", "config", "print_config")
"""Options that say where a run is and how it goes on, which the search decides."""
DIGITS = 4
"""Of a number that was drawn: more would make commands long and no run better."""
_RANGE = re.compile(r"((?:log:|int:)*)(.+?)\.\.(.+)")
_COMMA = re.compile(r",(?![^\[]*\])")


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included.

    Args:
        name: The option, without dashes.
        low: The least value.
        high: The greatest value.
        is_log: Whether all orders of magnitude are as likely.
        is_whole: Whether they are whole numbers.
    """

    name: str
    low: float
    high: float
    is_log: bool = False
    is_whole: bool = False

    def ends(self) -> list[str]:
        """What is tried before anything is trained."""
        return [self._typed(self.low), self._typed(self.high)]

    def draw(self, trial: "Trial") -> str:
        """A trial's value, as it is typed; the same one whenever the trial is asked."""
        if self.is_whole:
            return str(trial.suggest_int(self.name, int(self.low), int(self.high), log=self.is_log))
        value = float(f"{trial.suggest_float(self.name, self.low, self.high, log=self.is_log):.{DIGITS}g}")
        return self._typed(min(max(value, self.low), self.high))

    def _typed(self, value: float) -> str:
        return str(int(value)) if self.is_whole else str(value)


@dataclass(frozen=True)
class Choice:
    """One of several words.

    Args:
        name: The option, without dashes.
        values: The words, as they are typed.
    """

    name: str
    values: tuple[str, ...]

    def ends(self) -> list[str]:
        """What is tried before anything is trained."""
        return list(self.values)

    def draw(self, trial: "Trial") -> str:
        """A trial's value, as it is typed; the same one whenever the trial is asked."""
        return str(trial.suggest_categorical(self.name, self.values))


Varied = Range | Choice


def parse_vary(text: str) -> Varied:
    """One `--vary`.

    Raises:
        UserError: If it has none of the forms, if a range is empty, or if an option cannot be varied.

    Example:
        >>> parse_vary("recipe.lr=log:1e-4..1e-1")
        Range(name='recipe.lr', low=0.0001, high=0.1, is_log=True, is_whole=False)
        >>> parse_vary("recipe.optimizer=sgd,adamw")
        Choice(name='recipe.optimizer', values=('sgd', 'adamw'))
    """
    name, equals, values = text.removeprefix("--").partition("=")
    if not (name and equals and values):
        raise UserError(f"--vary is '{text}': it must be NAME=VALUES, such as {FORMS}")
    name = _written_out(name)
    if name in OF_A_RUN:
        raise UserError(f"--vary is '{text}': {name} says where a run is, vary how it is trained")
    if (match := _RANGE.fullmatch(values)) is not None:
        return _range(text, name, match)
    if values.startswith(("log:", "int:")):
        raise UserError(f"--vary is '{text}': log: and int: go with a range, such as {FORMS}")
    words = tuple(word.strip() for word in _COMMA.split(values))
    if "" in words or len(set(words)) < len(words):
        raise UserError(f"--vary is '{text}': a value is empty or is there twice")
    if len(words) == 1:
        raise UserError(f"--vary is '{text}': that is one value, fix it with --{name} {words[0]}")
    return Choice(name, words)


def _range(text: str, name: str, match: re.Match[str]) -> Range:
    is_log, is_whole = ("log:" in match[1]), ("int:" in match[1])
    kind = int if is_whole else float
    try:
        low, high = kind(match[2]), kind(match[3])
    except ValueError:
        what = "whole numbers" if is_whole else "numbers"
        raise UserError(f"--vary is '{text}': the ends of a range must be {what}") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"--vary is '{text}': the range is empty, its first end must be less than its second")
    if is_log and low <= 0:
        raise UserError(f"--vary is '{text}': {match[2]} has no logarithm, start a log range above 0")
    return Range(name, low, high, is_log, is_whole)


def _written_out(name: str) -> str:
    """The option's whole name: `recipe` is `recipe.name`, `model.init_args.norm` is `model.norm`."""
    return front.plain([f"--{name}=x"])[0].partition("=")[0].removeprefix("--")


def read_space(texts: Sequence[str], words: Sequence[str]) -> list[Varied]:
    """All that is varied.

    Args:
        texts: What was typed after each `--vary`.
        words: The options that hold for all trials.

    Raises:
        UserError: If there is nothing, if an option is there twice, or if it is fixed too.
    """
    if not texts:
        raise UserError(f"zoo search needs something to vary: --vary {FORMS.partition(',')[0]}")
    varied = [parse_vary(text) for text in texts]
    names = [one.name for one in varied]
    fixed = {word.partition("=")[0].removeprefix("--") for word in front.plain(words)}
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"--vary has {name} twice: put its values into one")
        if name in fixed:
            raise UserError(f"{name} is varied and fixed: say one of them")
    for name in OF_A_RUN:
        if name in fixed - {"config", "no_test"}:
            raise UserError(f"--{name} belongs to one run, and a search has many: leave it out")
    return varied


def corners(varied: Sequence[Varied]) -> Iterator[list[str]]:
    """Options of a few runs in which every choice and both ends of every range occur, for a check of them all."""
    columns = [one.ends() for one in varied]
    for row in range(max(map(len, columns))):
        yield typed(varied, [column[min(row, len(column) - 1)] for column in columns])


def typed(varied: Sequence[Varied], values: Sequence[str]) -> list[str]:
    """The values as options of `zoo fit`."""
    return [word for one, value in zip(varied, values, strict=True) for word in (f"--{one.name}", value)]
