"""Image folders: a folder for every class, listed without opening a file. Needs no torch."""

import os
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zoo.datamodules.layout import (
    LAYOUT,
    Level,
    checked_folder,
    class_faults,
    entries,
    flat,
    is_image,
    kind_of,
    refuse,
    shown,
    sort_classes,
    split_folders,
    unknown_classes,
)


@dataclass(frozen=True, eq=False)
class Listing:
    """The images of one split.

    Attributes:
        paths: Files, relative to the root of the tree, ordered by class and then by name.
        labels: int64, (N,): positions in the tree's classes.
    """

    paths: tuple[str, ...]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True, eq=False)
class Tree:
    """Image files with their labels, as they lie on a disk.

    Attributes:
        root: The folder that all paths start from.
        classes: What the labels 0, 1, 2, ... mean.
        splits: "train", "val" and "test" as far as they exist, or "all" if there are no splits.
        skipped: How many files were left out, by reason.
        broken: Links that point nowhere; they are in no split.
        remarks: What else is worth knowing, a line each.
    """

    root: Path
    classes: tuple[str, ...]
    splits: dict[str, Listing]
    skipped: dict[str, int]
    broken: tuple[str, ...]
    remarks: tuple[str, ...] = ()


def tree_classes(root: Path) -> tuple[str, ...]:
    """The class names of a tree, from the names of its folders; no files are listed.

    Raises:
        FileNotFoundError: There is no such folder.
        PermissionError: A folder may not be read.
        ValueError: The root is a file, or its folders are not laid out as `read_tree` says.
    """
    root = checked_folder(root)
    folders = split_folders(root, needs_train=True)
    first = folders["train" if "train" in folders else "all"]
    classes = sort_classes(Level(first).folders)
    refuse(class_faults(classes, str(first), LAYOUT))
    return classes


def read_tree(root: Path, classes: Sequence[str] | None = None) -> Tree:
    """List the images below a folder: ROOT/train/CLASS/**, with val and test beside train, or ROOT/CLASS/**.

    The classes are those of train; val and test may lack some, which shifts no label, but may not have others. A folder
    called train that holds images itself is a class if there are other classes beside it. Hidden files and folders, and
    those that systems leave behind, are passed over. Links to folders are followed, each folder once within a class.

    Args:
        root: The folder.
        classes: Names in the order of the labels, as a checkpoint stores them. Found in the tree if not given. With
            them, train and some classes may be missing.

    Raises:
        FileNotFoundError: There is no such folder.
        PermissionError: A folder may not be read.
        ValueError: The root is a file, or the folders are not laid out so; fewer than two classes, a class without
            images, an unknown class, or names that differ only in case.
    """
    tree, faults = survey_tree(root, classes)
    refuse(faults)
    return tree


def survey_tree(root: Path, classes: Sequence[str] | None = None) -> tuple[Tree, list[str]]:
    """What `read_tree` finds, and a line for everything in the layout that it would refuse.

    Raises:
        FileNotFoundError: There is no such folder.
        PermissionError: A folder may not be read.
        ValueError: The root is a file, or no classes can be made out in it.
    """
    root = checked_folder(root)
    folders = split_folders(root, needs_train=classes is None)
    levels = {split: Level(folder) for split, folder in folders.items()}
    if classes is None:
        first = "train" if "train" in folders else "all"
        names = sort_classes(levels[first].folders)
        faults = class_faults(names, str(folders[first]), LAYOUT)
    else:
        names = tuple(classes)
        faults = class_faults(names, "the classes asked for")
    found = _Found(root)
    splits = {}
    for split, level in levels.items():
        splits[split] = found.read_split(level, names)
        found.faults += unknown_classes(level.folders, names, str(level.path))
    if "all" not in folders:
        found.note_rest(set(folders.values()))
    return Tree(root, names, splits, dict(found.skipped), tuple(found.broken)), faults + found.faults


@dataclass
class _Found:
    """What turns up beside the images while a tree is read."""

    root: Path
    skipped: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def read_split(self, level: Level, classes: Sequence[str]) -> Listing:
        """The images in the class folders of a split."""
        inside = "" if level.path == self.root else f"{level.path.name}/"
        self._note(level, inside)
        if not level.folders:
            self.faults.append(flat(level))
        above = {_identity(str(path)) for path in (level.path, self.root) for path in _upwards(path)}
        paths, counts = list[str](), list[int]()
        present = set(level.folders)
        for name in classes:
            images = self._walk(inside + name, set(above)) if name in present else []
            if name in present and not images:
                self.faults.append(f"{shown(str(level.path / name))}: a class folder without images")
            paths += images
            counts.append(len(images))
        return Listing(tuple(paths), np.repeat(np.arange(len(classes), dtype=np.int64), counts))

    def note_rest(self, splits: set[Path]) -> None:
        """Count what lies beside the folders of the splits."""
        level = Level(self.root)
        self._note(level, "")
        for folder in (self.root / name for name in level.folders):
            if folder not in splits and (files := sum(len(files) for _, _, files in os.walk(folder))):
                self.skipped[f"in {shown(folder.name)}, which is no split"] += files

    def _note(self, level: Level, inside: str) -> None:
        self.broken += [inside + name for name in level.broken]
        if level.files:
            self.skipped["beside the class folders"] += level.files

    def _walk(self, folder: str, seen: set[tuple[int, int]]) -> list[str]:
        """The images below a class folder, sorted; `seen` are folders that are not entered again."""
        images, folders, links = list[str](), deque([folder]), deque[str]()
        while folders or links:
            inside = (folders or links).popleft()  # links last: what can be reached without one is listed without it
            path = os.path.join(self.root, inside)  # noqa: PTH118  # a Path for each folder is slow
            if (identity := _identity(path)) in seen:
                continue
            seen.add(identity)
            for entry in entries(path):
                name, kind = f"{inside}/{entry.name}", kind_of(entry)
                if kind == "file" and is_image(entry.name):
                    images.append(name)
                elif kind == "folder":
                    (links if entry.is_symlink() else folders).append(name)
                elif kind == "broken":
                    self.broken.append(name)
                else:
                    self.skipped[_reason(entry.name, kind)] += 1
        return sorted(images)


def _reason(name: str, kind: str) -> str:
    if kind == "special":
        return "no regular file"
    suffix = Path(name).suffix.lower()
    return f"suffix {shown(suffix)}" if suffix else "no suffix"


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)  # noqa: PTH116
    return status.st_dev, status.st_ino


def _upwards(path: Path) -> Iterable[Path]:
    resolved = path.resolve()
    return (resolved, *resolved.parents)
