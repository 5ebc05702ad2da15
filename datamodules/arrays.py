"""Images in memory, and the dataset that hands them out a batch at a time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.utils.data import Dataset

from zoo.datamodules.augment import Augment
from zoo.datamodules.batch import resize_batch

Key = int | tuple[int, int]  # an index, or (index, epoch) where the result depends on the epoch


@dataclass(frozen=True)
class Arrays:
    """Images with their labels.

    Attributes:
        images: uint8, (N, H, W, C).
        labels: int64, (N,).
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        assert self.images.dtype == np.uint8 and self.images.ndim == 4, (self.images.dtype, self.images.shape)
        assert self.labels.dtype == np.int64 and self.labels.shape == self.images.shape[:1], self.labels.shape

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: npt.NDArray[np.int64]) -> "Arrays":
        """A copy of the images at these positions."""
        return Arrays(self.images[indices], self.labels[indices])


def split(arrays: Arrays, size: int | float, seed: int) -> tuple[Arrays, Arrays]:
    """Cut a part off in which every class has its share.

    Args:
        arrays: What is to be divided.
        size: The size of the second part: a number of images, or a fraction of all of them.
        seed: Which images go there.

    Returns:
        The rest, and the part of that size; both in the original order.

    Raises:
        ValueError: There are too few images to give every class a share.
    """
    try:
        first, second = train_test_split(
            np.arange(len(arrays)), test_size=size, stratify=arrays.labels, random_state=seed
        )
    except ValueError as error:
        classes = len(np.unique(arrays.labels))
        raise ValueError(f"cannot cut {size} off {len(arrays)} images of {classes} classes: {error}") from None
    return arrays.take(np.sort(first)), arrays.take(np.sort(second))


class ArrayDataset(Dataset[tuple[Tensor, Tensor]]):
    """Images in memory, fetched a whole batch at a time.

    A batch is indexed once and resized once. Only augmentation works image by image, and it sees a copy: the arrays
    themselves never change.

    Args:
        arrays: The images and labels.
        image_size: The side of the images handed out.
        border: Width of a black border that belongs to `image_size`.
        augment: What is done to the images of a training set; None for evaluation.
    """

    def __init__(self, arrays: Arrays, image_size: int, border: int = 0, augment: Augment | None = None) -> None:
        self.arrays = arrays
        self.image_size = image_size
        self.border = border
        self.augment = augment

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor]:
        images, labels = self.__getitems__([key])
        return images[0], labels[0]

    def __getitems__(self, keys: Sequence[Key]) -> tuple[Tensor, Tensor]:
        """Images (N, H, W, C) in uint8 and labels (N,) for a list of indices or of (index, epoch) pairs."""
        pairs = [(key, 0) if isinstance(key, int) else key for key in keys]
        indices = np.array([index for index, _ in pairs], dtype=np.int64)
        images = torch.from_numpy(self.arrays.images[indices])  # fancy indexing copies
        images = resize_batch(images, self.image_size, self.border)
        if self.augment is not None:
            images = torch.from_numpy(self.augment(images.numpy(), pairs))
        return images, torch.from_numpy(self.arrays.labels[indices])
