"""What would hurt a training on a set of image files: every file is decoded once, and compared with all others."""

import hashlib
import multiprocessing
import os
import platform
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from zoo.datamodules.checks import whole_number
from zoo.datamodules.decode import read_image
from zoo.datamodules.layout import shown
from zoo.datamodules.machine import available_cpus
from zoo.datamodules.tree import Listing, Tree, survey_tree

Size = tuple[int, int]
IMBALANCE = 10
"""How many times as large as the smallest class the largest may be without a note."""
_CHUNK = 64  # files per task: handing over a single small file costs as much as decoding it
_SHOWN = 3  # of a group of equal pictures


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        root: The folder of the files.
        counts: Images by split and class.
        sizes: How many images have each (height, width).
        problems: What would hurt a training, line by line under headings: faults in the layout, broken files, pictures
            that are in several splits, pictures that have several labels.
        notes: What is good to know, in the same form: pictures that a split has twice, files that are no images,
            classes that a split lacks, classes of very different sizes.
    """

    root: str
    counts: dict[str, dict[str, int]]
    sizes: dict[Size, int]
    problems: dict[str, tuple[str, ...]]
    notes: dict[str, tuple[str, ...]]


def audit(
    root: Path | Tree,
    in_channels: int = 3,
    *,
    faults: Sequence[str] = (),
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Decode every file of a tree once and report on it.

    Pictures count as the same if all their decoded pixels are.

    Args:
        root: A folder laid out as `read_tree` says, or a tree that has been read.
        in_channels: 1 to compare the pictures in grey, 3 in colour.
        faults: What was wrong with a tree that has been read, one line each.
        workers: How many processes decode (threads, on systems that cannot fork). As many as processors if not given.
        progress: Called with the number of files done and of all files, every now and then.

    Raises:
        FileNotFoundError: There is no such folder.
        PermissionError: A folder may not be read.
        ValueError: The root is a file, or no classes can be made out in it.
    """
    tree, wrong = (root, list(faults)) if isinstance(root, Tree) else survey_tree(root)
    files = [_File(split, *pair) for split, listing in tree.splits.items() for pair in _pairs(listing)]
    paths = [os.path.join(tree.root, file.path) for file in files]  # noqa: PTH118  # a Path each would take a second
    number = available_cpus() if workers is None else whole_number("workers", workers)
    broken = [f"{shown(path)}: a link that points nowhere" for path in tree.broken]
    sizes, groups = Counter[Size](), dict[bytes, list[_File]]()
    for file, path, result in zip(files, paths, _decode_all(paths, in_channels, number, progress), strict=True):
        if isinstance(result, str):
            broken.append(f"{shown(file.path)}: {result.removeprefix(f'{shown(path)}: ')}")
        else:
            sizes[result[0]] += 1
            groups.setdefault(result[1], []).append(file)
    equal = [group for group in groups.values() if len(group) > 1]
    problems = {"layout": wrong, "broken files": broken, **_harmful(equal, tree.classes), **_divided(tree, equal)}
    return Report(str(tree.root), _counts(tree), dict(sizes), _filled(problems), _filled(_notes(tree, equal)))


@dataclass(frozen=True)
class _File:
    split: str
    path: str
    label: int


def _pairs(listing: Listing) -> Iterator[tuple[str, int]]:
    return zip(listing.paths, listing.labels.tolist(), strict=True)


def _filled(findings: dict[str, list[str]]) -> dict[str, tuple[str, ...]]:
    return {heading: tuple(lines) for heading, lines in findings.items() if lines}


# Decoding


Result = tuple[Size, bytes] | str
"""The (height, width) and the fingerprint of a picture, or why there is none."""


def _decode_all(
    paths: Sequence[str], in_channels: int, workers: int, progress: Callable[[int, int], None] | None
) -> Iterator[Result]:
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    done = 0
    for results in _map(partial(_fingerprints, in_channels=in_channels), chunks, min(workers, len(chunks))):
        yield from results
        done += len(results)
        if progress is not None:
            progress(done, len(paths))


def _map(
    work: Callable[[Sequence[str]], list[Result]], chunks: list[Sequence[str]], workers: int
) -> Iterator[list[Result]]:
    if workers < 2:
        yield from map(work, chunks)
        return
    pool = _pool(workers)
    try:
        yield from pool.map(work, chunks)
    finally:  # what is still waiting after an interruption is not done
        pool.shutdown(cancel_futures=True)


def _pool(workers: int) -> Executor:
    # For small images the interpreter lock makes threads half as fast; for large ones it makes no difference.
    if platform.system() == "Linux":
        fork = multiprocessing.get_context("fork")
        return ProcessPoolExecutor(workers, mp_context=fork, initializer=_leave_interrupts_to_parent)
    return ThreadPoolExecutor(workers)


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _fingerprints(paths: Sequence[str], in_channels: int) -> list[Result]:
    return [_fingerprint(path, in_channels) for path in paths]


def _fingerprint(path: str, in_channels: int) -> Result:
    try:
        pixels = read_image(path, in_channels)
    except (OSError, ValueError) as error:
        return str(error)
    height, width, _ = pixels.shape
    digest = hashlib.blake2b(pixels.data, digest_size=16, salt=f"{height}x{width}".encode()[:16])
    return (height, width), digest.digest()


# Findings


def _counts(tree: Tree) -> dict[str, dict[str, int]]:
    return {
        split: dict.fromkeys(tree.classes, 0) | Counter(tree.classes[label] for label in listing.labels.tolist())
        for split, listing in tree.splits.items()
    }


def _harmful(equal: Iterable[list[_File]], classes: Sequence[str]) -> dict[str, list[str]]:
    leaks, conflicts = list[str](), list[str]()
    for group in equal:
        by_split = {file.split: file for file in reversed(group)}
        if len(by_split) > 1:
            leaks.append(_line(group, list(by_split.values()), classes))
        by_label = {file.label: file for file in reversed(group)}
        if len(by_label) > 1:
            conflicts.append(_line(group, list(by_label.values()), classes))
    return {"the same picture in several splits": leaks, "the same picture with different labels": conflicts}


def _line(group: list[_File], first: list[_File], classes: Sequence[str]) -> str:
    """The files of a group of equal pictures; those that matter come first."""
    ordered = list(dict.fromkeys([*reversed(first), *group]))
    text = " = ".join(f"{shown(file.path)} ({classes[file.label]})" for file in ordered[:_SHOWN])
    return text + (f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else "")


def _divided(tree: Tree, equal: Iterable[list[_File]]) -> dict[str, list[str]]:
    """Equal pictures of a tree without splits: cutting test images off at random separates them."""
    return {"the same picture more than once, in images that are divided at random": _repeats(tree, equal, ("all",))}


def _repeats(tree: Tree, equal: Iterable[list[_File]], splits: Sequence[str]) -> list[str]:
    repeats = list[str]()
    for group in equal:
        for split in dict.fromkeys(file.split for file in group if file.split in splits):
            inside = [file for file in group if file.split == split]
            if len(inside) > 1:
                repeats.append(_line(inside, inside[:1], tree.classes))
    return repeats


def _notes(tree: Tree, equal: Iterable[list[_File]]) -> dict[str, list[str]]:
    repeats = _repeats(tree, equal, [name for name in tree.splits if name != "all"])
    counts = _counts(tree)
    missing = []
    for split, numbers in counts.items():
        if absent := [name for name, number in numbers.items() if number == 0]:
            names = ", ".join(absent[:5]) + ", ..." * (len(absent) > 5)
            missing.append(f"{split} has no images of {_number(len(absent), 'class', 'es')}: {names}")
    return {
        "the same picture more than once in a split": repeats,
        "files that are not read": [
            f"{_number(number, 'file', 's')}: {reason}" for reason, number in tree.skipped.items()
        ],
        "rows of the table": list(tree.remarks),
        "classes that a split lacks": missing,
        "classes of very different sizes": _imbalance(counts),
    }


def _number(number: int, what: str, plural: str) -> str:
    return f"{number:,} {what}{plural * (number > 1)}"


def _imbalance(counts: dict[str, dict[str, int]]) -> list[str]:
    lines = []
    for split in ("train", "all"):
        present = {name: number for name, number in counts.get(split, {}).items() if number}
        if present:
            small, large = min(present, key=present.__getitem__), max(present, key=present.__getitem__)
            if present[large] > IMBALANCE * present[small]:
                lines.append(f"{split}: {present[large]:,} images of {large}, but {present[small]:,} of {small}")
    return lines
