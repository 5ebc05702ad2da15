"""A case of the campaign on data files: written, read, and judged."""

import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

from tests.fuzz_files_images import folder, table
from tests.fuzz_files_packed import cifar, mnist, parquet, shards, svhn
from tests.fuzz_files_parts import Case, Pair
from zoo.datamodules import ImageDataModule

KINDS: dict[Callable[[Path, Random], Case], int] = {
    folder: 48, table: 12, mnist: 14, cifar: 10, svhn: 6, shards: 6, parquet: 4
}  # fmt: skip
CHECKED, FITTED = 5, 25  # of so many cases, one goes through `zoo data check`, and one through `zoo fit`
DOCUMENTED = (ValueError, FileNotFoundError, PermissionError, ConnectionError)


def make_case(root: Path, seed: int, number: int) -> Case:
    """A case as a function of the seed and its number; its files are written below `root`."""
    random = Random(f"{seed} {number}")
    [build] = random.choices([*KINDS], [*KINDS.values()])
    return build(root, random)


@dataclass
class Outcome:
    """What came of a case; it is sound if there are no problems."""

    what: str
    verdict: str
    message: str = ""
    problems: list[str] = field(default_factory=list)
    is_left_out: bool = False  # what was changed, of a folder that was accepted
    commands: int = 0
    printed: str = ""  # by libraries of C, which no filter of warnings reaches
    peak: int = 0
    seconds: float = 0.0


def run_case(work: Path, seed: int, number: int, *, with_commands: bool = True) -> Outcome:
    """Write, read and judge a case.

    Args:
        work: An empty folder.
        seed: The seed of the campaign.
        number: Which case of it.
        with_commands: Whether one in five goes through `zoo data check` too, and one in 25 through `zoo fit`.
    """
    case = make_case(work / "data", seed, number)
    before = _names(case.root)
    with _apart(work), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        outcome = _read(case)
        if with_commands:
            _try_commands(case, outcome, number)
    outcome.problems += [f"a warning: {warning.message}" for warning in caught if _is_ours(warning)]
    if left := (_names(case.root) ^ before) | {name for name in _names(work / "cache") if _is_unfinished(name)}:
        outcome.problems.append(f"left behind or removed: {sorted(left)}")
    return outcome


def judge(case: Case, pairs: list[Pair]) -> list[str]:
    """What is wrong with the images that came out of a case."""
    problems = ["accepted, but it should be refused"] if case.verdict == "refuse" else []
    found, known = Counter(pairs), Counter(case.known)
    if missing := known - found:
        problems.append(f"{missing.total()} of {known.total()} untouched images are missing or have another class")
    others = list((found - known).elements())
    problems += [f"an image of {case.either[pixels]} has the class {label}"
                 for pixels, label in others if case.either.get(pixels, label) != label]  # fmt: skip
    strange = [label for pixels, label in others if pixels not in case.either]
    unexplained = Counter(strange) - Counter(label for label in case.free if label is not None)
    if unexplained.total() > case.free.count(None):
        problems.append(f"images that nothing explains, of the classes {sorted(unexplained)}")
    return problems


def _read(case: Case) -> Outcome:
    try:
        data = case.build()
        data.prepare_data()
        data.setup("fit")
        pairs = _pass(data)
    except MemoryError:
        return Outcome(case.what, "refused", problems=["out of memory"])
    except Exception as error:
        outcome = Outcome(case.what, "refused", str(error), _faults(error))
        if case.verdict == "accept":
            outcome.problems.append("refused, but it is sound")
        return outcome
    is_left_out = case.what.startswith("folder") and len(pairs) == len(case.known)
    return Outcome(case.what, "accepted", problems=judge(case, pairs), is_left_out=is_left_out)


def _pass(data: ImageDataModule) -> list[Pair]:
    """All images of all splits in order; training batches hold no others."""
    pairs = list[Pair]()
    for name in data.splits:
        for images, labels in data.ordered_loader(name):
            pairs += _pairs(data, images, labels)
    for images, labels in data.train_dataloader():
        assert set(_pairs(data, images, labels)) <= set(pairs), "training shows other images than evaluation"
    for loader in (data.val_dataloader(), data.test_dataloader() if "test" in data.splits else ()):
        assert all(len(labels) for _, labels in loader)
    return pairs


def _pairs(data: ImageDataModule, images: Any, labels: Any) -> list[Pair]:
    side = data.image_size
    assert tuple(images.shape[1:]) == (side, side, data.in_channels), images.shape
    pixels = (image.tobytes() for image in images.numpy())
    return [(one, data.class_names[label]) for one, label in zip(pixels, labels.tolist(), strict=True)]


def _faults(error: Exception) -> list[str]:
    """How an error differs from one line that a user can act on."""
    if type(error) not in DOCUMENTED:
        return [f"an undocumented {type(error).__name__}: {error}"]
    text = str(error)
    if not text.strip() or not text.isprintable() or len(text) > 1500 or "MemoryError" in text:
        return [f"no good line: {text[:2000]!r}"]
    return []


def _try_commands(case: Case, outcome: Outcome, number: int) -> None:
    if number % CHECKED == 0 and case.what.startswith(("folder", "csv")):
        table = case.root / "table.csv"
        words = ["data", "check", *(["--csv", str(table)] if table.exists() else [str(case.root)])]
        _command(words, (1, 2) if "cannot be used" in outcome.message else (0, 1, 2), outcome)
    if number % FITTED == 0 and case.what.startswith(("folder", "mnist")):
        words = ["fit", "--model", "mlp", "--data", case.what.partition(",")[0], "--data.root", str(case.root)]
        words += ["--data.val_size", "0.25", "--trainer.fast_dev_run", "true"]
        words += ["--data.on_error", "skip"] if "skip" in case.what else []
        _command(words, (0,) if outcome.verdict == "accepted" else (2,), outcome)


def _command(words: list[str], allowed: tuple[int, ...], outcome: Outcome) -> None:
    from zoo.cli import main

    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err), mock.patch.object(sys, "argv", ["zoo", *words]):
        try:
            status: object = main(words)
        except BaseException as error:
            status = repr(error)
    outcome.commands += 1
    lines = err.getvalue().strip().splitlines()
    if status not in allowed:
        outcome.problems.append(f"zoo {' '.join(words[:2])} ends with {status}, not {allowed}: {lines[-3:]}")
    if "Traceback" in err.getvalue() + out.getvalue() or (status == 2 and not lines[-1].startswith("zoo: error: ")):
        outcome.problems.append(f"zoo {' '.join(words[:2])} prints {lines}")


@contextmanager
def _apart(work: Path) -> Iterator[None]:
    """Own caches, and no way to the network."""
    import datasets

    offline = {"ZOO_CACHE": str(work / "cache"), "HF_HUB_OFFLINE": "1"}
    place = Path.cwd()
    os.chdir(work)
    try:
        with mock.patch.dict(os.environ, offline), mock.patch.object(datasets.config, "HF_DATASETS_CACHE", work / "hf"):
            yield
    finally:
        os.chdir(place)


def _names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")} if folder.exists() else set()


def _is_unfinished(name: str) -> bool:
    return Path(name).name.startswith(".") or ".part" in name


def _is_ours(warning: warnings.WarningMessage) -> bool:
    return not str(warning.message).startswith(("The '", "`isinstance", "This process"))
