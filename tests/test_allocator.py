"""Memory that is freed is kept for the next step: by the command, unless the user has tuned the allocator."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.allocator import TUNING

SCRIPT = """
import resource, sys
import zoo.cli
status = zoo.cli.main(sys.argv[1:]) if len(sys.argv) > 1 else 0
import torch
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = torch.zeros(2**24, dtype=torch.uint8)
    del block
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(status, min(faults() for _ in range(5)))
"""
PAGES = 2**24 // 4096
FIT = ("fit", "--model", "mlp", "--trainer.max_steps", "1", "--no_test", "true")


def status_and_faults(folder: Path, *words: str, **environment: str) -> tuple[int, int]:
    """Of a command, and then of taking 16 MB that were in use before, in the same process."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *words],
        cwd=folder,
        env={**{name: value for name, value in os.environ.items() if name not in TUNING}, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    status, faults = done.stdout.split()[-2:]
    return int(status), int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator of glibc is tuned")
def test_the_command_keeps_what_it_frees(tmp_path: Path) -> None:
    status, faults = status_and_faults(tmp_path, *FIT)
    assert status == 0
    assert faults < PAGES // 10


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator of glibc is tuned")
def test_what_the_user_tuned_stays(tmp_path: Path) -> None:
    status, faults = status_and_faults(tmp_path, *FIT, MALLOC_MMAP_THRESHOLD_="1000000")
    assert status == 0
    assert faults >= PAGES
