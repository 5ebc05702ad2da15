"""The load of long runs: memory, open files, threads and processes of `zoo fit`, watched from outside.

`python -m tests.load --epochs 200` trains in each of the ways below and says how far the process has grown after its
warm-up, then starts eight runs at once; `--write` keeps the figures. Linux only: it reads /proc.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from statistics import median

from tests.conftest import command, environment
from tests.figures import write_figures

WAYS = {
    "0 workers": ["--data.num_workers", "0"],
    "2 workers": ["--data.num_workers", "2"],
    "2 workers, all on": [
        *("--data.num_workers", "2", "--data.augment", "affine", "--recipe.mixup", "0.2", "--recipe.ema", "0.99"),
        *("--checkpoint_every", "5"),
    ],
}
WARM_UP = 20
"""Epochs until caches, pools and the allocator's arenas have been filled."""
WIDTH = 10
"""Epochs of a window: a batch on its way from a worker holds files for a moment."""
INTERVAL = 0.02  # seconds between looks
RUNS = 8


@dataclass(frozen=True)
class Load:
    """What a run holds: memory of its own in MB (not files mapped into it) and the workers' of it, and counts."""

    megabytes: float
    worker_megabytes: float
    files: float
    threads: float
    processes: float

    def grown(self, before: "Load") -> "Load":
        """The difference."""
        return Load(*(now - then for now, then in zip(astuple(self), astuple(before), strict=True)))

    def __str__(self) -> str:
        """One line of a table."""
        return "  ".join(f"{field.name} {getattr(self, field.name):.1f}" for field in fields(self))


def children(pid: int) -> list[int]:
    """The processes that a process has started: a DataLoader's workers."""
    return [int(word) for path in Path(f"/proc/{pid}/task").glob("*/children") for word in path.read_text().split()]


def own_megabytes(pid: int) -> float:
    """Resident memory that is no file's; a worker's counts what it still shares with the process that forked it off."""
    text = Path(f"/proc/{pid}/status").read_text()
    return sum(int(number) for number in re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+)", text, flags=re.M)) / 1024


def look(pid: int) -> Load:
    """What a run holds at this moment.

    Raises:
        OSError: It, or one of its processes, ended meanwhile.
    """
    workers = children(pid)
    return Load(
        megabytes=own_megabytes(pid),
        worker_megabytes=sum(map(own_megabytes, workers)),
        files=len(list(Path(f"/proc/{pid}/fd").iterdir())),
        threads=len(list(Path(f"/proc/{pid}/task").iterdir())),
        processes=len(workers),
    )


def rows_in(metrics: Path) -> int:
    """How many rows a metrics.csv has: the epochs that are over, and the test."""
    return max(0, len(metrics.read_text().splitlines()) - 1) if metrics.exists() else 0


def watch(
    folder: Path, *options: str, epochs: int, on_epoch: Callable[[int], None] = lambda epoch: None
) -> dict[int, list[Load]]:
    """Train in a process of its own; what it held within each epoch.

    Raises:
        ChildProcessError: The run failed, with what it said.
    """
    words = command("fit", "--model", "mlp", "--run_dir", folder, "--recipe.epochs", epochs, "--recipe.batch_size", 32)
    held: dict[int, list[Load]] = {}
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen([*words, *options], env=environment(), stdout=said, stderr=said) as process,
    ):
        while process.poll() is None:
            epoch = rows_in(folder / "metrics.csv") + 1
            try:
                if 1 < epoch <= epochs:
                    held.setdefault(epoch, []).append(look(process.pid))
            except OSError:  # a process ended while it was looked at
                continue
            on_epoch(epoch)
            time.sleep(INTERVAL)
        if process.returncode:
            said.seek(0)
            raise ChildProcessError(said.read()[-2000:])
    return held


def at(held: dict[int, list[Load]], epoch: int) -> Load:
    """Over the window of epochs that ends with this one: the median of memory, the least of what comes and goes."""
    window = [astuple(load) for near in range(epoch - WIDTH + 1, epoch + 1) for load in held.get(near, [])]
    memory, worker_memory, *counts = zip(*window, strict=True)
    return Load(median(memory), median(worker_memory), *map(min, counts))


def show(epoch: int, epochs: int, started: float) -> None:
    """Progress with the time left, on one line."""
    if epoch <= epochs and sys.stderr.isatty():
        left = (time.monotonic() - started) / epoch * (epochs - epoch + 1)
        print(f"\r  epoch {epoch} of {epochs}, {left:.0f} s left   ", end="", file=sys.stderr)


def train(way: str, epochs: int, allowed: float) -> tuple[dict[str, int | float | str], bool]:
    """Train in one of the ways; its figures, and whether it has grown."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        held = watch(Path(folder) / "run", *WAYS[way], epochs=epochs, on_epoch=lambda now: show(now, epochs, started))
    print(f"\r{way}: {time.monotonic() - started:.0f} s")
    figures: dict[str, int | float | str] = {}
    for epoch in (WARM_UP, (WARM_UP + epochs) // 2, epochs):
        load = at(held, epoch)
        print(f"  epoch {epoch}: {load}")
        figures |= {
            f"{way}, epoch {epoch}, {field.name}": round(getattr(load, field.name), 1) for field in fields(load)
        }
    grown = at(held, epochs).grown(at(held, WARM_UP))
    print(f"  growth: {grown}")
    is_larger = max(grown.megabytes, grown.worker_megabytes) > allowed
    return figures, is_larger or max(grown.files, grown.threads, grown.processes) > 0


def start_at_once(number: int) -> int:
    """Start so many runs in one place at one moment; how many whole runs they leave.

    Raises:
        ChildProcessError: One of them failed.
    """
    words = command("fit", "--model", "mlp", "--recipe.epochs", 1)
    with tempfile.TemporaryDirectory() as place:
        runs = [subprocess.Popen(words, cwd=place, env=environment(), stdout=subprocess.DEVNULL) for _ in range(number)]
        statuses = [run.wait() for run in runs]
        if any(statuses):
            raise ChildProcessError(f"the {number} runs ended with {statuses}")
        folders = Path(place, "runs", "mlp-digits").iterdir()
        return sum(rows_in(folder / "metrics.csv") == 2 and (folder / "curves.png").exists() for folder in folders)


def main() -> int:
    """Do all of it; the exit status is 1 if a run has grown, or two shared a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--megabytes", type=float, default=8.0, help="growth after the warm-up that passes for noise")
    parser.add_argument("--write", action="store_true", help="keep the figures in benchmarks/results/reliability")
    options = parser.parse_args()
    figures: dict[str, int | float | str] = {"epochs": options.epochs}
    has_failed = False
    for way in WAYS:
        measured, has_grown = train(way, options.epochs, options.megabytes)
        figures |= measured
        has_failed |= has_grown
    figures |= {"runs started at once": RUNS, "whole runs that they left": (whole := start_at_once(RUNS))}
    print(f"{RUNS} runs started at once left {whole} whole ones")
    if options.write:
        print(write_figures("load", figures))
    return int(has_failed or whole != RUNS)


if __name__ == "__main__":
    sys.exit(main())
