"""The trials of a search in processes of this machine."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from subprocess import Popen

from zoo.benchmarks.launchers import POLL_SECONDS, terminable
from zoo.cli.search_child import GRACE_SECONDS, kill, start, stop
from zoo.cli.search_study import Attempt, Search
from zoo.datamodules.machine import available_cpus

OnEnd = Callable[[Attempt, str], None]
"""Is told of each trial that has ended, and with which word."""


@dataclass
class _Running:
    attempt: Attempt
    process: "Popen[bytes]"
    slot: int
    deadline: float | None = None
    """When a trial that is stopped early is killed; None while it may go on."""


def run_local(search: Search, jobs: int, on_end: OnEnd, poll: Callable[[], None]) -> None:
    """Run what is left of a search.

    Ctrl-C, SIGTERM and errors stop the running trials; they go on at the next start.

    Args:
        search: The search.
        jobs: Trials at once.
        on_end: See `OnEnd`.
        poll: Called twice a second.
    """
    running: list[_Running] = []
    with terminable():
        try:
            while True:
                free = [slot for slot in range(jobs) if slot not in [one.slot for one in running]]
                for slot in free:
                    if (attempt := search.next()) is not None:
                        running.append(_Running(attempt, _start(attempt, slot, jobs), slot))
                if not running:
                    return
                running = [one for one in running if not _has_ended(one, search, on_end)]
                poll()
                time.sleep(POLL_SECONDS)
        finally:
            for one in running:
                one.process.terminate()  # all at once: each takes its time
            for one in running:
                stop(one.process)


def _start(attempt: Attempt, slot: int, jobs: int) -> "Popen[bytes]":
    threads = 0 if jobs == 1 or "OMP_NUM_THREADS" in os.environ else max(1, available_cpus() // jobs)
    return start(attempt.words, attempt.log, threads=threads, device=device_of(slot) if jobs > 1 else None)


def device_of(slot: int) -> str | None:
    """The GPU of one of several trials at a time, where there are some; each would take all of them."""
    import torch

    count = torch.cuda.device_count()
    if not count:
        return None
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(number) for number in range(count)]
    return names[slot % len(names)]


def _has_ended(one: _Running, search: Search, on_end: OnEnd) -> bool:
    """Look after a running trial: stop it if it is worse than others were, take its result if it has ended."""
    status = one.process.poll()
    if status is not None:
        stop(one.process)
        on_end(one.attempt, search.finish(one.attempt, status))
        return True
    if one.deadline is None and search.follow(one.attempt, search.values(one.attempt.folder)):
        one.process.terminate()
        one.deadline = time.monotonic() + GRACE_SECONDS
    elif one.deadline is not None and time.monotonic() > one.deadline:
        kill(one.process)
    return False
