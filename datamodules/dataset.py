"""What loaders read: images, or features of them, a batch at a time."""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from zoo.datamodules.arrays import Indices, Pixels, Split
from zoo.datamodules.augment import Augment
from zoo.datamodules.batch import Sizing
from zoo.datamodules.sampler import Batch


class ImageDataset(Dataset[tuple[Tensor, Tensor]]):
    """Images of a split, fetched a whole batch at a time.

    `dataset[rows, epoch]` is a batch, `dataset[row]` one image of epoch 0. A batch is indexed once and resized once.
    Augmentation sees a copy: the source never changes.

    Args:
        split: The images and labels.
        sizing: How they come to the size that is handed out.
        augment: What is done to the images of a training set; None for evaluation.
    """

    def __init__(self, split: Split, sizing: Sizing, augment: Augment | None = None) -> None:
        self.split = split
        self.sizing = sizing
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
        return self.sizing.finish(self.split.square(rows, self.sizing.side, self.sizing.interpolation))


class FeatureDataset(Dataset[tuple[Tensor, Tensor]]):
    """What a frozen network made of a split's images, in the place of the images.

    Args:
        split: The images; their labels are handed out.
        features: Floats, (N, D): row i belongs to image i of the split.

    Raises:
        ValueError: The features are not such, or not so many.
    """

    def __init__(self, split: Split, features: Tensor) -> None:
        if features.ndim != 2 or not features.is_floating_point() or len(features) != len(split):
            found = f"{tuple(features.shape)} of {str(features.dtype).removeprefix('torch.')}"
            raise ValueError(f"features must be floats, a row for each of the {len(split):,} images, not {found}")
        self.split = split
        self.features = features.detach().cpu()  # batches are made here, and moved to the device like images

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: Batch) -> tuple[Tensor, Tensor]:
        """Features (B, D) and labels (B,) of a batch; every epoch has the same."""
        rows = key[0] % len(self.split)  # as in `ImageDataset`
        return self.features[torch.from_numpy(rows)], torch.from_numpy(self.split.labels[rows])
