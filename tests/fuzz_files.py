"""Data files changed at random: each data set is read right, or refused in one line.

    python -m tests.fuzz_files --cases 1000 --seed 0     the long run; --write keeps its figures
    python -m tests.fuzz_files --case 17 --seed 0        one case again

Kinds: class folders with an image of any format, tables, IDX files, CIFAR pickles, MATLAB files, tar shards, Parquet.
"""

import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.campaign import Figures, run, say, told
from tests.fuzz_files_check import Outcome, run_case
from tests.isolation import Failure, isolated, memory_now

RESIDENT = 1 << 30  # bytes of memory that a case may really use besides what the process has


def isolated_case(seed: int, number: int) -> Outcome:
    """A case in a process of its own, with limits on time and memory."""
    with tempfile.TemporaryDirectory(prefix="fuzz-files-") as folder:
        work = Path(folder)
        found = isolated(lambda: _outcome(work, seed, number), work / "stderr")
    return Outcome("", "failed", problems=[found.text]) if isinstance(found, Failure) else found


def _outcome(work: Path, seed: int, number: int) -> Outcome:
    before, start = memory_now("VmRSS"), time.process_time()
    (work / "case").mkdir()
    outcome = run_case(work / "case", seed, number)
    outcome.seconds = time.process_time() - start
    outcome.peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    if outcome.peak > RESIDENT:
        outcome.problems.append(f"took {outcome.peak >> 20} MiB of memory")
    outcome.printed = (work / "stderr").read_text(errors="replace").strip()[:500]
    if "Traceback" in outcome.printed:
        outcome.problems.append(f"printed: {outcome.printed}")
    return outcome


def campaign(seed: int, numbers: range) -> Figures:
    """Run cases, tell of every violation, and count."""
    figures: Counter[str] = Counter()
    slowest, peak, start = 0.0, 0, time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="fuzz-files-") as work:
        run_case(Path(work), seed, 1, with_commands=False)  # what is imported here, no case has to import
    for number in told(numbers, lambda: figures["violations"]):
        outcome = isolated_case(seed, number)
        kind = outcome.what.partition(",")[0] or "unknown"
        figures.update([outcome.verdict, f"{kind} {outcome.verdict}"])
        figures.update({"commands": outcome.commands, "violations": bool(outcome.problems)})
        figures.update({"lines printed by C libraries": bool(outcome.printed)})
        figures.update({"folder accepted without the changed image": outcome.is_left_out})
        slowest, peak = max(slowest, outcome.seconds), max(peak, outcome.peak)
        for problem in outcome.problems:
            say(f"case {number} of seed {seed} ({outcome.what}): {problem} | {outcome.message}")
    seconds = round(time.perf_counter() - start)
    extremes = {"slowest_seconds": round(slowest, 1), "peak_mib": peak >> 20, "seconds": seconds}
    return {"cases": len(numbers), "seed": seed, **dict(sorted(figures.items())), **extremes}


if __name__ == "__main__":
    sys.exit(run(__doc__, "fuzz_files", 1000, campaign))
