"""What happens to a batch of images between the file and the network, the same in training, testing and prediction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.datamodules.checks import choice

INTERPOLATIONS = ("bilinear", "bicubic")
_USUAL = {"crop": 1.0, "interpolation": "bilinear"}


@dataclass(frozen=True)
class Sizing:
    """How an image comes to the size that a network takes.

    The shorter side is interpolated to `side` pixels, the centre of `inner` x `inner` pixels is cut out, and a black
    border is put around it. MNIST at 32 pixels has a border of 2, as LeCun et al. 1998 centre the 28 x 28 digit in a
    field of 32 x 32. Weights for ImageNet often have a crop of 0.875: 224 of 256 pixels (Krizhevsky et al. 2012).

    Attributes:
        image_size: The side that comes out, in pixels.
        border: Width in pixels of the black border on each of the four sides; it belongs to `image_size`.
        crop: Part of the resized image's side that is kept: above 0, at most 1.
        interpolation: bilinear or bicubic, both with antialiasing.
    """

    image_size: int
    border: int = 0
    crop: float = 1.0
    interpolation: str = "bilinear"

    @classmethod
    def of(cls, preprocessing: Mapping[str, Any]) -> "Sizing":
        """What `ImageDataModule.preprocessing` says about it.

        Raises:
            ValueError: The crop or the interpolation is none.
        """
        return cls(preprocessing["image_size"], preprocessing["border"], *crop_and_interpolation(preprocessing))

    @property
    def inner(self) -> int:
        """The side of what is cut out, in pixels."""
        return self.image_size - 2 * self.border

    @property
    def side(self) -> int:
        """The side that images are resized to, in pixels."""
        return round(self.inner / self.crop)

    def finish(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Cut the centre out of squares (N, side, side, C) and add the border: (N, image_size, image_size, C)."""
        return add_border(cut_centre(images, self.inner), self.border)

    def unusual(self) -> dict[str, Any]:
        """Crop and interpolation, as far as they are not the usual ones."""
        return {name: getattr(self, name) for name, usual in _USUAL.items() if getattr(self, name) != usual}


def crop_and_interpolation(chosen: Mapping[str, Any]) -> tuple[float, str]:
    """These two of someone's choices, or the usual ones: 1.0 and bilinear.

    Raises:
        ValueError: They are not as `Sizing` says.
    """
    crop, interpolation = (chosen.get(name, usual) for name, usual in _USUAL.items())
    if isinstance(crop, bool) or not isinstance(crop, int | float) or not 0 < crop <= 1:
        raise ValueError(f"crop must be above 0 and at most 1, for example 0.875, not {crop!r}")
    return float(crop), choice("interpolation", interpolation, INTERPOLATIONS)


def resize_batch(images: Tensor, side: int, interpolation: str = "bilinear") -> Tensor:
    """Bring a batch of images to a square size: the shorter side is interpolated to it, and the centre is cut out.

    Args:
        images: uint8, (N, H, W, C).
        side: The side wanted, in pixels.
        interpolation: bilinear or bicubic.

    Returns:
        uint8, (N, side, side, C); the images themselves if they had that size already.
    """
    return images if images.shape[1:3] == (side, side) else _interpolate(images, side, interpolation)


def squares(
    images: Sequence[npt.NDArray[np.uint8]], side: int, interpolation: str = "bilinear"
) -> npt.NDArray[np.uint8]:
    """`resize_batch` for images (H, W, C) of any sizes: (N, side, side, C)."""
    if len({image.shape for image in images}) == 1:
        return resize_batch(torch.from_numpy(np.stack(images)), side, interpolation).numpy()
    parts = [resize_batch(torch.from_numpy(image[None]), side, interpolation).numpy() for image in images]
    return np.concatenate(parts)


def cut_centre(images: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """The centres (N, side, side, C) of images (N, H, W, C) that are at least as large; as they are if not larger."""
    height, width = images.shape[1:3]
    if (height, width) == (side, side):
        return images
    top, left = round((height - side) / 2), round((width - side) / 2)  # as torchvision and timm round it
    return np.ascontiguousarray(images[:, top : top + side, left : left + side])


def add_border(images: npt.NDArray[np.uint8], border: int) -> npt.NDArray[np.uint8]:
    """The images (N, H, W, C) with a black border of so many pixels; the images themselves if it is 0."""
    if border == 0:
        return images
    count, height, width, channels = images.shape
    result = np.zeros((count, height + 2 * border, width + 2 * border, channels), dtype=np.uint8)
    result[:, border:-border, border:-border] = images
    return result


def _interpolate(images: Tensor, side: int, interpolation: str) -> Tensor:
    height, width = images.shape[1:3]
    scale = side / min(height, width)
    # round() may fall one pixel short of the crop for extreme shapes, hence max().
    size = [max(side, round(height * scale)), max(side, round(width * scale))]
    pixels = images.permute(0, 3, 1, 2)  # (N, H, W, C) -> (N, C, H, W)
    pixels = F.interpolate(pixels, size=size, mode=interpolation, antialias=True)
    top, left = (size[0] - side) // 2, (size[1] - side) // 2
    pixels = pixels[:, :, top : top + side, left : left + side]
    return pixels.permute(0, 2, 3, 1).contiguous()  # (N, C, H, W) -> (N, H, W, C)


def normalize_batch(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Turn uint8 images into what a network takes: float, channels first, mean 0 and standard deviation 1.

    Args:
        images: uint8, (N, H, W, C).
        mean: Mean per channel of images scaled to 0..1.
        std: Standard deviation per channel of images scaled to 0..1.

    Returns:
        float32, (N, C, H, W), on the same device; the memory stays in channels-last order.
    """
    if not len(mean) == len(std) == images.shape[-1]:
        raise ValueError(f"images of {images.shape[-1]} channels need as many means, not {len(mean)} and {len(std)}")
    scale, shift = _scale_and_shift(tuple(mean), tuple(std), images.shape[2], images.device)
    # Rows of pixels, (N, H, W * C): five times as fast as numbers that change with every value.
    floats = images.flatten(2).to(torch.float32).mul_(scale).add_(shift)
    return floats.view(images.shape).permute(0, 3, 1, 2)


def for_channels(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """A mean or a deviation per channel, for images of so many: grey from colour is the average, colour is repeated."""
    return tuple(values) if len(values) == channels else (fmean(values),) * channels


@lru_cache(maxsize=8)
def _scale_and_shift(
    mean: tuple[float, ...], std: tuple[float, ...], width: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """(x / 255 - mean) / std as one multiplication and one addition, for a row of pixels: (W * C,) each."""
    means, deviations = (torch.tensor(values, dtype=torch.float64).repeat(width) for values in (mean, std))
    return (1 / (255 * deviations)).float().to(device), (-means / deviations).float().to(device)


def permute_pixels(images: Tensor, seed: int) -> Tensor:
    """Move the pixels of every image to other places, always the same: the permuted-MNIST task.

    Args:
        images: (N, C, H, W).
        seed: Which of the permutations of the H * W places.
    """
    order = _permutation(images.shape[-2] * images.shape[-1], seed, images.device)
    return images.flatten(2)[:, :, order].view(images.shape)


@lru_cache(maxsize=8)
def _permutation(places: int, seed: int, device: torch.device) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).permutation(places)).to(device)


def prepare_batch(batch: object, preprocessing: Mapping[str, Any]) -> object:
    """Make floats of the images of an `(images, anything)` batch; a batch that is floating already passes through.

    Args:
        batch: uint8 images (N, H, W, C), and what comes with them.
        preprocessing: What `ImageDataModule.describe` says under that name.
    """
    if isinstance(batch, tuple | list) and len(batch) == 2:
        images, rest = batch
        if isinstance(images, Tensor) and images.dtype == torch.uint8:
            images = normalize_batch(images, preprocessing["mean"], preprocessing["std"])
            seed = preprocessing.get("permute_pixels")
            return (images if seed is None else permute_pixels(images, seed)), rest
    return batch
