"""What happens to a batch of images between the file and the network, the same in training, testing and prediction."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def resize_batch(images: Tensor, image_size: int, border: int = 0) -> Tensor:
    """Bring a batch of images to a square size.

    The shorter side is interpolated to `image_size` less the border, the centre is cut out, and the border is black.
    MNIST at 32 pixels has a border of 2, as LeCun et al. 1998 centre the 28 x 28 digit in a field of 32 x 32.

    Args:
        images: uint8, (N, H, W, C).
        image_size: The side wanted, in pixels.
        border: Width in pixels of the black border on each of the four sides.

    Returns:
        uint8, (N, image_size, image_size, C); the images themselves if they had that size already.
    """
    inner = image_size - 2 * border
    if images.shape[1:3] != (inner, inner):
        images = _interpolate(images, inner)
    return F.pad(images, (0, 0, border, border, border, border)) if border else images


def _interpolate(images: Tensor, side: int) -> Tensor:
    height, width = images.shape[1:3]
    scale = side / min(height, width)
    # round() may fall one pixel short of the crop for extreme shapes, hence max().
    size = [max(side, round(height * scale)), max(side, round(width * scale))]
    pixels = images.permute(0, 3, 1, 2)  # (N, H, W, C) -> (N, C, H, W)
    pixels = F.interpolate(pixels, size=size, mode="bilinear", antialias=True)
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
    # non_blocking: a blocking copy of these few numbers would wait for all work queued on a GPU, at every batch.
    shift = torch.tensor(mean).view(-1, 1, 1).to(images.device, non_blocking=True)
    scale = torch.tensor(std).view(-1, 1, 1).to(images.device, non_blocking=True)
    return images.permute(0, 3, 1, 2).to(torch.float32).div_(255).sub_(shift).div_(scale)


def normalize_first(batch: object, mean: Sequence[float], std: Sequence[float]) -> object:
    """Normalise the images of an `(images, anything)` batch; a batch that is floating already passes through."""
    if isinstance(batch, tuple | list) and len(batch) == 2:
        images, rest = batch
        if isinstance(images, Tensor) and images.dtype == torch.uint8:
            return normalize_batch(images, mean, std), rest
    return batch
