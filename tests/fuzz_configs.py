"""Configuration files and command lines changed at random: they work as they say, or are refused in one line.

python -m tests.fuzz_configs --cases 1500 --seed 0     the long run, two files to a command line; --write keeps it
python -m tests.fuzz_configs --case 17 --seed 0        one case again, with what it is
"""

import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.campaign import Figures, run, say, told
from tests.fuzz_configs_cases import make_case
from tests.fuzz_configs_check import Outcome, run_case, stay_alone
from tests.isolation import Failure, isolated

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


def isolated_case(place: Path, seed: int, number: int) -> Outcome:
    """A case in a process of its own, in a copy of the folder, with limits on time and memory."""
    with tempfile.TemporaryDirectory(prefix="fuzz-configs-") as folder:
        work = Path(folder)
        shutil.copytree(place, work / "a" / "b")
        found = isolated(lambda: _outcome(work, seed, number), work / "stderr", MEMORY)
    return Outcome("failed", problems=[found.text]) if isinstance(found, Failure) else found


def _outcome(work: Path, seed: int, number: int) -> Outcome:
    os.chdir(work / "a" / "b")
    stay_alone()
    start = time.process_time()
    outcome = run_case(make_case(seed, number))
    outcome.seconds = time.process_time() - start
    if "Traceback" in (printed := (work / "stderr").read_text(errors="replace").strip()[-1500:]):
        outcome.problems.append(f"printed: {printed}")
    return outcome


def campaign(seed: int, numbers: range) -> Figures:
    """Run cases, tell of every violation, and count."""
    figures: Counter[str] = Counter()
    slowest, start = 0.0, time.perf_counter()
    if len(numbers) == 1:
        case = make_case(seed, numbers[0])
        say(f"{case.words}\n{case.text}")
    with tempfile.TemporaryDirectory(prefix="fuzz-configs-") as work:
        make_place(Path(work) / "place")  # what is imported here, no case has to import
        for variable in ("PL_GLOBAL_SEED", "ZOO_RUN_DIR"):
            os.environ.pop(variable, None)
        for number in told(numbers, lambda: figures["violations"]):
            case, outcome = make_case(seed, number), isolated_case(Path(work) / "place", seed, number)
            kind = "lines" if case.text is None else "files"
            figures.update([kind, f"{kind} {outcome.verdict}"])
            figures.update({"violations": bool(outcome.problems)})
            slowest = max(slowest, outcome.seconds)
            for problem in outcome.problems:
                say(f"case {number} of seed {seed} ({case.what}): {problem} | {outcome.message}")
    extremes = {"slowest_seconds": round(slowest, 1), "seconds": round(time.perf_counter() - start)}
    return {"cases": len(numbers), "seed": seed, **dict(sorted(figures.items())), **extremes}


if __name__ == "__main__":
    sys.exit(run(__doc__, "fuzz_configs", 1500, campaign))
