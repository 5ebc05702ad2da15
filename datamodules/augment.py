"""Random changes to training images. The only module that knows albumentations.

Every image is changed by its own random stream, a function of (seed, epoch, index) and of nothing else. albumentations
2.0.8 by itself gives all loader workers the same stream and repeats it every epoch.
"""

import os
import random
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.datamodules.registry import unknown

POLICIES: dict[str, str] = {
    "none": "no change",
    "flip_crop": "pad by an eighth with black, cut a random square, mirror half of the images (He et al. 2016)",
    "affine": "rotate by up to 10 degrees, shift by up to 8 %, zoom by up to 10 %, shear by up to 5 degrees",
    "color": "brightness, contrast, saturation and hue; grey images: brightness and contrast",
    "strong": "flip_crop, affine and color, and one dark patch in half of the images",
    "imagenet": "cut out 8 to 100 % of the area, resize it, mirror half of the images (Szegedy et al. 2015)",
}


def check_policy(name: str) -> str:
    """Return the name if it is a policy.

    Raises:
        ValueError: It is not.
    """
    if name not in POLICIES:
        raise ValueError(unknown("augment", name, list(POLICIES)))
    return name


class Augment:
    """An augmentation policy whose result depends on (seed, epoch, index) alone.

    It does not matter which worker, device or process handles an image, nor how many images came before it.

    Args:
        policy: A name from `POLICIES` other than "none".
        seed: The seed of the run.
        image_size: The side of the images.
        in_channels: 1 or 3.
        mirror: Whether mirroring is allowed; a mirrored digit is no digit.
    """

    def __init__(self, policy: str, *, seed: int, image_size: int, in_channels: int, mirror: bool = True) -> None:
        self.seed = seed
        self.compose = _build(check_policy(policy), image_size, in_channels, mirror)

    def __call__(self, images: npt.NDArray[np.uint8], keys: Sequence[tuple[int, int]]) -> npt.NDArray[np.uint8]:
        """Change every image of a batch.

        Args:
            images: (N, H, W, C); left as they are.
            keys: The (index, epoch) of each image.
        """
        assert images.dtype == np.uint8 and images.ndim == 4, (images.dtype, images.shape)
        results = [self._change(image.copy(), index, epoch) for image, (index, epoch) in zip(images, keys, strict=True)]
        batch = np.stack(results)
        assert batch.dtype == np.uint8 and batch.shape == images.shape, (batch.dtype, batch.shape)
        return batch

    def _change(self, image: npt.NDArray[np.uint8], index: int, epoch: int) -> npt.NDArray[np.uint8]:
        seeds = np.random.SeedSequence((self.seed, epoch, index))
        stream = np.random.Generator(np.random.PCG64(seeds))
        # Five times as fast as set_random_seed, which builds both generators anew from a hash.
        self.compose.set_random_state(stream, random.Random(int(seeds.generate_state(1, np.uint64)[0])))
        changed: npt.NDArray[np.uint8] = self.compose(image=image)["image"]
        return changed


def build_augment(policy: str, *, seed: int, image_size: int, in_channels: int, mirror: bool = True) -> Augment | None:
    """The policy as a callable, or None for "none"."""
    if check_policy(policy) == "none":
        return None
    return Augment(policy, seed=seed, image_size=image_size, in_channels=in_channels, mirror=mirror)


def _build(policy: str, size: int, channels: int, mirror: bool) -> Any:
    # Without this, importing albumentations asks a web server for its newest version.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations
    import cv2

    cv2.setNumThreads(0)  # its threads compete with the loader's workers for tiny images
    with warnings.catch_warnings():
        # albumentations only warns of an argument that it does not know, and then uses its default.
        warnings.simplefilter("error")
        return albumentations.Compose(_transforms(albumentations, policy, size, channels, mirror))


def _transforms(library: Any, policy: str, size: int, channels: int, mirror: bool) -> list[Any]:
    flip = [library.HorizontalFlip(p=0.5)] if mirror else []
    crop = [library.Pad(padding=max(1, size // 8), fill=0), library.RandomCrop(size, size)]
    affine = library.Affine(
        rotate=(-10, 10), translate_percent=(-0.08, 0.08), scale=(0.9, 1.1), shear=(-5, 5), fill=0, p=1.0
    )
    if channels == 1:
        color = library.RandomBrightnessContrast(brightness_limit=(-0.2, 0.2), contrast_limit=(-0.2, 0.2), p=1.0)
    else:
        shade = (0.8, 1.2)
        color = library.ColorJitter(brightness=shade, contrast=shade, saturation=shade, hue=(-0.05, 0.05), p=1.0)
    patch = library.CoarseDropout(
        num_holes_range=(1, 1), hole_height_range=(0.2, 0.4), hole_width_range=(0.2, 0.4), fill=0, p=0.5
    )
    policies = {
        "flip_crop": [*crop, *flip],
        "affine": [affine],
        "color": [color],
        "strong": [*crop, *flip, affine, color, patch],
        "imagenet": [library.RandomResizedCrop((size, size), scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3)), *flip],
    }
    return policies[policy]
