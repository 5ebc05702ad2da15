"""Work in a process of its own, with limits: what it does to this one, and whether it ends, need not be trusted."""

import faulthandler
import multiprocessing
import os
import resource
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

import torch

Result = TypeVar("Result")

SECONDS = 20  # of a processor: tiny work that takes longer hangs
PATIENCE = 300  # seconds by the clock, on a machine that has other things to do
MEMORY = 3 << 30  # bytes of addresses that the work may take besides what the process has


@dataclass
class Failure:
    """Why there is no result: a traceback, or how the process died."""

    text: str


def isolated(work: Callable[[], Result], noise: Path | None = None, memory: int = MEMORY) -> Result | Failure:
    """The result of some work, which must be something that can be pickled.

    Args:
        work: What is done.
        noise: A file for what it prints as errors, libraries of C among it, and for where it was if it takes too long.
        memory: Bytes of addresses that it may take besides what this process has.
    """
    torch.set_num_threads(1)  # or the new process would wait for threads that only this one has
    here, there = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_child, args=(there, work, noise, memory))
    process.start()
    there.close()
    try:
        if not here.poll(PATIENCE):
            printed = noise.read_text(errors="replace").strip()[-1500:] if noise else ""
            return Failure(f"no answer within {PATIENCE} s: {printed}")
        found: Result | Failure = here.recv()
    except EOFError:
        process.join()
        return Failure(f"the process died with exit status {process.exitcode}")
    finally:
        process.kill()
        process.join()
    return found


def _child(pipe: Connection, work: Callable[[], object], noise: Path | None, memory: int) -> None:
    limit = memory_now("VmSize") + memory
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))  # of this process: the parent's seconds do not count
    if noise:
        os.dup2(os.open(noise, os.O_WRONLY | os.O_CREAT), 2)
        faulthandler.dump_traceback_later(PATIENCE - 10)
    try:
        pipe.send(work())
    except BaseException:
        pipe.send(Failure(traceback.format_exc()))


def memory_now(name: str) -> int:
    """Bytes that this process has: VmSize of addresses, VmRSS of memory."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024
