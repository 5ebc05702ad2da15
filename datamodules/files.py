"""Datasets of image files: all files are looked at before training, small trees are kept decoded."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Unpack

import numpy as np

from zoo.datamodules.arrays import Indices, Pixels, Split
from zoo.datamodules.base import ImageDataModule
from zoo.datamodules.batch import squares
from zoo.datamodules.cache import cache_folder
from zoo.datamodules.checks import choice, fraction, grey_or_colour
from zoo.datamodules.dataset import ImageDataset
from zoo.datamodules.decoded import Decoded, Job, decode, fits
from zoo.datamodules.loader import decoding_num_workers, default_num_workers
from zoo.datamodules.options import DataOptions, given_options, shared_options
from zoo.datamodules.splits import cut
from zoo.datamodules.tree import Tree

DEFAULT_TEST_SIZE = 0.2
_TEST_SEED = 0  # the test images of a tree without splits are the same in every run
_NAMED = 3  # broken files that a message names


class FileOptions(DataOptions, total=False):
    """What DataModules of image files take besides `DataOptions`.

    Attributes:
        in_channels: 3 to read the images in colour, 1 in grey.
        classes: The class names in the order of their labels. From the training images if not given.
        test_size: Part of the images that is the test set, if the files are not divided. 0.2 if not given. It is the
            same part for every seed.
        on_error: What to do about broken files: raise an error before training, or skip them and say how many.
        cache: Keep the decoded images in $ZOO_CACHE (by default the user's cache folder), so that a later epoch reads
            no files. If not given: when they take less than 8 GiB and half of the free disk.
    """

    in_channels: int | None
    classes: list[str] | None
    test_size: float | None
    on_error: Literal["raise", "skip"] | None
    cache: bool | None


@dataclass(frozen=True)
class FileSource:
    """Image files, decoded when they are asked for, or read from the cache of decoded images.

    Attributes:
        job: The files, and how they are decoded.
        decoded: What was found when all were decoded once.
    """

    job: Job
    decoded: Decoded

    def whole(self, positions: Indices) -> list[Pixels]:
        """The images at these positions, each uint8 (H, W, C); those larger than `job.side` cut and resized to it."""
        if self.decoded.has_pixels:
            return self.decoded.read(positions)
        return [self.job.read(position) for position in positions.tolist()]

    def square(self, positions: Indices, side: int, interpolation: str = "bilinear") -> Pixels:
        """The images' centres, uint8 (N, side, side, C)."""
        return squares(self.whole(positions), side, interpolation)

    def fingerprint(self) -> str:
        """A hash of the files' names, sizes and dates."""
        return self.decoded.folder.name

    def content(self) -> str:
        """A hash of the files' names below their folder and of their sizes."""
        return self.job.content()


class FileDataModule(ImageDataModule):
    """Image files with labels; a subclass says which.

    Args:
        root: Folder of the files.
        **options: See `FileOptions` and `DataOptions`.
    """

    def __init__(self, root: str | None = None, **options: Unpack[FileOptions]) -> None:
        given = given_options(type(self), options, FileOptions)
        super().__init__(root, **shared_options(options))
        self._channels = grey_or_colour(given.get("in_channels", 3))
        self.test_size = fraction("test_size", given.get("test_size", DEFAULT_TEST_SIZE))
        self.on_error = choice("on_error", given.get("on_error", "raise"), ("raise", "skip"))
        self.cache: bool | None = given.get("cache")
        names = tuple(given["classes"] if "classes" in given else self.find_classes())
        if not names:
            raise ValueError("classes must name at least two, each once, not []")
        self.spec = replace(self.spec, class_names=names, in_channels=self._channels)
        self._loaded_as: tuple[int, str] | None = None
        self._are_workers_asked_for = "num_workers" in given

    def find_classes(self) -> Sequence[str]:
        """The class names, without listing all files."""
        raise NotImplementedError(f"{type(self).__name__} must define find_classes")

    def read_tree(self) -> Tree:
        """All files with their labels; `spec.class_names` says which label is which class."""
        raise NotImplementedError(f"{type(self).__name__} must define read_tree")

    def default_num_workers(self) -> int:
        """As for images that are decoded; where they are kept decoded, `load` takes fewer."""
        return decoding_num_workers()

    def arguments(self) -> dict[str, Any]:
        """The arguments that build these data again, with the class names in their order."""
        own = {"in_channels": self._channels, "classes": list(self.spec.class_names), "on_error": self.on_error}
        return {**super().arguments(), **own, "test_size": self.test_size}

    def setup(self, stage: str | None = None) -> None:
        """Decode all files once, unless an earlier run did, and split them; a second call changes nothing.

        To test or validate, no other files are looked at where the tree has the split in a folder of its own.
        """
        if self._loaded_as != self._scale:
            self.splits = {}
        super().setup(stage)

    def make_dataset(self, name: str, *, is_training: bool = False) -> ImageDataset:
        """The images of a split, in the size that is asked for now."""
        if self._loaded_as != self._scale:
            self.splits = {}  # the images were cut for another size
        return super().make_dataset(name, is_training=is_training)

    @property
    def _side(self) -> int:
        return self.sizing.side

    @property
    def _scale(self) -> tuple[int, str]:
        """What decoded images are made for."""
        return self._side, self.interpolation

    def load(self) -> dict[str, Split]:
        """The parts that the files are divided into; a tree without division is cut here."""
        tree = self.read_tree()
        for reason, count in tree.skipped.items():
            self._notice(f"{count:,} files are not read: {reason}")
        for remark in tree.remarks:
            self._notice(remark)
        # Checkpoints hold the usual size of data with splits too, and test on data that are divided otherwise.
        if self._needed == "train" and "all" not in tree.splits and self.test_size != DEFAULT_TEST_SIZE:
            raise ValueError(f"test_size is {self.test_size}, but the dataset has splits of its own")
        # Images that augmentation cuts from the whole picture are kept whole.
        self._loaded_as, augment = self._scale, self.make_augment()
        side = 0 if augment is not None and augment.whole else self._side
        names = [self._needed] if self._needed != "train" and self._needed in tree.splits else list(tree.splits)
        jobs = {name: replace(self.make_job(tree, name, side), interpolation=self.interpolation) for name in names}
        folder = cache_folder() / "images"
        keep = fits(jobs.values(), folder) if self.cache is None else self.cache
        found = {name: decode(job, folder, keep_pixels=keep, progress=self.progress) for name, job in jobs.items()}
        self.cached = folder if keep else None
        if keep and not self._are_workers_asked_for:
            self.num_workers = default_num_workers()  # as for any other images in memory
        self._judge(sum(len(job.paths) for job in jobs.values()), found.values(), tree.broken)
        parts = {
            name: _usable(FileSource(job, found[name]), tree.splits[name].labels, found[name])
            for name, job in jobs.items()
        }
        if self._needed == "train":
            self._check_classes(parts)
        if "all" in parts:
            parts["train"], parts["test"] = cut(parts.pop("all"), self.test_size, _TEST_SEED)
        return parts

    def make_job(self, tree: Tree, name: str, side: int) -> Job:
        """What is to be decoded of a split."""
        paths = [os.fsencode(tree.root / path) for path in tree.splits[name].paths]
        return Job(np.array(paths), self._channels, side)

    def _judge(self, count: int, found: Iterable[Decoded], missing: Sequence[str]) -> None:
        """Refuse or report files that cannot be used."""
        reasons = [reason for decoded in found for reason in decoded.broken.values()]
        reasons += [f"{path}: a link that points nowhere" for path in missing]
        if not reasons:
            return
        named = "; ".join(reasons[:_NAMED]) + ("; ..." if len(reasons) > _NAMED else "")
        text = f"{len(reasons):,} of {count + len(missing):,} files cannot be used"
        if self.on_error == "raise":
            raise ValueError(f"{text}: {named} (--data.on_error skip leaves them out)")
        self._notice(f"{text} and are left out: {named}")

    def _check_classes(self, parts: dict[str, Split]) -> None:
        """Every class must have training images that can be used."""
        for name in ("train", "all"):
            if name in parts:
                names, present = self.spec.class_names, set(parts[name].labels.tolist())
                for number in self.selection.classes(names):
                    if number not in present:
                        reason = f"class {names[number]!r} has no training image that can be used"
                        raise ValueError(f"{reason}: --data.class_subset names the classes to use")


def _usable(source: FileSource, labels: Indices, decoded: Decoded) -> Split:
    """All images of a source but the broken ones."""
    is_usable = np.ones(len(labels), dtype=bool)
    is_usable[list(decoded.broken)] = False
    positions = np.flatnonzero(is_usable)
    return Split(source, positions, labels[positions])
