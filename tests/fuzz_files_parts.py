"""What the parts of the campaign on data files share: a case, and what may come out of a file of many images."""

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from tests.fuzz_files_mutations import mutate, mutate_in_place
from zoo.datamodules import ImageDataModule

SIDE = 16
CLASSES = ("ant", "bee")
DIGITS = tuple("0123456789")
Pair = tuple[bytes, str]  # the pixels of an image, and the name of its class


@dataclass
class Case:
    """A data set with one changed file.

    Attributes:
        what: Which kind of data set, which file of it, and the options.
        root: Where the files are.
        build: Makes the DataModule.
        known: Images that must come out, each exactly once, and with this class.
        either: Images of the changed file that need not come out as they were; if they do, with this class.
        free: The classes of the images whose own bytes were changed; None: any class.
        verdict: "accept" or "refuse" where that is known.
    """

    what: str
    root: Path
    build: Callable[[], ImageDataModule]
    known: list[Pair] = field(default_factory=list)
    either: dict[bytes, str] = field(default_factory=dict)
    free: list[str | None] = field(default_factory=list)
    verdict: str = ""


@dataclass
class Row:
    """Where an image and its label are in a file that holds many."""

    pair: Pair
    pixels: range
    label: range = range(0)


def noise(number: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)


def encoded(pixels: np.ndarray | Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(stream, kind, **options)
    return stream.getvalue()


def plain_options(side: int = SIDE) -> dict[str, Any]:
    """Nothing that would make other pixels of an image."""
    sizes = {"image_size": side, "batch_size": 7, "val_size": 0.25}
    return {**sizes, "augment": "none", "num_workers": 0, "drop_last": False}


def file_options(random: Random) -> dict[str, Any]:
    """The same, and a choice of what is asked about files."""
    choices = {"on_error": ("raise", "skip"), "cache": (True, False, None), "in_channels": (3, 1)}
    return {**plain_options(), **{name: random.choice(values) for name, values in choices.items()}}


def judge_rows(case: Case, rows: list[Row], before: bytes, after: bytes) -> Case:
    """What may come out of a file of rows, by where its bytes differ from what they were."""
    changed = {place for place, (old, new) in enumerate(zip(before, after, strict=False)) if old != new}
    pixels = [row for row in rows if not changed.isdisjoint(row.pixels)]
    labels = [row for row in rows if not changed.isdisjoint(row.label)]
    inside = set[int]().union(*(row.pixels for row in rows), *(row.label for row in rows))
    touched = [row for row in rows if row in pixels or row in labels]
    if len(before) == len(after) and changed <= inside:
        case.known += [row.pair for row in rows if row not in touched]
        case.free += [None if row in labels else row.pair[1] for row in touched]
    else:
        case.either = dict(row.pair for row in rows if row not in labels)
        case.free += [None] * (len(rows) + 50)
    return case


def change_file(case: Case, path: Path, rows: list[Row], random: Random, donor: bytes) -> Case:
    """Change a file of rows, and say what may come out of it."""
    before = path.read_bytes()
    after = random.choice((mutate, mutate_in_place))(before, random, donor)
    path.write_bytes(after)
    return judge_rows(case, rows, before, after)
