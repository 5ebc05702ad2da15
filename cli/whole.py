"""Folders that a command fills: with all that belongs there or, if anything fails, as they were before."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from zoo.cli.errors import UserError


def check_folder(folder: Path) -> None:
    """Raise UserError unless files can be written there: said before the work whose results it will hold."""
    there = next((path for path in (folder, *folder.parents) if path.exists()), Path())
    if not there.is_dir():
        raise UserError(f"'{there}' is a file: name a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"'{there}' cannot be written to: name another folder")


@contextmanager
def undone(*paths: Path) -> Iterator[None]:
    """Of files and folders that were not there before, leave none if what is done meanwhile fails.

    Folders above them go too, but only empty ones: what something else put there stays.
    """
    new = [path for wanted in paths for path in (wanted, *wanted.parents) if not path.exists()]
    try:
        yield
    except BaseException:
        for path in dict.fromkeys(new):
            with suppress(OSError):
                path.rmdir() if path.is_dir() else path.unlink()
        raise


@contextmanager
def filled(folder: Path) -> Iterator[Path]:
    """A place to write files; they appear in the folder when all of them are complete.

    Args:
        folder: Made if need be; files that have the name of a new one are replaced.

    Raises:
        OSError: If something cannot be written.
    """
    with undone(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder) as scratch:
            try:
                yield Path(scratch)
            except OSError as error:
                if error.filename is not None:  # the place is gone when the user reads of it
                    error.filename = str(error.filename).replace(scratch, str(folder))
                raise
            for file in sorted(Path(scratch).iterdir()):
                file.replace(folder / file.name)
