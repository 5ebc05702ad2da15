"""Mean and standard deviation of training images, computed once and remembered."""

import hashlib
import json
from typing import Any

import numpy as np

from zoo.datamodules.arrays import Split
from zoo.datamodules.cache import cache_folder, write_json

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
IMAGENET: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""ImageNet's, as torchvision and timm use them with their weights."""
_CHUNK = 1024
_MOST = 60_000  # more change no digit that matters, and files that are not kept decoded are decoded again for it


def channel_statistics(split: Split, side: int, interpolation: str = "bilinear") -> Statistics:
    """Mean and standard deviation per channel of images scaled to 0..1, over all pixels.

    Of more than 60,000 images, as many are taken at equal distances.

    Args:
        split: The images.
        side: The size at which they are looked at.
        interpolation: How they come to it.

    Raises:
        ValueError: A channel is the same everywhere.
    """
    if len(split) > _MOST:
        split = split.take(np.linspace(0, len(split) - 1, _MOST).astype(np.int64))
    key = _fingerprint(split, side, interpolation)
    path = cache_folder() / "statistics" / f"{key}.json"
    if path.is_file():
        found = json.loads(path.read_text())
        return tuple(found["mean"]), tuple(found["std"])
    mean, std = _compute(split, side, interpolation)
    write_json(path, {"mean": mean, "std": std, "images": len(split), "side": side})
    return mean, std


def _compute(split: Split, side: int, interpolation: str) -> Statistics:
    # Sums of integers are exact: the result does not depend on the order or the size of the chunks.
    values = np.arange(256)
    total: Any = 0
    squares: Any = 0
    pixels = 0
    for start in range(0, len(split), _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(split)))
        images = split.square(rows, side, interpolation)
        # Counting each of the 256 values is several times as fast as summing squares of wide integers.
        counts = np.stack([np.bincount(images[..., c].ravel(), minlength=256) for c in range(images.shape[-1])])
        total, squares = total + counts @ values, squares + counts @ values**2
        pixels += images[..., 0].size
    mean = total / pixels
    std = np.sqrt(np.maximum(squares / pixels - mean**2, 0))
    if not std.all():
        raise ValueError(f"normalize is auto, but a channel of the {len(split)} training images is constant")
    return _rounded(mean), _rounded(std)


def _rounded(values: Any) -> tuple[float, ...]:
    return tuple(round(float(value) / 255, 6) for value in values)


def _fingerprint(split: Split, side: int, interpolation: str) -> str:
    digest = hashlib.sha256(f"{side} {len(split)}".encode())
    if interpolation != "bilinear":
        digest.update(interpolation.encode())
    digest.update(np.ascontiguousarray(split.positions).data)
    digest.update(split.source.fingerprint().encode())
    return digest.hexdigest()[:32]
