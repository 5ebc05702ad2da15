"""Image files that a CSV file lists, with their labels. Needs no torch."""

import csv
import io
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.datamodules.layout import SPLITS, class_faults, refuse, shown, sort_classes, unknown_classes
from zoo.datamodules.registry import unknown
from zoo.datamodules.tree import Listing, Tree

if TYPE_CHECKING:
    import _csv  # the type of a reader has no public name in Python 3.11

_COLUMNS = {"path": ("path", "image", "file", "filename"), "label": ("label", "class"), "split": ("split",)}
_Identity = tuple[int, int] | str
_SHOWN = 200  # characters of a cell
_EXPECTED = (
    "the first row must name the columns path (or image, file, filename) and label (or class), and may name split"
)


def read_table(file: Path, root: Path | None = None, classes: Sequence[str] | None = None) -> Tree:
    """Read a table of image files: UTF-8, cells separated by commas, semicolons or tabs, in quotes if need be.

    The first row names the columns: path, label and, if there are splits, split (train, val or test). A table of two
    columns may do without if its first cell is the path of a file. Other columns are passed over. Labels that are all
    numbers count in the order of their values. Paths that leave the root, by `..` or because they are absolute, are
    allowed as long as they lead to files. Unlike in a tree, the suffix of a file does not matter.

    Args:
        file: The table.
        root: The folder that paths start from. The table's own folder if not given.
        classes: Names in the order of the labels, as a checkpoint stores them. Found in the training rows if not given.

    Raises:
        FileNotFoundError: There is no such table, or no such root.
        PermissionError: The table may not be read.
        ValueError: The table is not as described; a path leads nowhere, a label is empty, a file has two labels, a
            split or a class is unknown, or there are fewer than two classes.
    """
    tree, faults = survey_table(file, root, classes)
    refuse(faults)
    return tree


def survey_table(file: Path, root: Path | None = None, classes: Sequence[str] | None = None) -> tuple[Tree, list[str]]:
    """What `read_table` finds, and a line for every row that it would refuse; those rows are in no split.

    Raises:
        FileNotFoundError: There is no such table, or no such root.
        PermissionError: The table may not be read.
        ValueError: The table is not as described, or no row belongs to the training set.
    """
    rows, folder = _read(Path(file).expanduser(), root)
    names = _class_names(rows, str(file)) if classes is None else tuple(classes)
    rows, repeated, faults = _sound_rows(rows, folder, shown(str(file)))
    faults += [] if faults else class_faults(names, str(file))  # wrong rows may be why a class is missing
    numbers = {name: number for number, name in enumerate(names)}
    splits = {}
    for split in ("train", "val", "test", "all"):
        chosen = [row for row in rows if row.split == split]
        faults += unknown_classes({row.label for row in chosen}, names, f"{file}, {split}")
        known = [row for row in chosen if row.label in numbers]
        if chosen:
            labels = np.array([numbers[row.label] for row in known], dtype=np.int64)
            splits[split] = Listing(tuple(row.path for row in known), labels)
    lines = ", ".join(str(row.line) for row in repeated[:5]) + ", ..." * (len(repeated) > 5)
    again = f"{shown(str(file))}: rows that repeat one above, which counts once: {len(repeated):,}, in line {lines}"
    return Tree(folder, names, splits, {}, (), (again,) if repeated else ()), faults


def table_classes(file: Path, root: Path | None = None) -> tuple[str, ...]:
    """The class names of a table; no file that it lists is looked for, but the first if no row names the columns.

    Raises:
        FileNotFoundError: There is no such table, or no such root.
        PermissionError: The table may not be read.
        ValueError: The table is not as `read_table` describes it, or has fewer than two classes.
    """
    rows, _ = _read(Path(file).expanduser(), root)
    names = _class_names(rows, str(file))
    refuse(class_faults(names, str(file)))
    return names


@dataclass(frozen=True)
class _Row:
    line: int
    path: str
    label: str
    split: str  # as written, if it is unknown
    fault: str = ""


def _class_names(rows: Sequence[_Row], where: str) -> tuple[str, ...]:
    training = [row for row in rows if row.split in ("train", "all")]
    if not training:
        raise ValueError(f"{shown(where)}: no row whose split is train")
    return sort_classes({row.label for row in training if row.label})


# Reading


def _read(file: Path, root: Path | None) -> tuple[list[_Row], Path]:
    folder = file.parent if root is None else Path(root).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"{shown(str(folder))}: no such folder, where the paths in {file.name} should start")
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(_rows(stream.read(), folder, shown(str(file))))
    except FileNotFoundError:
        raise FileNotFoundError(f"{shown(str(file))}: no such file") from None
    except PermissionError:
        raise PermissionError(f"{shown(str(file))}: may not be read; check the rights of the file") from None
    except IsADirectoryError:
        raise ValueError(f"{shown(str(file))}: is a folder, not a table") from None
    except UnicodeDecodeError:
        raise ValueError(f"{shown(str(file))}: is not UTF-8; save the table in that encoding") from None
    if not rows:
        raise ValueError(f"{shown(str(file))}: has no rows; {_EXPECTED}")
    return rows, folder


def _rows(text: str, folder: Path, where: str) -> Iterator[_Row]:
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    places: dict[str, int] | None = None
    width = 0
    for cells in _cells(reader, where):
        if places is None:
            places, width = _header(cells, where), len(cells)
            if places:
                continue
            if width != 2 or not (folder / cells[0]).is_file():
                raise ValueError(f"{where}: {_EXPECTED}, not {', '.join(map(_quoted, cells[:5]))}")
            places = {"path": 0, "label": 1}
        yield _row(cells, places, width, reader.line_num)


def _cells(reader: "_csv.Reader", where: str) -> Iterator[list[str]]:
    """The rows that are not empty."""
    try:
        yield from (cells for cells in reader if any(cell.strip() for cell in cells))
    except csv.Error as error:
        raise ValueError(f"{where}: line {reader.line_num}: {error}") from None


def _header(cells: Sequence[str], where: str) -> dict[str, int]:
    """The places of the columns, or nothing if this is no header."""
    names = [cell.strip().lower() for cell in cells]
    places: dict[str, int] = {}
    for column, aliases in _COLUMNS.items():
        found = [place for place, name in enumerate(names) if name in aliases]
        if len(found) > 1:
            raise ValueError(f"{where}: {' and '.join(repr(cells[place]) for place in found)} both name the {column}")
        if found:
            places[column] = found[0]
    return places if {"path", "label"} <= places.keys() else {}


def _row(cells: Sequence[str], places: dict[str, int], width: int, line: int) -> _Row:
    if len(cells) != width:
        return _Row(line, "", "", "all", f"{len(cells)} cell{'s' * (len(cells) > 1)} instead of {width}")
    path, label = cells[places["path"]], cells[places["label"]].strip()
    if "split" not in places:
        return _Row(line, path, label, "all")
    written = cells[places["split"]].strip()
    split = SPLITS.get(written.lower())
    return _Row(
        line, path, label, split or written, "" if split else unknown("split", written, ["train", "val", "test"])
    )


# Faults


def _sound_rows(rows: Sequence[_Row], folder: Path, where: str) -> tuple[list[_Row], list[_Row], list[str]]:
    """The rows that can be used, those that say the same again, and a line for every other one."""
    sound, repeated, faults = list[_Row](), list[_Row](), list[str]()
    first: dict[_Identity, _Row] = {}
    for row in rows:
        fault, identity = row.fault or _fault(row), None
        if not fault:
            identity = _identity(os.path.join(folder, row.path))  # noqa: PTH118  # a Path for every row takes time
            fault = "" if identity else f"no file {_quoted(row.path)} in {shown(str(folder))}"
        earlier = first.setdefault(identity, row) if identity else row
        if earlier.label != row.label:
            other = _quoted(earlier.label)
            fault = f"{_quoted(row.path)} is {_quoted(row.label)} here, but {other} in line {earlier.line}"
        elif earlier.split != row.split:
            fault = f"{_quoted(row.path)} is in {row.split} here, but in {earlier.split} in line {earlier.line}"
        if fault:
            faults.append(f"{where}: line {row.line}: {fault}")
        else:  # the same row again would be two images, one for training and one for testing
            (sound if earlier is row else repeated).append(row)
    return sound, repeated, faults


def _identity(path: str) -> _Identity | None:
    """What tells a file from all others, by whatever path it is reached; None if there is no such file."""
    try:
        status = os.stat(path)  # noqa: PTH116  # a Path for every row takes time
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.normpath(path)  # some systems have no numbers


def _fault(row: _Row) -> str:
    if not row.path or "\0" in row.path:
        return "the path is empty" if not row.path else f"{_quoted(row.path)} is no path"
    if not row.label:
        return f"the label of {_quoted(row.path)} is empty"
    if len(row.label.splitlines()) > 1:
        return f"the label of {_quoted(row.path)} has a line break; an earlier quote may be one too many"
    return ""


def _quoted(cell: str) -> str:
    """What is written in a cell; its beginning and end if that is long, as when a quote is missing."""
    text = repr(cell)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]}...{text[-_SHOWN // 2 :]}"
