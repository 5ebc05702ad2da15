"""Which columns of a dataset hold the images and the labels, and what the labels are."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from zoo.datamodules.arrays import Indices
from zoo.datamodules.hub_open import Rows
from zoo.datamodules.layout import sort_classes
from zoo.datamodules.registry import unknown

_LABEL_TYPES = re.compile(r"u?int\d+|(large_)?string|bool")


def find_columns(rows: Rows, path: str, image: str | None, label: str | None) -> tuple[str, str]:
    """The names of the columns that hold the images and the labels.

    Args:
        rows: A split.
        path: What errors call the dataset.
        image: The column of the images, if the user named it; else the only one of the type Image.
        label: The column of the labels, if the user named it; else the only one of the type ClassLabel, or if there
            is none, the only one of whole numbers or text.

    Raises:
        ValueError: There is no such column, or more than one.
    """
    kinds = {name: type(feature).__name__ for name, feature in rows.features.items()}
    for option, name in (("image column", image), ("label column", label)):
        if name is not None and name not in kinds:
            raise ValueError(f"{path}: {unknown(option, name, list(kinds))}")
    image = image or _only(path, "image", [name for name, kind in kinds.items() if kind == "Image"], list(kinds))
    if label is None:
        labels = [name for name, kind in kinds.items() if kind == "ClassLabel"]
        label = _only(path, "label", labels or [n for n in kinds if n != image and _is_label(rows, n)], list(kinds))
    elif not _is_label(rows, label):
        raise ValueError(f"{path}: column {label!r} holds {rows.features[label]}, not whole numbers or text")
    return image, label


def _is_label(rows: Rows, name: str) -> bool:
    return _LABEL_TYPES.fullmatch(str(getattr(rows.features[name], "dtype", ""))) is not None


def _only(path: str, what: str, found: Sequence[str], columns: Sequence[str]) -> str:
    if len(found) == 1:
        return found[0]
    text = f"which of {', '.join(found)} holds" if found else f"none of the columns {', '.join(columns)} looks like"
    raise ValueError(f"{path}: {text} the {what}s? name it: --data.{what}_column COLUMN")


def label_names(rows: Rows, column: str) -> tuple[list[str | None], Indices]:
    """The labels of all rows, read as one column: what occurs, None for no label, and for each row which of these."""
    feature = rows.features[column]
    table = rows.select_columns([column]).with_format("arrow")[:]
    coded = table.column(column).combine_chunks().dictionary_encode()
    values: list[Any] = [*coded.dictionary.to_pylist(), None]
    names: Sequence[str] | None = getattr(feature, "names", None)
    if names is not None:  # hub datasets mark hidden labels by -1
        values = [names[value] if value is not None and 0 <= value < len(names) else None for value in values]
    codes: Indices = coded.indices.fill_null(len(values) - 1).to_numpy(zero_copy_only=False).astype(np.int64)
    return [None if value is None else str(value) for value in values], codes


def class_names(rows: Rows, column: str, path: str) -> list[str]:
    """The classes: those that the column's type lists, else the different labels in order.

    Raises:
        ValueError: There are fewer than two.
    """
    names = getattr(rows.features[column], "names", None)
    if names is None:
        names = sort_classes({name for name in label_names(rows, column)[0] if name is not None})
    if len(names) < 2:
        raise ValueError(f"{path}: column {column!r} has the classes {list(names)}; a classifier needs two")
    return list(names)
