"""Data files changed at random: each data set is read right, or refused in one line.

    python -m tests.fuzz_files --cases 1000 --seed 0     the long run; --write keeps its figures
    python -m tests.fuzz_files --case 17 --seed 0        one case again

Kinds: class folders with an image of any format, tables, IDX files, CIFAR pickles, MATLAB files, tar shards, Parquet.
"""

import argparse
import faulthandler
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.fuzz_files_check import Outcome, run_case

SECONDS = 20  # of a processor: a tiny data set that takes longer hangs
PATIENCE = 600  # seconds by the clock, on a machine that has other things to do
MEMORY = 3 << 30  # bytes of addresses that a case may take besides what the process has
RESIDENT = 1 << 30  # bytes of memory that a case may really use besides that


def isolated(seed: int, number: int) -> Outcome:
    """A case in a process of its own, with limits on time and memory."""
    fork = multiprocessing.get_context("fork")
    mine, theirs = fork.Pipe()
    with tempfile.TemporaryDirectory(prefix="fuzz-files-") as work:
        process = fork.Process(target=_child, args=(theirs, Path(work), seed, number))
        process.start()
        theirs.close()
        try:
            if mine.poll(PATIENCE):
                return _received(mine, process)
            where = (Path(work) / "stderr").read_text(errors="replace")[-1500:]
            return Outcome("", "refused", problems=[f"hangs: not done in {PATIENCE} seconds, {where}"])
        finally:
            process.kill()
            process.join()


def _received(pipe: Connection, process: Any) -> Outcome:
    try:
        outcome: Outcome = pipe.recv()
    except EOFError:
        process.join()
        return Outcome("", "refused", problems=[f"the process died with exit status {process.exitcode}"])
    return outcome


def _child(pipe: Connection, work: Path, seed: int, number: int) -> None:
    limit = _now("VmSize") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))  # of this process: the parent's seconds do not count
    before, start = _now("VmRSS"), time.process_time()
    noise = work / "stderr"
    (work / "case").mkdir()
    os.dup2(os.open(noise, os.O_WRONLY | os.O_CREAT), 2)  # what libraries of C print
    faulthandler.dump_traceback_later(PATIENCE - 10)
    outcome = run_case(work / "case", seed, number)
    outcome.seconds = time.process_time() - start
    outcome.peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    if outcome.peak > RESIDENT:
        outcome.problems.append(f"took {outcome.peak >> 20} MiB of memory")
    outcome.printed = noise.read_text(errors="replace").strip()[:500]
    if "Traceback" in outcome.printed:
        outcome.problems.append(f"printed: {outcome.printed}")
    pipe.send(outcome)


def _now(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def campaign(seed: int, numbers: range) -> dict[str, int | float | str]:
    """Run cases, tell of every violation, and count."""
    figures: Counter[str] = Counter()
    slowest, peak, start = 0.0, 0, time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="fuzz-files-") as work:
        run_case(Path(work), seed, 1, with_commands=False)  # what is imported here, no case has to import
    for done, number in enumerate(numbers, 1):
        outcome = isolated(seed, number)
        kind = outcome.what.partition(",")[0] or "unknown"
        figures.update([outcome.verdict, f"{kind} {outcome.verdict}"])
        figures.update({"commands": outcome.commands, "violations": bool(outcome.problems)})
        figures.update({"lines printed by C libraries": bool(outcome.printed)})
        figures.update({"folder accepted without the changed image": outcome.is_left_out})
        slowest, peak = max(slowest, outcome.seconds), max(peak, outcome.peak)
        for problem in outcome.problems:
            _say(f"case {number} of seed {seed} ({outcome.what}): {problem} | {outcome.message}")
        if done % 50 == 0:
            left = (time.perf_counter() - start) / done * (len(numbers) - done)
            _say(f"{done} of {len(numbers)} cases, {figures['violations']} violations, {left:.0f} s left")
    seconds = round(time.perf_counter() - start)
    extremes = {"slowest_seconds": round(slowest, 1), "peak_mib": peak >> 20, "seconds": seconds}
    return {"cases": len(numbers), "seed": seed, **dict(sorted(figures.items())), **extremes}


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run the campaign that the command line asks for; 1 if there was a violation."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="this one alone")
    parser.add_argument("--write", action="store_true", help="keep the figures")
    options = parser.parse_args()
    numbers = range(options.cases) if options.case is None else range(options.case, options.case + 1)
    figures = campaign(options.seed, numbers)
    _say("\n".join(f"{name}: {value}" for name, value in figures.items()))
    if options.write:
        from tests.figures import write_figures

        write_figures("fuzz_files", figures)
    return 1 if figures["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
