"""Synthetic images for trying things out: no file, any number of classes, any size, and still something to learn."""

from dataclasses import replace
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from zoo.datamodules.arrays import Arrays
from zoo.datamodules.base import ImageDataModule
from zoo.datamodules.checks import grey_or_colour, whole_number
from zoo.datamodules.options import DataOptions

LARGEST_NUMBER_OF_CLASSES = 1_000_000
_SEED = 20130814  # part of the definition of the dataset: the images do not depend on the seed of the run
_MEAN, _PATTERN_STD, _NOISE_STD = 0.5, 0.16, 0.12  # of images scaled to 0..1; together a deviation of 0.2


class Fake(ImageDataModule):
    """Synthetic images: a fixed smooth pattern per class, shifted at random, with noise.

    The images are the same in every run, made in the size asked for; a fifth as many again are the test set.

    Args:
        num_classes: How many classes there are.
        in_channels: 1 for grey images, 3 for colour.
        num_samples: Images for training and validation.
        **options: See `DataOptions`.
    """

    dataset = "fake"

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        num_samples: int = 2000,
        **options: Unpack[DataOptions],
    ) -> None:
        super().__init__(**options)
        whole_number("num_classes", num_classes, least=2, most=LARGEST_NUMBER_OF_CLASSES)
        grey_or_colour(in_channels)
        self.spec = replace(
            self.spec,
            class_names=tuple(str(label) for label in range(num_classes)),
            in_channels=in_channels,
            image_size=self.image_size,
            mean=(_MEAN,) * in_channels,
            std=(0.2,) * in_channels,
        )
        # One in ten is for validation, which needs an image of every class.
        self.num_samples = whole_number("num_samples", num_samples, least=10 * num_classes)

    def load_arrays(self) -> tuple[Arrays, Arrays]:
        """The images to learn from, and a fifth as many to test on."""
        patterns = np.stack([self._pattern(label) for label in range(self.num_classes)])
        test = max(self.num_classes, self.num_samples // 5)
        return self._draw(patterns, self.num_samples, 0), self._draw(patterns, test, 1)

    def arguments(self) -> dict[str, Any]:
        """What makes the same images; a size that was set later is part of the preprocessing."""
        names = ("num_classes", "in_channels", "num_samples")
        made = {name: getattr(self.spec if name != "num_samples" else self, name) for name in names}
        return {**super().arguments(), **made, "image_size": self.spec.image_size}

    def _pattern(self, label: int) -> npt.NDArray[np.float64]:
        """Waves of low frequency, so that the pattern continues over the edges: (H, W, C), mean 0, deviation 1."""
        random = np.random.default_rng((_SEED, label))
        side = np.arange(self.spec.image_size) / self.spec.image_size
        waves = np.zeros((len(side), len(side), self.in_channels))
        for down, right in ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0)):
            angle = 2 * np.pi * (down * side[:, np.newaxis] + right * side)[..., np.newaxis]
            height, phase = random.normal(size=self.in_channels), random.uniform(0, 2 * np.pi, self.in_channels)
            waves += height * np.cos(angle + phase)
        waves -= waves.mean(axis=(0, 1))
        pattern: npt.NDArray[np.float64] = waves / np.maximum(waves.std(axis=(0, 1)), 1e-9)
        return pattern

    def _draw(self, patterns: npt.NDArray[np.float64], count: int, part: int) -> Arrays:
        random = np.random.default_rng((_SEED, part, self.num_classes))
        labels = random.permutation(np.arange(count) % self.num_classes).astype(np.int64)
        reach = self.spec.image_size // 8
        shifts = random.integers(-reach, reach + 1, size=(count, 2))
        images = np.empty((count, *patterns.shape[1:]), dtype=np.uint8)
        for row, (label, shift) in enumerate(zip(labels, shifts, strict=True)):
            shifted = np.roll(patterns[label], tuple(shift), axis=(0, 1))
            noisy = _MEAN + _PATTERN_STD * shifted + random.normal(scale=_NOISE_STD, size=shifted.shape)
            images[row] = np.clip(np.rint(noisy * 255), 0, 255)
        return Arrays(images, labels)
