"""Datasets of image files: all files are looked at before training, small trees are kept decoded."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Unpack, cast

import numpy as np
import torch

from zoo.datamodules.arrays import Indices, Pixels, Split
from zoo.datamodules.base import ImageDataModule
from zoo.datamodules.batch import resize_batch
from zoo.datamodules.checks import choice, fraction
from zoo.datamodules.decoded import Decoded, Job, decode, fits
from zoo.datamodules.loader import available_cpus
from zoo.datamodules.options import DataOptions
from zoo.datamodules.splits import cut
from zoo.datamodules.statistics import cache_folder
from zoo.datamodules.tree import Tree

DEFAULT_TEST_SIZE = 0.2
MOST_WORKERS = 8
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

    def square(self, positions: Indices, side: int) -> Pixels:
        """The images' centres, uint8 (N, side, side, C)."""
        images = self.whole(positions)
        if len({image.shape for image in images}) == 1:
            pixels: Pixels = resize_batch(torch.from_numpy(np.stack(images)), side).numpy()
            return pixels
        return np.concatenate([resize_batch(torch.from_numpy(image[None]), side).numpy() for image in images])

    def fingerprint(self) -> str:
        """A hash of the files' names, sizes and dates."""
        return self.job.key()


class FileDataModule(ImageDataModule):
    """Image files with labels; a subclass says which.

    Args:
        root: Folder of the files.
        **options: See `FileOptions` and `DataOptions`.
    """

    def __init__(self, root: str | None = None, **options: Unpack[FileOptions]) -> None:
        shared = {key: value for key, value in options.items() if key in DataOptions.__annotations__}
        super().__init__(root, **cast(DataOptions, shared))
        given: dict[str, Any] = {key: value for key, value in options.items() if value is not None}
        self._channels: int = given.get("in_channels", 3)
        if self._channels not in (1, 3):
            raise ValueError(f"in_channels must be 1 (grey) or 3 (colour), not {self._channels!r}")
        self._asked_classes: list[str] | None = given.get("classes")
        self.test_size = fraction("test_size", given.get("test_size", DEFAULT_TEST_SIZE))
        self.on_error = choice("on_error", given.get("on_error", "raise"), ("raise", "skip"))
        self.cache: bool | None = given.get("cache")
        names = tuple(self._asked_classes or self.find_classes())
        self.spec = replace(self.spec, class_names=names, in_channels=self._channels)
        self._loaded_side: int | None = None
        self._decoded: Decoded | None = None

    @property
    def cached(self) -> Path | None:
        """Where decoded images are kept, if they are."""
        return self._decoded.folder if self._decoded is not None and self._decoded.has_pixels else None

    def find_classes(self) -> Sequence[str]:
        """The class names, without listing all files."""
        raise NotImplementedError(f"{type(self).__name__} must define find_classes")

    def read_tree(self) -> Tree:
        """All files with their labels; `spec.class_names` says which label is which class."""
        raise NotImplementedError(f"{type(self).__name__} must define read_tree")

    def default_num_workers(self) -> int:
        """As many processes as there are processors: most of the time goes into images."""
        return min(MOST_WORKERS, available_cpus())

    def arguments(self) -> dict[str, Any]:
        """The arguments that build these data again, with the class names in their order."""
        own = {"in_channels": self._channels, "classes": list(self.spec.class_names), "on_error": self.on_error}
        return {**super().arguments(), **own, "test_size": self.test_size}

    def setup(self, stage: str | None = None) -> None:
        """Decode all files once, unless an earlier run did, and split them; a second call changes nothing."""
        if self.splits and self._loaded_side != self._side:
            self.splits = {}  # the images were cut for another size
        super().setup(stage)

    @property
    def _side(self) -> int:
        return self.image_size

    def load(self) -> dict[str, Split]:
        """The parts that the files are divided into; a tree without division is cut here."""
        tree = self.read_tree()
        listed = [os.fsencode(tree.root / path) for part in tree.splits.values() for path in part.paths]
        # Images that augmentation cuts from the whole picture are kept whole.
        self._loaded_side, whole = self._side, self.make_augment()
        job = Job(np.array(listed), self._channels, 0 if whole is not None and whole.whole else self._side)
        folder = cache_folder() / "images"
        keep = fits(job, folder) if self.cache is None else self.cache
        self._decoded = decoded = decode(job, folder, keep_pixels=keep, progress=self.progress)
        self._judge(listed, decoded.broken, tree.broken)
        return self._divide(tree, FileSource(job, decoded), decoded.broken)

    def _judge(self, listed: list[bytes], broken: dict[int, str], missing: Sequence[str]) -> None:
        """Refuse or report files that cannot be used."""
        reasons = [*broken.values(), *(f"{path}: a link that points nowhere" for path in missing)]
        if not reasons:
            return
        named = "; ".join(reasons[:_NAMED]) + ("; ..." if len(reasons) > _NAMED else "")
        count = f"{len(reasons):,} of {len(listed) + len(missing):,} files"
        if self.on_error == "raise":
            raise ValueError(f"{count} cannot be used: {named} (--data.on_error skip leaves them out)")
        self._notice(f"{count} cannot be used and are left out: {named}")

    def _divide(self, tree: Tree, source: FileSource, broken: dict[int, str]) -> dict[str, Split]:
        usable = np.ones(len(source.job.paths), dtype=bool)
        usable[list(broken)] = False
        parts, start = {}, 0
        for name, listing in tree.splits.items():
            positions = np.arange(start, start + len(listing.labels))
            chosen = usable[positions]
            parts[name] = Split(source, positions[chosen], listing.labels[chosen])
            start += len(positions)
        if "all" in parts:
            parts["train"], parts["test"] = cut(parts.pop("all"), self.test_size, _TEST_SEED)
        return parts
