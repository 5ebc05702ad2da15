"""Blurs, warps and fog for batches of images: what `zoo.benchmarks.corruptions` makes its harder corruptions of.

All images are float32 (N, H, W, C) from 0 to 1, with H equal to W.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]


def blur_gaussian(images: Floats, sigma: float) -> Floats:
    """Gaussian blur with this deviation in pixels; edge pixels are repeated beyond the edge."""
    from scipy.ndimage import gaussian_filter

    blurred: Floats = gaussian_filter(images, sigma=(0, sigma, sigma, 0), mode="nearest")
    return blurred


def blur_disk(images: Floats, radius: float, sigma: float) -> Floats:
    """A lens out of focus: the mean over a disk of this radius (at most 2 pixels), smoothed over 3 x 3 pixels."""
    reach = np.arange(-3, 4)
    disk = ((reach[:, None] ** 2 + reach**2) <= radius**2).astype(np.float64)
    side = np.exp(-1 / (2 * sigma**2))
    smooth = np.array([side, 1, side]) / (1 + 2 * side)
    for _ in range(2):  # down, then across
        disk = np.apply_along_axis(np.convolve, 0, disk, smooth, mode="same").T
    kernel = (disk / disk.sum()).astype(np.float32)
    width, padded = images.shape[1], np.pad(images, ((0, 0), (3, 3), (3, 3), (0, 0)), mode="reflect")
    places = zip(*np.nonzero(kernel), strict=True)
    blurred: Floats = np.sum(
        [kernel[down, right] * padded[:, down : down + width, right : right + width] for down, right in places],
        axis=0,
        dtype=np.float32,
    )
    return blurred


def blur_motion(images: Floats, radius: int, sigma: float, angles: npt.NDArray[np.float64]) -> Floats:
    """A trail to one side of each pixel, as ImageMagick draws it: half a Gaussian on whole pixels along a line.

    Args:
        images: What is blurred.
        radius: The trail has 2 * radius + 1 pixels.
        sigma: Deviation of the Gaussian in pixels.
        angles: Of each image's line, in degrees: (N,).
    """
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    right, down = (
        np.ceil(steps * turn(np.deg2rad(angles))[:, None] - 0.5).astype(int) for turn in (np.cos, np.sin)
    )  # (N, steps) each
    side = images.shape[1]
    places, numbers = np.arange(side), np.arange(len(images))[:, None, None]
    blurred = np.zeros_like(images)
    for step in steps:
        rows = np.clip(places + down[:, step, None], 0, side - 1)  # (N, H)
        columns = np.clip(places + right[:, step, None], 0, side - 1)  # (N, W)
        blurred += np.float32(weights[step]) * images[numbers, rows[:, :, None], columns[:, None, :]]
    return blurred


def blur_zoom(images: Floats, factors: Sequence[float]) -> Floats:
    """The mean of the images and of their centres enlarged by each of the factors."""
    total = images.copy()
    for factor in factors:
        total += both_ways(images, enlarging(images.shape[1], factor))
    return total / np.float32(len(factors) + 1)


def enlarging(side: int, factor: float) -> Matrix:
    """The centre of `side` values, enlarged by linear interpolation, as a matrix (side, side)."""
    kept = int(np.ceil(side / factor))
    grown = round(kept * factor)  # at least `side`
    places = (side - kept) // 2 + (np.arange(side) + (grown - side) // 2) * (kept - 1) / max(1, grown - 1)
    weights: Matrix = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(side)))
    return weights


def both_ways(images: Floats, matrix: Matrix) -> Floats:
    """Apply a matrix (side, side) to the rows and to the columns of each image."""
    weights = matrix.astype(np.float32)
    applied: Floats = np.einsum("hy,wx,nyxc->nhwc", weights, weights, images, optimize=True)
    return applied


def shuffle_glass(images: Floats, rounds: int, random: np.random.Generator) -> Floats:
    """Pixels replaced, from the lower right, by one of the four at or to the upper left of them: frosted glass."""
    images, numbers, side = images.copy(), np.arange(len(images)), images.shape[1]
    for _ in range(rounds):
        steps = random.integers(0, 2, size=(2, side, side, len(images)))
        for row in range(side - 1, 1, -1):
            for column in range(side - 1, 1, -1):
                down, right = steps[:, row, column]
                images[:, row, column] = images[numbers, row - down, column - right]
    return images


def plasma(number: int, side: int, decay: float, random: np.random.Generator) -> Floats:
    """Clouds by the diamond-square algorithm, on a torus, each from 0 to 1: (N, side, side, 1).

    The random part of a point is uniform in plus or minus wibble squared; wibble starts at 100, and is divided by
    `decay` at each halving of the grid.
    """
    size = 1 << (side - 1).bit_length()
    maps, step, wibble = np.zeros((number, size, size)), size, 100.0
    while step >= 2:
        half = step // 2
        corners = maps[:, ::step, ::step]
        across = corners + np.roll(corners, -1, axis=1)
        maps[:, half::step, half::step] = _mean_of_four(across + np.roll(across, -1, axis=2), wibble, random)
        centres = maps[:, half::step, half::step]
        beside = centres + np.roll(centres, 1, axis=1) + corners + np.roll(corners, -1, axis=2)
        above = centres + np.roll(centres, 1, axis=2) + corners + np.roll(corners, -1, axis=1)
        maps[:, ::step, half::step] = _mean_of_four(beside, wibble, random)
        maps[:, half::step, ::step] = _mean_of_four(above, wibble, random)
        step, wibble = half, wibble / decay
    maps -= maps.min(axis=(1, 2), keepdims=True)
    maps /= maps.max(axis=(1, 2), keepdims=True)
    return maps[:, :side, :side, None].astype(np.float32)


def _mean_of_four(total: Matrix, wibble: float, random: np.random.Generator) -> Matrix:
    return total / 4 + random.uniform(-(wibble**2), wibble**2, total.shape)


def warp_affine(images: Floats, reach: float, random: np.random.Generator) -> Floats:
    """The plane turned, sheared and scaled so that three points of it move by up to `reach` pixels each way."""
    number, side = images.shape[:2]
    middle, away = side // 2, side // 3
    points = middle + away * np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    moved = points + random.uniform(-reach, reach, size=(number, 3, 2))
    # From each place of the new image to the place in the old: three points determine it.
    back = np.linalg.solve(
        np.concatenate([moved, np.ones((number, 3, 1))], axis=2), np.broadcast_to(points, moved.shape)
    )
    grid = np.ones((side, side, 3))
    grid[..., 0], grid[..., 1] = np.indices((side, side))
    places: Matrix = grid @ back[:, None]  # (N, H, W, 2)
    return sample(images, places[..., 0], places[..., 1])


def warp_elastic(images: Floats, strength: float, sigma: float, random: np.random.Generator) -> Floats:
    """Each pixel fetched from elsewhere: uniform random distances, smoothed by `sigma` pixels, times `strength`."""
    from scipy.ndimage import gaussian_filter

    number, side = images.shape[:2]
    noise = random.uniform(-1, 1, size=(2, number, side, side))
    down, right = strength * gaussian_filter(noise, sigma=(0, 0, sigma, sigma), mode="reflect", truncate=3)
    rows, columns = np.arange(side, dtype=np.float64)[:, None], np.arange(side, dtype=np.float64)
    return sample(images, rows + down, columns + right)


def sample(images: Floats, rows: Matrix, columns: Matrix) -> Floats:
    """The images at these places (N, H, W) between their pixels, bilinear, mirrored at the middle of edge pixels."""
    last, numbers = images.shape[1] - 1, np.arange(len(images))[:, None, None]
    rows, columns = (last - np.abs(last - np.abs(places) % (2 * last)) for places in (rows, columns))
    top, left = (np.minimum(places.astype(int), last - 1) for places in (rows, columns))
    down, right = ((places - start)[..., None].astype(np.float32) for places, start in ((rows, top), (columns, left)))
    upper = images[numbers, top, left] * (1 - right) + images[numbers, top, left + 1] * right
    lower = images[numbers, top + 1, left] * (1 - right) + images[numbers, top + 1, left + 1] * right
    between: Floats = upper * (1 - down) + lower * down
    return between
