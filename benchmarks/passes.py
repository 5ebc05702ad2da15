"""What the measures share: batches of a split, the network's answers to them, and modes that are put back."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.classifier import ImageClassifier
from zoo.datamodules import ImageDataModule

BATCH_SIZE = 256
"""Images of a pass: not the recipe's, which may be one image or all of them."""


@dataclass(frozen=True)
class Answers:
    """What a network says of the images of a split; on the CPU.

    Attributes:
        logits: float32, (N, num_classes).
        labels: int64, (N,).
    """

    logits: Tensor
    labels: Tensor

    @property
    def accuracy(self) -> float:
        """The share of the images whose largest logit is that of their class."""
        return share(self.logits.argmax(dim=1) == self.labels)

    @property
    def loss(self) -> float:
        """The mean cross-entropy in nats, whatever loss the network was trained with."""
        return float(F.cross_entropy(self.logits.double(), self.labels))


def run_seed() -> int:
    """The seed of the run, which all randomness of a measure is a function of."""
    return int(os.environ.get("PL_GLOBAL_SEED", "0"))


def share(is_right: Tensor) -> float:
    """The share of true values among (N,)."""
    return float(is_right.double().mean())


def finite(values: dict[str, float]) -> dict[str, float]:
    """Those of the values that are numbers: JSON has no others."""
    return {name: value for name, value in values.items() if isfinite(value)}


def or_none(values: list[float]) -> list[float | None]:
    """The values with None in the place of those that are no numbers."""
    return [value if isfinite(value) else None for value in values]


@contextmanager
def evaluating(model: ImageClassifier) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards each layer has its own mode again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, was_training in modes:
            module.training = was_training


def raw_batches(data: ImageDataModule, split: str, limit: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """The images of a split as they were before augmentation and normalisation, in order, each exactly once.

    Args:
        data: A data module that is set up.
        split: train, val or test.
        limit: Only so many of the first images; None is all.

    Yields:
        uint8 images (N, H, W, C) and labels (N,), `BATCH_SIZE` at a time.

    Raises:
        ValueError: There is no such split.
    """
    dataset = data.make_dataset(split)
    count = len(dataset) if limit is None else min(limit, len(dataset))
    for start in range(0, count, BATCH_SIZE):
        yield dataset[np.arange(start, min(start + BATCH_SIZE, count)), 0]


def prepare(model: ImageClassifier, data: ImageDataModule, images: Tensor) -> Tensor:
    """uint8 images (N, H, W, C) as the network takes them: (N, C, H, W), normalised, its device, its precision."""
    floats: Tensor = data.on_after_batch_transfer((images.to(model.device), images[:0]), 0)[0]
    return floats.to(model.dtype)


def batches(
    model: ImageClassifier, data: ImageDataModule, split: str, limit: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """`raw_batches`, prepared for the network, with the labels on its device."""
    for images, labels in raw_batches(data, split, limit):
        yield prepare(model, data, images), labels.to(model.device)


def answers(model: ImageClassifier, data: ImageDataModule, split: str) -> Answers:
    """The network's answers to all images of a split, in evaluation mode and without augmentation."""
    with evaluating(model):
        found = [(model(images).float().cpu(), labels.cpu()) for images, labels in batches(model, data, split)]
    logits, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Answers(logits, labels)
