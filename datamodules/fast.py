"""The policies `flip_crop` and `affine` on a whole batch at once, without a Python step per image.

They do what the lists of the same name in `zoo.datamodules.policies` do, several times as fast. Drawing and applying
are separate functions, so that tests can give the same draws to albumentations.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch.nn import functional as F

from zoo.datamodules.augment import Images
from zoo.datamodules.policies import MAX_ROTATION, MAX_SHEAR, MAX_SHIFT, MAX_ZOOM, crop_padding
from zoo.datamodules.random_keys import Keys, Streams, open_streams, uniform

ImageBatch = npt.NDArray[np.uint8]  # (N, H, W, C)


class FastAugment:
    """The policies `flip_crop` and `affine` as an `Augment`.

    Args:
        policy: One of these two names.
        seed: The seed of the run.
        mirror: Whether mirroring is allowed.
    """

    whole = False

    def __init__(self, policy: str, *, seed: int, mirror: bool = True) -> None:
        assert policy in ("flip_crop", "affine"), policy
        self.policy: str | list[object] = policy
        self.seed = seed
        self.mirror = mirror

    def __call__(self, images: Images, keys: Keys) -> ImageBatch:
        """Change every image of a batch; see `Augment`."""
        assert isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.ndim == 4, type(images)
        assert images.shape[1] == images.shape[2], images.shape
        streams = open_streams(self.seed, keys)
        return affine(images, streams) if self.policy == "affine" else flip_crop(images, streams, mirror=self.mirror)


@dataclass(frozen=True)
class Crops:
    """Which window of each padded image is cut out.

    Attributes:
        top: First row of the window in the padded image, (N,).
        left: First column, (N,).
        mirrored: Whether left and right are exchanged afterwards, (N,).
    """

    top: npt.NDArray[np.int64]
    left: npt.NDArray[np.int64]
    mirrored: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Warps:
    """The parameters of an affine change of each image, all of shape (N,) or (N, 2) for x and y.

    Attributes:
        rotation: Degrees, anticlockwise.
        shift: Pixels, to the right and down.
        zoom: Factors of the width and of the height.
        shear: Degrees.
    """

    rotation: npt.NDArray[np.float64]
    shift: npt.NDArray[np.float64]
    zoom: npt.NDArray[np.float64]
    shear: npt.NDArray[np.float64]


def flip_crop(images: ImageBatch, streams: Streams, *, mirror: bool) -> ImageBatch:
    """Pad with black, cut a random window of the old size and mirror half of the images.

    Args:
        images: (N, S, S, C); left as they are.
        streams: (N,), from `random_keys.open_streams`.
        mirror: Whether mirroring is allowed.

    Returns:
        (N, S, S, C).
    """
    return crop(images, draw_crops(streams, images.shape[1], mirror=mirror))


def draw_crops(streams: Streams, size: int, *, mirror: bool) -> Crops:
    """Uniform places of the window, and a fair coin; the first three numbers of each stream."""
    numbers = uniform(streams, 3)
    offsets = (numbers[:, :2] * (2 * crop_padding(size) + 1)).astype(np.int64)
    return Crops(offsets[:, 0], offsets[:, 1], (numbers[:, 2] < 0.5) & mirror)


def crop(images: ImageBatch, crops: Crops) -> ImageBatch:
    """Pad the images, cut their windows and mirror some."""
    count, size, _, channels = images.shape
    padding = crop_padding(size)
    side = size + 2 * padding
    padded = np.zeros((count, side, side, channels), np.uint8)
    padded[:, padding:-padding, padding:-padding] = images
    # Channels within rows: every row of a window is then one block of memory.
    rows = padded.reshape(count, side, side * channels)
    windows = sliding_window_view(rows, (size, size * channels), axis=(1, 2))  # a view: (N, 2P+1, 2PC+1, S, SC)
    result: ImageBatch = windows[np.arange(count), crops.top, crops.left * channels].reshape(images.shape)
    which = np.flatnonzero(crops.mirrored)
    # torch mirrors four times as fast as a numpy slice with a negative step.
    result[which] = torch.from_numpy(result[which]).flip(2).numpy()
    return result


def affine(images: ImageBatch, streams: Streams) -> ImageBatch:
    """Rotate, shift, zoom and shear about the centre; what lies outside is black.

    Args:
        images: (N, S, S, C); left as they are.
        streams: (N,), from `random_keys.open_streams`.

    Returns:
        (N, S, S, C).
    """
    return warp(images, draw_warps(streams, images.shape[1]))


def draw_warps(streams: Streams, size: int) -> Warps:
    """Uniform parameters within the limits of the policy; the first seven numbers of each stream.

    Shifts are cut to whole pixels, as albumentations cuts them: below 13 pixels, 8 % is no shift.
    """
    numbers = uniform(streams, 7) * 2 - 1
    return Warps(
        rotation=numbers[:, 0] * MAX_ROTATION,
        shift=np.trunc(numbers[:, 1:3] * MAX_SHIFT * size),
        zoom=1 + numbers[:, 3:5] * MAX_ZOOM,
        shear=numbers[:, 5:7] * MAX_SHEAR,
    )


def warp(images: ImageBatch, warps: Warps) -> ImageBatch:
    """Apply the changes with bilinear interpolation."""
    grid = torch.from_numpy(_sources(warps, images.shape[1]))
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()  # (N, S, S, C) -> (N, C, S, S)
    changed = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    result: ImageBatch = changed.round_().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    return result


def _sources(warps: Warps, size: int) -> npt.NDArray[np.float32]:
    # Where each pixel of the result comes from, (N, S, S, 2) as x and y. In the coordinates of grid_sample, the image
    # reaches from -1 to 1, so that its centre, about which everything turns, is 0.
    centres = ((2 * np.arange(size) + 1) / size - 1).astype(np.float32)
    shift = (2 * warps.shift / size).astype(np.float32)
    columns = centres[None, None, :] - shift[:, 0, None, None]
    rows = centres[None, :, None] - shift[:, 1, None, None]
    inverse = _inverse(warps).astype(np.float32)[..., None, None]  # (N, 2, 2, 1, 1)
    grid = np.empty((len(shift), size, size, 2), np.float32)
    # Elementwise rather than a matrix product, whose last bit may depend on the number of images.
    for axis in (0, 1):
        grid[..., axis] = inverse[:, axis, 0] * columns + inverse[:, axis, 1] * rows
    return grid


def _inverse(warps: Warps) -> npt.NDArray[np.float64]:
    # Albumentations' order: first zoom, then rotation, then shear (the y axis points down), and the shift last.
    angle = np.deg2rad(warps.rotation)
    cos, sin = np.cos(angle), np.sin(angle)
    tilt_x, tilt_y = -np.tan(np.deg2rad(warps.shear)).T
    zoom_x, zoom_y = warps.zoom.T
    a, b = (cos - tilt_x * sin) * zoom_x, (sin + tilt_x * cos) * zoom_y
    c, d = (tilt_y * cos - sin) * zoom_x, (tilt_y * sin + cos) * zoom_y
    inverse = np.array([[d, -b], [-c, a]]) / (a * d - b * c)  # of [[a, b], [c, d]]; (2, 2, N)
    return np.moveaxis(inverse, -1, 0)
