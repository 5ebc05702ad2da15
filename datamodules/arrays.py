"""Images that can be fetched by position: what a source has to offer, images in memory, and a view of some of them."""

import hashlib
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zoo.datamodules.batch import resize_batch

Pixels = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]


def a_few(count: int) -> Indices:
    """Up to 64 positions of so many, evenly spread."""
    return np.linspace(0, count - 1, min(64, count)).astype(np.int64)


class Source(Protocol):
    """Where images come from. Nothing that it returns may be a view of what it keeps."""

    def whole(self, positions: Indices) -> list[Pixels]:
        """Images as they are, each uint8 (H, W, C)."""

    def square(self, positions: Indices, side: int, interpolation: str = "bilinear") -> Pixels:
        """The images' centres with the shorter side resized to `side`: uint8 (N, side, side, C)."""

    def fingerprint(self) -> str:
        """A short text that is another one for other images."""

    def content(self) -> str:
        """The same for images that may have been moved to another place since."""


@dataclass(frozen=True)
class Arrays:
    """Images in memory with their labels.

    Attributes:
        images: uint8, (N, H, W, C).
        labels: int64, (N,).
    """

    images: Pixels
    labels: Indices
    _shared: Tensor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        assert self.images.dtype == np.uint8 and self.images.ndim == 4, (self.images.dtype, self.images.shape)
        assert self.labels.dtype == np.int64 and self.labels.shape == self.images.shape[:1], self.labels.shape

    def __len__(self) -> int:
        return len(self.labels)

    def __getstate__(self) -> dict[str, Any]:
        # Where loader processes are not forked, the images go to them through shared memory, all to one copy of them.
        if not hasattr(self, "_shared"):
            shared: Any = torch.from_numpy(self.images)
            object.__setattr__(self, "_shared", shared.share_memory_())
            object.__setattr__(self, "images", self._shared.numpy())
        return {"images": self._shared, "labels": self.labels}

    def __setstate__(self, state: dict[str, Any]) -> None:
        object.__setattr__(self, "images", state["images"].numpy())
        object.__setattr__(self, "labels", state["labels"])

    def whole(self, positions: Indices) -> list[Pixels]:
        """Copies of the images at these positions."""
        return list(self.images[positions])

    def square(self, positions: Indices, side: int, interpolation: str = "bilinear") -> Pixels:
        """The images at these positions, uint8 (N, side, side, C)."""
        pixels: Pixels = resize_batch(torch.from_numpy(self.images[positions]), side, interpolation).numpy()
        return pixels

    def fingerprint(self) -> str:
        """A hash of the images."""
        return hashlib.sha256(np.ascontiguousarray(self.images).data).hexdigest()

    def content(self) -> str:
        """A hash of the images."""
        return self.fingerprint()


@dataclass(frozen=True)
class Split:
    """Some images of a source, in an order: a view, no copy.

    Attributes:
        source: The images.
        positions: int64, (N,): where they are in the source.
        labels: int64, (N,).
    """

    source: Source
    positions: Indices
    labels: Indices

    @classmethod
    def of(cls, arrays: Arrays) -> "Split":
        """All of these images."""
        return cls(arrays, np.arange(len(arrays)), arrays.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def content(self) -> str:
        """A hash of which images these are, in which order and with which labels, wherever they lie."""
        digest = hashlib.sha256(self.source.content().encode())
        for numbers in (self.positions, self.labels):
            digest.update(np.ascontiguousarray(numbers).data)
        return digest.hexdigest()

    def take(self, rows: Indices) -> "Split":
        """The images in these rows."""
        return Split(self.source, self.positions[rows], self.labels[rows])

    def whole(self, rows: Indices) -> list[Pixels]:
        """The images in these rows as they are."""
        return self.source.whole(self.positions[rows])

    def square(self, rows: Indices, side: int, interpolation: str = "bilinear") -> Pixels:
        """The images in these rows, uint8 (N, side, side, C)."""
        return self.source.square(self.positions[rows], side, interpolation)
