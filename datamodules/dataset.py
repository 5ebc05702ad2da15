"""The dataset that all loaders read: it hands out images a batch at a time."""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from zoo.datamodules.arrays import Indices, Pixels, Split
from zoo.datamodules.augment import Augment
from zoo.datamodules.batch import add_border
from zoo.datamodules.sampler import Batch


class ImageDataset(Dataset[tuple[Tensor, Tensor]]):
    """Images of a split, fetched a whole batch at a time.

    `dataset[rows, epoch]` is a batch, `dataset[row]` one image of epoch 0. A batch is indexed once and resized once.
    Augmentation sees a copy: the source never changes.

    Args:
        split: The images and labels.
        image_size: The side of the images handed out.
        border: Width of a black border that belongs to `image_size`.
        augment: What is done to the images of a training set; None for evaluation.
    """

    def __init__(self, split: Split, image_size: int, border: int = 0, augment: Augment | None = None) -> None:
        self.split = split
        self.image_size = image_size
        self.border = border
        self.augment = augment

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: Batch | int) -> tuple[Tensor, Tensor]:
        """uint8 images (N, H, W, C) and labels (N,) of a batch, or (H, W, C) and () of one image."""
        if isinstance(key, tuple):
            return self._batch(*key)
        images, labels = self._batch(np.array([key]), 0)
        return images[0], labels[0]

    def __getitems__(self, rows: list[int]) -> tuple[Tensor, Tensor]:
        """A batch of epoch 0: what other loaders than ours ask for."""
        return self._batch(np.array(rows), 0)

    def _batch(self, numbers: Indices, epoch: int) -> tuple[Tensor, Tensor]:
        # Beyond the last row they start again: the same images with other random changes (`balanced_order`).
        rows = numbers % len(self.split)
        images: Pixels
        if self.augment is None:
            images = self._square(rows)
        else:
            keys = np.stack([numbers, np.full(len(numbers), epoch)], axis=1)
            images = self.augment(self.split.whole(rows) if self.augment.whole else self._square(rows), keys)
        return torch.from_numpy(images), torch.from_numpy(self.split.labels[rows])

    def _square(self, rows: Indices) -> Pixels:
        return add_border(self.split.square(rows, self.image_size - 2 * self.border), self.border)
