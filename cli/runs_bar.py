"""The progress of a suite: how many runs are done, and how long the rest takes."""

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn


class RunsBar:
    """How many runs are done and how long the rest takes: a bar on a terminal, lines elsewhere.

    Args:
        total: Number of runs.
    """

    def __init__(self, total: int) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        columns = (TextColumn("runs"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
        self._bar = Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal)
        self._task = self._bar.add_task("", total=total)
        self._done, self._total, self._left = 0, total, ""

    def __enter__(self) -> "RunsBar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, forecast: Any) -> None:
        """Show what the forecast says now."""
        from zoo.cli.progress import readable_time

        seconds = forecast.seconds_left()
        self._left = "" if seconds is None else f"about {readable_time(seconds)} left"
        self._bar.update(self._task, completed=forecast.done, description=self._left)

    def tell(self, line: str) -> None:
        """Print a line about a run that has ended."""
        self._done += 1
        left = f", {self._left}" if self._left and self._done < self._total else ""
        self._console.print(f"{self._done}/{self._total}  {line}{left}", markup=False)
