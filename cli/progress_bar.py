"""A bar for work that is counted in files or bytes, on a terminal only."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from zoo.datamodules.base import ImageDataModule
    from zoo.datamodules.download import Progress as Report


@contextmanager
def progress_bar(label: str, amount: ProgressColumn | None = None) -> Iterator["Report"]:
    """A callable `(done, total)` that draws a bar with the time left on standard error; it goes away at the end.

    Args:
        label: What is going on.
        amount: How much of it is done; a percentage if not given.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), amount or TaskProgressColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = bar.add_task(label, total=None)

    def advance(done: int, total: int | None) -> None:
        bar.start()  # only now: its thread should not be there yet when processes are forked
        bar.update(task, completed=done, total=total)

    try:
        yield advance
    finally:
        bar.stop()


def read_data(data: "ImageDataModule", stage: str) -> None:
    """Fetch and read the data now, so that what is wrong with them is said before anything else happens."""
    with progress_bar(f"reading {data.spec.name}") as data.progress:
        data.prepare_data()
        data.setup(stage)
    data.progress = None  # a bar cannot be sent to a loader's processes
