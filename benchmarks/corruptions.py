"""Corrupted images in the manner of CIFAR-10-C, made here from any test images.

D. Hendrycks, T. Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations, ICLR 2019,
arXiv:1903.12261. Kinds and severities are those of `make_cifar_c.py` in the repository hendrycks/robustness, which are
for 32-pixel images. What differs from the published files:

- they are not used: the random numbers are others, and follow from the seed of the run;
- snow and frost are left out (frost needs photographs that are not ours): 13 of the 15 kinds;
- values are rounded to uint8 once, at the end, and not cut off; fewer steps between are rounded;
- images are corrupted as the network sees them, at their final size, before normalisation: of another size than 32
  pixels, or with one channel, they have no published counterpart.
"""

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import numpy.typing as npt

from zoo.benchmarks import distort
from zoo.benchmarks.distort import Floats

Pixels = npt.NDArray[np.uint8]
Level = tuple[float, ...]
SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Corruption:
    """One kind of corruption.

    Args:
        function: Told images (N, H, W, C) from 0 to 1, one of the levels, and where random numbers come from.
        levels: What makes each of the five severities.
    """

    function: Callable[[Floats, Level, np.random.Generator], Floats]
    levels: tuple[Level, Level, Level, Level, Level]


def corrupt(images: Pixels, name: str, severity: int, random: np.random.Generator) -> Pixels:
    """Corrupted copies of images (N, H, W, C).

    Args:
        images: uint8.
        name: A name of `CORRUPTIONS`.
        severity: 1 to 5.
        random: Where random numbers come from.
    """
    kind = CORRUPTIONS[name]
    changed = kind.function(images.astype(np.float32) / np.float32(255), kind.levels[severity - 1], random)
    rounded: Pixels = np.rint(255 * np.clip(changed, 0, 1)).astype(np.uint8)
    return rounded


def _gaussian_noise(images: Floats, level: Level, random: np.random.Generator) -> Floats:
    return images + np.float32(level[0]) * random.standard_normal(images.shape, dtype=np.float32)


def _shot_noise(images: Floats, level: Level, random: np.random.Generator) -> Floats:
    photons = level[0]
    return (random.poisson(images * photons) / photons).astype(np.float32)


def _impulse_noise(images: Floats, level: Level, random: np.random.Generator) -> Floats:
    chance = random.random(images.shape, dtype=np.float32)
    extremes = (chance < level[0] / 2).astype(np.float32)  # half of what is hit is white, half is black
    hit: Floats = np.where(chance < level[0], extremes, images)
    return hit


def _defocus_blur(images: Floats, level: Level, _: np.random.Generator) -> Floats:
    return distort.blur_disk(images, *level)


def _glass_blur(images: Floats, level: Level, random: np.random.Generator) -> Floats:
    sigma, rounds = level
    shuffled = distort.shuffle_glass(distort.blur_gaussian(images, sigma), int(rounds), random)
    return distort.blur_gaussian(shuffled, sigma)


def _motion_blur(images: Floats, level: Level, random: np.random.Generator) -> Floats:
    radius, sigma = level
    return distort.blur_motion(images, int(radius), sigma, random.uniform(-45, 45, len(images)))


def _zoom_blur(images: Floats, level: Level, _: np.random.Generator) -> Floats:
    return distort.blur_zoom(images, [1 + step / 100 for step in range(int(level[0]))])


def _fog(images: Floats, level: Level, random: np.random.Generator) -> Floats:
    density, decay = level
    brightest = images.max(axis=(1, 2, 3), keepdims=True)
    clouds = np.float32(density) * distort.plasma(len(images), images.shape[1], decay, random)
    foggy: Floats = (images + clouds) * brightest / (brightest + np.float32(density))
    return foggy


def _brightness(images: Floats, level: Level, _: np.random.Generator) -> Floats:
    """A higher value in HSV: all channels grow by one factor, up to where the largest is 1."""
    value = images.max(axis=3, keepdims=True)
    brighter = np.minimum(value + np.float32(level[0]), 1)
    brightened: Floats = np.where(value > 0, images * brighter / np.where(value > 0, value, 1), brighter)
    return brightened


def _contrast(images: Floats, level: Level, _: np.random.Generator) -> Floats:
    means = images.mean(axis=(1, 2), keepdims=True)
    flattened: Floats = (images - means) * np.float32(level[0]) + means
    return flattened


def _elastic(images: Floats, level: Level, random: np.random.Generator) -> Floats:
    strength, sigma, reach = (images.shape[1] * part for part in level)
    return distort.warp_elastic(distort.warp_affine(images, reach, random), strength, sigma, random)


def _pixelate(images: Floats, level: Level, _: np.random.Generator) -> Floats:
    from PIL import Image

    # The weights of Pillow's box filter, down and up again, are what it makes of the rows of a unit matrix.
    side = images.shape[1]
    small = int(side * level[0])
    box = Image.Resampling.BOX
    down = Image.fromarray(np.eye(side, dtype=np.float32)).resize((side, small), box)
    return distort.both_ways(images, np.asarray(down.resize((side, side), box), dtype=np.float64))


def _jpeg(images: Floats, level: Level, _: np.random.Generator) -> Floats:
    from PIL import Image

    changed = np.empty_like(images)
    for number, pixels in enumerate(np.rint(255 * images).astype(np.uint8)):
        file = BytesIO()
        Image.fromarray(pixels.squeeze()).save(file, "JPEG", quality=int(level[0]))
        changed[number] = np.asarray(Image.open(file), dtype=np.float32).reshape(pixels.shape)
    return changed / np.float32(255)


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": Corruption(_gaussian_noise, ((0.04,), (0.06,), (0.08,), (0.09,), (0.10,))),
    "shot_noise": Corruption(_shot_noise, ((500,), (250,), (100,), (75,), (50,))),
    "impulse_noise": Corruption(_impulse_noise, ((0.01,), (0.02,), (0.03,), (0.05,), (0.07,))),
    "defocus_blur": Corruption(_defocus_blur, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))),
    "glass_blur": Corruption(_glass_blur, ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))),
    "motion_blur": Corruption(_motion_blur, ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))),
    "zoom_blur": Corruption(_zoom_blur, ((7,), (12,), (16,), (21,), (26,))),
    "fog": Corruption(_fog, ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))),
    "brightness": Corruption(_brightness, ((0.05,), (0.1,), (0.15,), (0.2,), (0.3,))),
    "contrast": Corruption(_contrast, ((0.75,), (0.5,), (0.4,), (0.3,), (0.15,))),
    "elastic": Corruption(
        _elastic, ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03))
    ),
    "pixelate": Corruption(_pixelate, ((0.95,), (0.9,), (0.85,), (0.75,), (0.65,))),
    "jpeg": Corruption(_jpeg, ((80,), (65,), (58,), (50,), (40,))),
}
"""In the order of the paper's Fig. 1: noise, blur, weather, digital."""
