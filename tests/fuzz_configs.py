"""Configuration files and command lines changed at random: they work as they say, or are refused in one line.

python -m tests.fuzz_configs --cases 1500 --seed 0     the long run, two files to a command line; --write keeps it
python -m tests.fuzz_configs --case 17 --seed 0        one case again, with what it is
"""

import argparse
import faulthandler
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.fuzz_configs_cases import make_case
from tests.fuzz_configs_check import Outcome, run_case, stay_alone

SECONDS = 20  # of a processor: a tiny run that takes longer hangs
PATIENCE = 300  # seconds by the clock, on a machine that has other things to do
MEMORY = 4 << 30  # bytes of addresses that a case may take besides what the process has


def make_place(place: Path) -> None:
    """The files that commands name: a checkpoint, a configuration, images."""
    from PIL import Image

    from zoo.cli import main

    place.mkdir()
    words = ["fit", "--model", "mlp", "--model.hidden", "[8]", "--recipe.epochs", "1", "--no-test"]
    assert main([*words, "--run_dir", str(place / "made")]) == 0
    shutil.move(place / "made/checkpoints/last.ckpt", place / "good.ckpt")
    shutil.move(place / "made/config.yaml", place / "good.yaml")
    shutil.rmtree(place / "made")
    for shade, name in enumerate(("good.png", "pictures/train/a/1.png", "pictures/train/b/2.png")):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), color=99 * shade).save(place / name)


def isolated(place: Path, seed: int, number: int) -> Outcome:
    """A case in a process of its own, in a copy of the folder, with limits on time and memory."""
    fork = multiprocessing.get_context("fork")
    mine, theirs = fork.Pipe()
    with tempfile.TemporaryDirectory(prefix="fuzz-configs-") as work:
        shutil.copytree(place, Path(work) / "a" / "b")
        process = fork.Process(target=_child, args=(theirs, Path(work), seed, number))
        process.start()
        theirs.close()
        try:
            if mine.poll(PATIENCE):
                return _received(mine, process)
            return Outcome("hung", problems=[f"not done in {PATIENCE} seconds: {_printed(Path(work))}"])
        finally:
            process.kill()
            process.join()


def _received(pipe: Connection, process: Any) -> Outcome:
    try:
        outcome: Outcome = pipe.recv()
    except EOFError:
        process.join()
        return Outcome("died", problems=[f"the process died with exit status {process.exitcode}"])
    return outcome


def _printed(work: Path) -> str:
    return (work / "stderr").read_text(errors="replace").strip()[-1500:]


def _child(pipe: Connection, work: Path, seed: int, number: int) -> None:
    size = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmSize"))
    limit = int(size.split()[1]) * 1024 + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))  # of this process: the parent's seconds do not count
    os.dup2(os.open(work / "stderr", os.O_WRONLY | os.O_CREAT), 2)  # what libraries of C print
    faulthandler.dump_traceback_later(PATIENCE - 10)
    os.chdir(work / "a" / "b")
    stay_alone()
    start = time.process_time()
    outcome = run_case(make_case(seed, number))
    outcome.seconds = time.process_time() - start
    if "Traceback" in (printed := _printed(work)):
        outcome.problems.append(f"printed: {printed}")
    pipe.send(outcome)


def campaign(seed: int, numbers: range) -> dict[str, int | float | str]:
    """Run cases, tell of every violation, and count."""
    figures: Counter[str] = Counter()
    slowest, start = 0.0, time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="fuzz-configs-") as work:
        make_place(Path(work) / "place")  # what is imported here, no case has to import
        for variable in ("PL_GLOBAL_SEED", "ZOO_RUN_DIR"):
            os.environ.pop(variable, None)
        for done, number in enumerate(numbers, 1):
            case, outcome = make_case(seed, number), isolated(Path(work) / "place", seed, number)
            kind = "lines" if case.text is None else "files"
            figures.update([kind, f"{kind} {outcome.verdict}"])
            figures.update({"violations": bool(outcome.problems)})
            slowest = max(slowest, outcome.seconds)
            for problem in outcome.problems:
                say(f"case {number} of seed {seed} ({case.what}): {problem} | {outcome.message}")
            if done % 50 == 0:
                left = (time.perf_counter() - start) / done * (len(numbers) - done)
                say(f"{done} of {len(numbers)} cases, {figures['violations']} violations, {left:.0f} s left")
    extremes = {"slowest_seconds": round(slowest, 1), "seconds": round(time.perf_counter() - start)}
    return {"cases": len(numbers), "seed": seed, **dict(sorted(figures.items())), **extremes}


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run the campaign that the command line asks for; 1 if there was a violation."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--cases", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="this one alone")
    parser.add_argument("--write", action="store_true", help="keep the figures")
    options = parser.parse_args()
    numbers = range(options.cases) if options.case is None else range(options.case, options.case + 1)
    if options.case is not None:
        case = make_case(options.seed, options.case)
        say(f"{case.words}\n{case.text}")
    figures = campaign(options.seed, numbers)
    say("\n".join(f"{name}: {value}" for name, value in figures.items()))
    if options.write:
        from tests.figures import write_figures

        write_figures("fuzz_configs", figures)
    return 1 if figures["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
