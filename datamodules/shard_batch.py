"""Samples of shards made into batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zoo.datamodules.arrays import Pixels
from zoo.datamodules.augment import Augment
from zoo.datamodules.batch import Sizing, squares
from zoo.datamodules.shard_read import Item

Batch = tuple[Tensor, Tensor, list[str]]
"""uint8 images (N, H, W, C), labels (N,), and a line for every sample that cannot be used."""


@dataclass(frozen=True)
class BatchMaker:
    """How samples become a batch.

    Attributes:
        in_channels: 1 for grey, 3 for colour.
        classes: The names of the classes in the shards.
        places: The label that the number of each class in use becomes.
        sizing: How images come to their size.
        augment: What is done to training images.
    """

    in_channels: int
    classes: tuple[str, ...]
    places: Mapping[int, int]
    sizing: Sizing
    augment: Augment | None = None

    def batch(self, items: Sequence[Item], epoch: int = 0, size: int = 0) -> Batch:
        """Decode and augment these samples.

        Args:
            items: The samples.
            epoch: The epoch that augmentation depends on.
            size: Samples that the batch must have: the first ones again if some are broken; 0: it has fewer then.
        """
        good, faults = list[tuple[Pixels, int, int]](), list[str]()
        for item in items:
            try:
                if isinstance(item, str):
                    raise ValueError(item)
                good.append((*item.decode(self.in_channels, self.classes), item.number))
            except ValueError as error:
                faults.append(str(error))
        if not good:
            side = self.sizing.image_size
            empty = np.zeros((0, side, side, self.in_channels), np.uint8)
            return torch.from_numpy(empty), torch.zeros(0, dtype=torch.int64), faults
        good = [good[place % len(good)] for place in range(size or len(good))]
        images = self._finish([image for image, _, _ in good], [(number, epoch) for _, _, number in good])
        return torch.from_numpy(images), torch.tensor([self.places[label] for _, label, _ in good]), faults

    def _finish(self, images: list[Pixels], keys: list[tuple[int, int]]) -> Pixels:
        if self.augment is not None and self.augment.whole:
            return self.augment(images, keys)
        finished = self.sizing.finish(squares(images, self.sizing.side, self.sizing.interpolation))
        return finished if self.augment is None else self.augment(finished, keys)
