"""Kills runs at random steps, resumes them, and compares with runs that nothing interrupted: bit for bit the same.

    python -m tests.kills --cases 50 --distributed 10 --writes 20 --seed 0

The real command is started, and its whole process group killed with SIGKILL. Cases that are done are kept in
`cases.jsonl` of the folder: the same command goes on with the others. Then a process that does nothing but write large
checkpoints is killed as well. `tests/test_kills.py` has a few short cases.
"""

import argparse
import json
import random
import shutil
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.figures import write_figures
from tests.kill_cases import CONFIGURATIONS, EPOCHS, STEPS, Case, finish, start, try_case, try_write
from zoo.cli.progress import readable_time

WITHIN = 3
"""Steps between two checkpoints within an epoch."""


def random_case(number: int, seed: int, devices: int) -> Case:
    """A function of its arguments; consecutive numbers go through all the settings."""
    source = random.Random(f"{seed}/{devices}/{number}")
    names = list(CONFIGURATIONS)
    within = (number // len(names) + (number if devices > 1 else 0)) % 2
    workers = 2 * (number // (2 * len(names)) % 2) if devices == 1 else 2 * source.randrange(2)
    first = source.randrange(WITHIN + 1 if within else STEPS + 1, EPOCHS * STEPS - 1)
    later = [source.randrange(first, EPOCHS * STEPS - 1)] if source.random() < 0.2 else []
    every = WITHIN if within else 0
    return Case(names[number % len(names)], workers, every, devices, (first, *later), source.uniform(0, 0.05))


def main() -> int:
    """Run the cases that are left; 1 if any was not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=50, help="runs of one process")
    parser.add_argument("--distributed", type=int, default=10, help="runs of two processes")
    parser.add_argument("--writes", type=int, default=20, help="kills of a process that writes checkpoints of 100 MB")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir(), "zoo-kills"))
    parser.add_argument("--write", action="store_true", help="keep the figures with the project's results")
    options = parser.parse_args()
    numbers = [(1, number) for number in range(options.cases)] + [(2, number) for number in range(options.distributed)]
    cases = {
        f"{options.seed}/{devices}/{number}": random_case(number, options.seed, devices) for devices, number in numbers
    }
    done = run_cases(cases, options.folder)
    figures = count(cases, done) | kill_writers(options.writes, options.seed, options.folder / "writes")
    for name, value in figures.items():
        Console().print(f"{name}: {value}")
    if options.write:
        write_figures("kills", figures)
    return int(bool(figures["unequal"] or figures["writers killed that left a torn file"]))


def run_cases(cases: dict[str, Case], folder: Path) -> dict[str, dict[str, Any]]:
    """Run what has not been run; what came of all of them, by name."""
    folder.mkdir(parents=True, exist_ok=True)
    record, console = folder / "cases.jsonl", Console(soft_wrap=True, highlight=False)
    lines = record.read_text().splitlines() if record.exists() else []
    done = {(line := json.loads(text))["name"]: line for text in lines}
    left = [name for name in cases if name not in done]
    started = time.monotonic()
    for position, name in enumerate(left):
        result = try_case(cases[name], whole_run(cases[name], folder), folder / "case")
        done[name] = {"name": name, **asdict(cases[name]), **asdict(result)}
        with record.open("a") as file:
            file.write(json.dumps(done[name]) + "\n")
        if result.faults:  # what reproduces it
            shutil.copytree(folder / "case", folder / "unequal" / name.replace("/", "-"), dirs_exist_ok=True)
        time_left = readable_time((time.monotonic() - started) / (position + 1) * (len(left) - position - 1))
        console.print(f"{position + 1}/{len(left)} {cases[name]} {result} {time_left} left")
    return done


def whole_run(case: Case, folder: Path) -> Path:
    """The folder of the same run uninterrupted; with neither workers nor further checkpoints, which change nothing."""
    whole = folder / f"{case.configuration}-{case.devices}"
    if not (whole / "run" / "curves.png").exists():
        shutil.rmtree(whole, ignore_errors=True)
        plain = Case(case.configuration, devices=case.devices)
        finish(start([*plain.words, "--run_dir=run"], whole))
    return whole


def kill_writers(number: int, seed: int, folder: Path) -> dict[str, int]:
    """Kill processes that replace a checkpoint of 100 MB again and again."""
    source = random.Random(seed)
    results = [try_write(folder, 25_000_000, source.uniform(0, 1)) for _ in range(number)]
    shutil.rmtree(folder, ignore_errors=True)
    for faults in filter(None, (faults for _, faults in results)):
        Console().print(*faults)
    return {
        "writers killed": number,
        "writers killed in the middle of a file": sum(was_writing for was_writing, _ in results),
        "writers killed that left a torn file": sum(bool(faults) for _, faults in results),
    }


def count(cases: dict[str, Case], done: dict[str, dict[str, Any]]) -> dict[str, int | float | str]:
    """The figures: kills, how many were resumed from within an epoch, and how many ended as they should."""
    lines = [done[name] for name in cases]
    steps = [step for line in lines for step in line["resumed_from"]]
    equal = Counter(f"{line['configuration']}, {line['devices']} process(es)" for line in lines if not line["faults"])
    return {
        "runs": len(lines),
        "kills": sum(len(line["killed_at"]) for line in lines),
        "resumed within an epoch": sum(step % STEPS > 0 for step in steps),
        "runs of two processes": sum(line["devices"] == 2 for line in lines),
        "runs with two workers": sum(line["workers"] == 2 for line in lines),
        "checkpoints read after a kill": sum(line["readable"] for line in lines),
        "equal": sum(not line["faults"] for line in lines),
        "unequal": sum(bool(line["faults"]) for line in lines),
        **{f"equal: {name}": number for name, number in sorted(equal.items())},
    }


if __name__ == "__main__":
    raise SystemExit(main())
