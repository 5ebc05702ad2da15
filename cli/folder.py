"""The run folder: config.yaml, run.json, metrics.csv, TensorBoard events, curves.png, checkpoints."""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from zoo.cli.errors import UserError, user_errors
from zoo.cli.output import replacing

LOCK = ".lock"
RUN_DIR_VARIABLE = "ZOO_RUN_DIR"
"""Processes that a distributed strategy starts find the first process's run folder here."""


def make_run_folder(wanted: str | None, default: Path) -> Path:
    """Create the folder of a new run.

    Args:
        wanted: The user's `--run_dir`, if any.
        default: Folder in which runs of this model on this data are kept, one for each starting time.

    Raises:
        UserError: If it holds a run already, or cannot be created or written to.
    """
    if getattr(rank_zero_only, "rank", 0) != 0:  # only the first process writes
        return Path(os.environ.get(RUN_DIR_VARIABLE, default))
    with user_errors(OSError):
        folder = Path(wanted) if wanted else None
        if folder is None:
            folder = _new_folder(default / time.strftime("%Y-%m-%d_%H-%M-%S"))
        folder.mkdir(parents=True, exist_ok=True)
        try:
            (folder / "config.yaml").touch(exist_ok=False)  # in one step: of two runs that start at once, one gets it
        except FileExistsError:
            what = f"'{folder}' holds a run already: add --resume to go on with it, or name another --run_dir"
            raise UserError(what) from None
    os.environ[RUN_DIR_VARIABLE] = str(folder)
    return folder


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keep other processes from training in the folder meanwhile.

    The lock is the process's, not its children's: a DataLoader's worker that outlives a killed run does not keep it.

    Raises:
        UserError: If another process trains in it.
    """
    if sys.platform == "win32" or getattr(rank_zero_only, "rank", 0) != 0:
        yield
        return
    import fcntl

    with user_errors(OSError):
        lock = (folder / LOCK).open("w")
    with lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # systems differ in which
            raise UserError(f"another process trains in '{folder}': wait for it, or stop it") from None
        except OSError:
            pass  # a file system without locks
        yield


def _new_folder(path: Path) -> Path:
    """`path`, or `path-2`, `path-3`, ... if runs started in the same second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, 1000):
        candidate = path if attempt == 1 else path.with_name(f"{path.name}-{attempt}")
        try:
            candidate.mkdir()
        except FileExistsError:
            continue
        return candidate
    raise FileExistsError(f"a thousand runs called {path}")


def write_text(path: Path, text: str) -> None:
    """Replace the file in one step: a reader sees the old one or the new one."""
    with replacing(path) as file:
        file.write(text)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` as JSON, in one step."""
    write_text(path, json.dumps(content, indent=2) + "\n")
