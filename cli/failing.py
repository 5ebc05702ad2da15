"""A run that fails: what to do about it, and that the first of several processes lives long enough to say so."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver

from zoo.checkpoint_io import LAST, PREVIOUS
from zoo.divergence import DivergedError

PATIENCE = 20
"""Seconds that other processes have to end by themselves."""


@contextmanager
def patience() -> Iterator[None]:
    """Let the first process say why a run has failed, and then end the others.

    Lightning's observer kills all processes, itself too, within seconds after one of them has failed.
    """
    observers = [thread for thread in threading.enumerate() if isinstance(thread, _ChildProcessObserver)]
    processes = [process for observer in observers for process in observer._child_processes]
    for observer in observers:
        observer._child_processes = []
    try:
        yield
    finally:
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
            process.kill()


LOST_PROCESS = ("Connection closed by peer", "Connection reset by peer", "remote process exited")
"""In messages of gloo and NCCL, through which processes exchange gradients, when one of them has gone."""


def hint_for(error: Exception) -> str | None:
    """What to do about a failure that is nobody's bug; None for what is one."""
    text = str(error)
    if isinstance(error, DivergedError):
        return text
    # Not what a worker raised, which has its own message. The connection is that to a worker, which may be found first.
    if "DataLoader worker (pid" in text or isinstance(error, ConnectionError | EOFError):
        what = "a worker that reads images was killed or ended, as it happens when memory runs out"
        return f"{what}: try fewer --data.num_workers, smaller --data.image_size or --recipe.batch_size"
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in text:
        return "memory ran out: try a smaller --recipe.batch_size or --data.image_size, or fewer --data.num_workers"
    if any(sign in text for sign in LOST_PROCESS):
        return "another process of this run has ended: what it printed says why"
    return None


def how_to_go_on(folder: Path) -> str:
    """The command that resumes the run, if there is something to resume it from."""
    if not any((folder / "checkpoints" / name).is_file() for name in (LAST, PREVIOUS)):
        return f"Nothing was saved yet: start the run of {folder / 'config.yaml'} anew"
    return f"To go on: zoo fit --config {folder / 'config.yaml'} --resume"
