"""What happens to a batch of images between the file and the network, the same in training, testing and prediction."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def resize_batch(images: Tensor, image_size: int, pad_to: int = 0) -> Tensor:
    """Bring a batch of images to a square size.

    Images that are smaller than `pad_to` are centred on black when that is the size asked for, as LeCun et al. 1998 did
    with MNIST. All others are interpolated: the shorter side becomes `image_size`, then the centre is cut out.

    Args:
        images: uint8, (N, H, W, C).
        image_size: The side wanted, in pixels.
        pad_to: The size that is reached by padding, or 0.

    Returns:
        uint8, (N, image_size, image_size, C); the images themselves if they had that size already.
    """
    height, width = images.shape[1:3]
    if (height, width) == (image_size, image_size):
        return images
    if image_size == pad_to and max(height, width) <= pad_to:
        return _pad(images, image_size)
    scale = image_size / min(height, width)
    # round() may fall one pixel short of the crop for extreme shapes, hence max().
    size = [max(image_size, round(height * scale)), max(image_size, round(width * scale))]
    pixels = images.permute(0, 3, 1, 2)  # (N, H, W, C) -> (N, C, H, W)
    pixels = F.interpolate(pixels, size=size, mode="bilinear", antialias=True)
    top, left = (size[0] - image_size) // 2, (size[1] - image_size) // 2
    pixels = pixels[:, :, top : top + image_size, left : left + image_size]
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


def _pad(images: Tensor, side: int) -> Tensor:
    height, width = images.shape[1:3]
    top, left = (side - height) // 2, (side - width) // 2
    return F.pad(images, (0, 0, left, side - width - left, top, side - height - top))
