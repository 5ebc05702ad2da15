"""The images of a run: the data module that its settings describe, and a fingerprint of what the folder holds."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.benchmarks.settings import Settings
from zoo.datamodules import Folder, names, parameters
from zoo.datamodules.base import ImageDataModule
from zoo.datamodules.download import Progress
from zoo.datamodules.options import shared_options
from zoo.datamodules.registry import dataset_spec
from zoo.registry import nearest

CLASS_FOLDERS = "class folders"
TREES = {"cifar10": "cifar-10-batches-py"}
"""Data sets that may also lie as class folders of image files, and the folder that their own format has."""

SAMPLE, SAMPLE_SIDE = 2000, 32
"""About so many images of a split, at this side in pixels, make its fingerprint."""


@dataclass(frozen=True)
class DataFacts:
    """Which images the folder holds.

    Args:
        source: Empty for the data set's own format.
        fingerprint: Another one for other images or labels.
    """

    source: str
    fingerprint: str


def build_data(settings: Settings, seed: int, root: str | None, *, download: bool = False) -> ImageDataModule:
    """The data module of a run.

    A folder with train/ and test/, in each a folder for every class of CIFAR-10, serves as CIFAR-10: with the same
    augmentation and normalisation, and said in the result.

    Raises:
        ValueError: The data set needs a folder, or an option is wrong.
        FileNotFoundError: The folder does not hold the data set.
    """
    spec = dataset_spec(settings.data)
    known = parameters(getattr(names, settings.data))
    for name in settings.data_options:
        if name not in known:
            raise ValueError(f"unknown setting 'data.{name}'.{nearest(name, list(known))}")
    options: dict[str, Any] = {"seed": seed, "batch_size": settings.recipe["batch_size"], **settings.data_options}
    if settings.protocol["threads"] == 1:
        options.setdefault("num_workers", 0)  # runs of one thread lie side by side: they are the parallelism
    tree = class_folders(settings.data, root)
    if tree is not None:
        ours = {"augment": spec.augment, "image_size": spec.image_size, "val_size": 0.1}
        data: ImageDataModule = Folder(str(tree), **{**ours, **options})
        if options.get("normalize", "spec") == "spec":
            data.use_normalization(spec.mean, spec.std)
        return data
    if spec.needs_root:
        options["root"] = root
    if download and "download" in known:
        options["download"] = True
    made: ImageDataModule = getattr(names, settings.data)(**options)
    return made


def class_folders(data: str, root: str | None) -> Path | None:
    """The folder that holds a data set as class folders of image files, if it is there in that form alone."""
    if data not in TREES or root is None or (Path(root) / TREES[data]).is_dir():
        return None
    classes = set(dataset_spec(data).class_names)
    for tree in (Path(root) / data, Path(root)):
        parts = [tree / "train", tree / "test"]
        if all(part.is_dir() and {folder.name for folder in part.iterdir()} >= classes for part in parts):
            return tree
    return None


def read_data(
    all_settings: Iterable[Settings], root: str | None, progress: Progress | None = None, *, download: bool = False
) -> list[DataFacts]:
    """See that the data of these runs are there, read and decode them once; what they are, in the same order.

    Raises:
        ValueError: A data set needs a folder.
        FileNotFoundError: The folder does not hold a data set.
    """
    known: dict[str, DataFacts] = {}
    found = []
    for settings in all_settings:
        own = dict(settings.data_options)
        for name in shared_options(own).keys() - {"image_size", "seed"}:
            del own[name]
        place = json.dumps([settings.data, own], sort_keys=True)
        if place not in known:
            known[place] = _facts(settings, root, progress, download)
        found.append(known[place])
    return found


def _facts(settings: Settings, root: str | None, progress: Progress | None, download: bool) -> DataFacts:
    data = build_data(settings, 0, root, download=download)
    data.progress = progress
    data.prepare_data()
    digest = hashlib.sha256()
    for name, split in sorted(data.load().items()):
        digest.update(f"{name} {len(split)}".encode() + split.labels.tobytes())
        # By what the images show, not by where they lie; some of them, evenly spread, tell two sets apart.
        step = max(1, len(split) // SAMPLE)
        for start in range(0, len(split), 100 * step):
            rows = np.arange(start, min(start + 100 * step, len(split)), step)
            digest.update(split.square(rows, SAMPLE_SIDE).tobytes())
    source = CLASS_FOLDERS if class_folders(settings.data, root) else ""
    return DataFacts(source, digest.hexdigest()[:12])
