"""What the numbers of a run depend on besides its settings: versions, hardware, the commit."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from zoo._version import __version__
from zoo.datamodules.machine import available_cpus

PACKAGES = ("torch", "lightning", "torchvision", "torchmetrics", "albumentations", "numpy")


def environment() -> dict[str, Any]:
    """Versions, hardware and commit, as they stand in result files."""
    versions = {"zoo": __version__, "python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in PACKAGES}
    return {
        "versions": versions,
        "hardware": {
            "processor": _processor(),
            "cores": available_cpus(),
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
