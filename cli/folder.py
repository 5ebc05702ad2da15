"""The run folder: config.yaml, run.json, metrics.csv, TensorBoard events, curves.png, checkpoints."""

import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_only

from zoo._version import __version__
from zoo.cli.errors import UserError, user_errors
from zoo.cli.output import replacing

RUN_DIR_VARIABLE = "ZOO_RUN_DIR"
"""Processes that a distributed strategy starts find the first process's run folder here."""
PACKAGES = ("torch", "lightning", "torchvision", "torchmetrics", "albumentations", "numpy")


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
        elif (folder / "config.yaml").exists():
            raise UserError(f"'{folder}' holds a run already: add --resume to go on with it, or name another --run_dir")
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    os.environ[RUN_DIR_VARIABLE] = str(folder)
    return folder


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


def environment() -> dict[str, Any]:
    """What the numbers of a run depend on besides its configuration."""
    versions = {"zoo": __version__, "python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in PACKAGES}
    return {
        "command": shlex.join(["zoo", *sys.argv[1:]]),
        "versions": versions,
        "hardware": {
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
            "system": platform.platform(),
        },
        "git_commit": _git_commit(),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _git_commit() -> str | None:
    """The commit of the folder that the command runs in, with `-dirty` when files differ from it."""
    try:
        head = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip()
