"""Which images are for training and which for validation: functions of the labels, the sizes asked for and a seed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoo.datamodules.arrays import Indices, Split
from zoo.datamodules.checks import fraction, whole_number
from zoo.datamodules.registry import unknown

DEFAULT_VAL_SIZE = 0.1


def cut(split: Split, size: int | float, seed: int) -> tuple[Split, Split]:
    """Cut a part off in which every class has its share.

    Args:
        split: What is to be divided.
        size: The size of the second part: a number of images, or a fraction of all of them.
        seed: Which images go there.

    Returns:
        The rest, and the part of that size; both in the original order.

    Raises:
        ValueError: There are too few images to give every class a share.
    """
    first, second = cut_rows(split.labels, size, seed)
    return split.take(first), split.take(second)


def cut_rows(labels: Indices, size: int | float, seed: int) -> tuple[Indices, Indices]:
    """`cut` for labels alone: the rows of the two parts."""
    from sklearn.model_selection import train_test_split  # 75 MB, which data with parts of their own can do without

    try:
        first, second = train_test_split(np.arange(len(labels)), test_size=size, stratify=labels, random_state=seed)
    except ValueError as error:
        classes = len(np.unique(labels))
        raise ValueError(f"cannot cut {size} off {len(labels)} images of {classes} classes: {error}") from None
    return np.sort(first), np.sort(second)


def fold_of(split: Split, kfold: int, fold: int, seed: int) -> tuple[Split, Split]:
    """Cut into `kfold` parts in which every class has its share; part `fold` is the second result, the rest the first.

    Raises:
        ValueError: A class has fewer images than there are parts.
    """
    from sklearn.model_selection import StratifiedKFold

    least = int(np.unique(split.labels, return_counts=True)[1].min())
    if least < kfold:
        remedy = f"use at most {least}" if least > 1 else "every class needs two"
        raise ValueError(f"kfold is {kfold}, but a class has only {least} training images: {remedy}")
    parts = StratifiedKFold(kfold, shuffle=True, random_state=seed).split(np.zeros(len(split)), split.labels)
    rest, part = list(parts)[fold]
    return split.take(rest), split.take(part)


def limit(split: Split, size: int | float, seed: int) -> Split:
    """A part of so many images, or of that fraction, in which every class has its share.

    A smaller part is contained in a larger one of the same seed, up to one image of each class.

    Raises:
        ValueError: There are not so many images, or too few to give every class one.
    """
    count = round(size * len(split)) if isinstance(size, float) else size
    if count > len(split):
        raise ValueError(f"train_size is {size}, but the training split has {len(split)} images")
    present, numbers = np.unique(split.labels, return_counts=True)
    if count < len(present):
        raise ValueError(f"{count} training images are too few: each of {len(present)} classes needs one")
    exact = numbers * count / len(split)
    quotas = np.maximum(1, np.floor(exact).astype(np.int64))
    for place in np.argsort(quotas - exact, kind="stable")[: max(0, count - int(quotas.sum()))]:
        quotas[place] += 1  # what rounding down has left goes to those that lost most
    while quotas.sum() > count:  # classes that would have had none have one
        quotas[np.argmax(np.where(quotas > 1, quotas - exact, -np.inf))] -= 1
    chosen = []
    for label, quota in zip(present, quotas, strict=True):
        random = np.random.default_rng(np.random.SeedSequence((seed, int(label)), spawn_key=(4,)))
        chosen.append(random.permutation(np.flatnonzero(split.labels == label))[:quota])
    return split.take(np.sort(np.concatenate(chosen)))


def only_classes(split: Split, classes: Sequence[int]) -> Split:
    """The images of these classes, labelled by their place in `classes`."""
    place = np.full(max(int(split.labels.max(initial=0)), *classes) + 1, -1, dtype=np.int64)
    place[list(classes)] = np.arange(len(classes))
    rows = np.flatnonzero(place[split.labels] >= 0)
    return Split(split.source, split.positions[rows], place[split.labels[rows]])


def class_numbers(subset: Sequence[str | int], names: Sequence[str]) -> list[int]:
    """The numbers of the classes that `subset` names, by name or by number.

    Where names are numbers themselves, a number is a name: folders 01 and 02 are not the classes 0 and 1, and YAML
    reads 01 as 1, and 010 as 8.

    Raises:
        ValueError: There is no such class, one is named twice, or fewer than two are named.
    """
    are_padded = any(_is_number(name) and name != "0" and name.startswith("0") for name in names)
    counts = not are_padded and not all(map(_is_number, names))
    numbers = []
    for entry in subset:
        if str(entry) in names:
            numbers.append(list(names).index(str(entry)))
        elif counts and _is_number(str(entry)) and int(entry) < len(names):
            numbers.append(int(entry))
        elif are_padded and isinstance(entry, int):
            called = f"{', '.join(names[:2])}{', ...' * (len(names) > 2)}"
            remedy = f'write names in quotes, as "{list(names[:2])}"'
            raise ValueError(f"class_subset has the number {entry}, but classes are called {called}: {remedy}")
        else:
            raise ValueError(unknown("class", str(entry), list(names)))
    if len(set(numbers)) < max(2, len(numbers)):
        raise ValueError(f"class_subset must name at least two classes, each once, not {list(subset)}")
    return numbers


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()


@dataclass(frozen=True)
class Selection:
    """Which images of a dataset a run uses, and which of them for what.

    Attributes:
        val_size: Part of the training images that is held out for validation; None: 0.1.
        class_subset: Names or numbers of the classes to use; None: all.
        train_fraction: Part of the training split to use.
        train_size: Number of images of the training split to use.
        kfold: Number of parts for cross-validation.
        fold: Which of them is for validation.
        seed: Seed of all of this.

    Raises:
        ValueError: A value breaks its rule, or two exclude each other.
    """

    val_size: float | None = None
    class_subset: tuple[str | int, ...] | None = None
    train_fraction: float | None = None
    train_size: int | None = None
    kfold: int | None = None
    fold: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.val_size is not None:
            fraction("val_size", self.val_size)
        if self.train_fraction is not None and self.train_fraction != 1:
            fraction("train_fraction", self.train_fraction)
        if self.train_size is not None:
            whole_number("train_size", self.train_size)
        if self.kfold is not None:
            whole_number("kfold", self.kfold, least=2)
            if self.fold is None:
                raise ValueError(f"kfold is {self.kfold}: give fold too, 0 to {self.kfold - 1}")
            whole_number("fold (with kfold)", self.fold, least=0, most=self.kfold - 1)
        self._exclude("train_size", "train_fraction")
        self._exclude("kfold", "val_size")
        if self.fold is not None and self.kfold is None:
            raise ValueError(f"fold is {self.fold}, but there are no folds: give kfold too")

    def _exclude(self, first: str, second: str) -> None:
        if getattr(self, first) is not None and getattr(self, second) is not None:
            raise ValueError(f"{first} is {getattr(self, first)} and {second} is {getattr(self, second)}: give one")

    def classes(self, names: Sequence[str]) -> list[int]:
        """The numbers of the classes in use, of those with these names."""
        return list(range(len(names))) if self.class_subset is None else class_numbers(self.class_subset, names)

    def apply(self, parts: dict[str, Split], names: Sequence[str]) -> dict[str, Split]:
        """The splits of a run.

        Args:
            parts: train, and if the dataset has them, val and test; to test alone, test will do.
            names: The dataset's classes.

        Raises:
            ValueError: There are too few images for what is asked, or none of the classes in a part.
        """
        if self.class_subset is not None:
            parts = self._of_classes(parts, names)
        if "train" not in parts:
            return parts
        train, val = self._validation(parts)
        size = self.train_fraction if self.train_size is None else self.train_size
        train = train if size is None else limit(train, size, self.seed)
        test = {"test": parts["test"]} if "test" in parts else {}
        return {"train": train, "val": val, **test}

    def _of_classes(self, parts: dict[str, Split], names: Sequence[str]) -> dict[str, Split]:
        classes = self.classes(names)
        chosen = {name: only_classes(part, classes) for name, part in parts.items()}
        for name, part in chosen.items():
            if not len(part):
                called = ", ".join(names[number] for number in classes[:5]) + ", ..." * (len(classes) > 5)
                raise ValueError(f"class_subset is {called}, but there are no {name} images of these classes")
        return chosen

    def _validation(self, parts: dict[str, Split]) -> tuple[Split, Split]:
        train = parts["train"]
        for name in ("val_size", "kfold"):
            if "val" in parts and getattr(self, name) is not None:
                raise ValueError(f"{name} is {getattr(self, name)}, but the dataset has validation images of its own")
        if "val" in parts:
            return train, parts["val"]
        if self.kfold is not None and self.fold is not None:
            return fold_of(train, self.kfold, self.fold, self.seed)
        return cut(train, DEFAULT_VAL_SIZE if self.val_size is None else self.val_size, self.seed)
