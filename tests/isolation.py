"""Work in a process of its own, with limits: what it does to this one, and whether it ends, need not be trusted."""

import multiprocessing
import resource
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")

SECONDS = 20  # of a processor: tiny work that takes longer hangs
PATIENCE = 600  # seconds by the clock, on a machine that has other things to do
MEMORY = 3 << 30  # bytes of addresses that the work may take besides what the process has


@dataclass
class Failure:
    """Why there is no result: a traceback, or how the process died."""

    text: str


def isolated(work: Callable[[], Result]) -> Result | Failure:
    """The result of some work, which must be something that can be pickled."""
    here, there = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_child, args=(there, work))
    process.start()
    there.close()
    try:
        if not here.poll(PATIENCE):
            return Failure(f"no answer within {PATIENCE} s")
        found: Result | Failure = here.recv()
    except EOFError:
        process.join()
        return Failure(f"the process died with exit status {process.exitcode}")
    finally:
        process.kill()
        process.join()
    return found


def _child(pipe: Connection, work: Callable[[], object]) -> None:
    addresses = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmSize"))
    limit = int(addresses.split()[1]) * 1024 + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    try:
        pipe.send(work())
    except BaseException:
        pipe.send(Failure(traceback.format_exc()))
