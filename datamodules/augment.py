"""Random changes to training images.

Every image is changed by its own random stream, a function of (seed, epoch, index) and of nothing else: not of the
other images of a batch, nor of the worker, nor of any global random state, which is left as it was.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from zoo.datamodules.policies import Steps, build_compose, check_steps, has_sizing, named_steps, read_steps, try_compose
from zoo.datamodules.random_keys import Keys, bits, open_streams
from zoo.datamodules.registry import unknown

POLICIES: dict[str, str] = {
    "none": "no change",
    "flip_crop": "pad by an eighth with black, cut a random square, mirror half of the images (He et al. 2016)",
    "affine": "rotate by up to 10 degrees, shift by up to 8 %, zoom by up to 10 %, shear by up to 5 degrees",
    "color": "brightness, contrast, saturation and hue; grey images: brightness and contrast",
    "strong": "flip_crop, affine and color, and one dark patch in half of the images",
    "imagenet": "cut out 8 to 100 % of the area, resize it, mirror half of the images (Szegedy et al. 2015)",
    "randaugment": "flip_crop, then 2 random changes of magnitude 9 of 30 (Cubuk et al. 2020)",
    "trivialaugment": "flip_crop, then 1 random change of random magnitude (Müller & Hutter 2021)",
    "autoaugment": "flip_crop, then the policy found on CIFAR-10, above 64 pixels on ImageNet (Cubuk et al. 2019)",
    "augmix": "flip_crop, then a mix of 3 chains of random changes with the image (Hendrycks et al. 2020)",
}
SMALL = 64  # pixels: up to this side, `affine` is faster on a whole batch; above, OpenCV is faster image by image
_TORCHVISION = ("randaugment", "trivialaugment", "autoaugment", "augmix")

Images = npt.NDArray[np.uint8] | Sequence[npt.NDArray[np.uint8]]  # (N, H, W, C), or N times (H, W, C)


class Augment(Protocol):
    """An augmentation policy whose result depends on (seed, epoch, index) alone.

    Attributes:
        policy: The name of the policy, or the steps of a user's own: what a checkpoint needs to build it again.
        whole: Whether it wants images as they are in their files, because it brings them to size by itself. Then a
            list of images of any size will do; otherwise all must be squares of the side wanted.
    """

    policy: str | list[object]
    whole: bool

    def __call__(self, images: Images, keys: Keys) -> npt.NDArray[np.uint8]:
        """Change every image of a batch.

        Args:
            images: uint8, (N, H, W, C); left as they are.
            keys: The (index, epoch) of each image.

        Returns:
            (N, image_size, image_size, C).
        """


def check_policy(name: str) -> str:
    """Return the name if it is a policy.

    Raises:
        ValueError: It is not.
    """
    if name not in POLICIES:
        raise ValueError(f"{unknown('augment', name, list(POLICIES))}, or give a .yaml file with your own")
    return name


def resolve_policy(augment: str | Steps) -> str | list[object]:
    """What a policy is called, or the steps of one that has no name: plain values, no longer a path.

    Args:
        augment: A name from `POLICIES`, the path of a .yaml file, or what such a file holds: a list of albumentations
            transforms, each a name or a name with its arguments (see `zoo.datamodules.policies`).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The name is unknown, or a step is wrong.
    """
    if not isinstance(augment, str):
        return check_steps(augment)
    if augment.endswith((".yaml", ".yml")):
        return read_steps(augment)
    return check_policy(augment)


def build_augment(
    policy: str | Steps, *, seed: int, image_size: int, in_channels: int, mirror: bool = True
) -> Augment | None:
    """The policy as a callable, or None for "none".

    Args:
        policy: A name, a path or a list, as `resolve_policy` takes them.
        seed: The seed of the run.
        image_size: The side of the images.
        in_channels: 1 or 3.
        mirror: Whether a named policy may mirror; a mirrored digit is no digit. A user's own list is done as written.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The policy is unknown or wrong, or does not work on images of this size and so many channels.
    """
    policy = resolve_policy(policy)
    if policy == "none":
        return None
    if policy == "flip_crop" or (policy == "affine" and image_size <= SMALL):
        from zoo.datamodules.fast import FastAugment  # imports torch

        return FastAugment(policy, seed=seed, mirror=mirror)
    if policy in _TORCHVISION:
        return TorchvisionAugment(policy, seed=seed, image_size=image_size, mirror=mirror)
    return AlbumentationsAugment(policy, seed=seed, image_size=image_size, in_channels=in_channels, mirror=mirror)


class TorchvisionAugment:
    """A learned or random policy of torchvision, after `flip_crop`.

    Settings are torchvision's defaults, and what its changes move in is black. Left out of the papers' training are
    Cutout on CIFAR (AutoAugment, RandAugment, TrivialAugment), the crop of ImageNet, which is `flip_crop` here too, and
    the consistency loss (AugMix). None of the four mirrors by itself, so that `mirror` holds. For digits some are harsh
    all the same: AutoAugment inverts a few images, and TrivialAugment turns some by up to 135 degrees.

    Args:
        policy: randaugment, trivialaugment, autoaugment or augmix.
        seed: The seed of the run.
        image_size: The side of the images.
        mirror: Whether `flip_crop` may mirror.
    """

    whole = False

    def __init__(self, policy: str, *, seed: int, image_size: int, mirror: bool = True) -> None:
        from zoo.datamodules.fast import FastAugment

        self.policy: str | list[object] = policy
        self.seed = seed
        self.transform = _torchvision_transform(policy, image_size)
        self._start = FastAugment("flip_crop", seed=seed, mirror=mirror)

    def __call__(self, images: Images, keys: Keys) -> npt.NDArray[np.uint8]:
        """Change every image of a batch; see `Augment`."""
        import torch

        pixels = torch.from_numpy(self._start(images, keys)).permute(0, 3, 1, 2).contiguous()  # (N, C, H, W)
        # flip_crop uses the first three numbers of each stream. torch's generator takes no more than 32 bits.
        seeds = (bits(open_streams(self.seed, keys), 4)[:, 3] >> np.uint64(32)).tolist()
        generator = torch.default_generator  # the only source of random numbers in torchvision's policies
        state = generator.get_state()
        try:
            changed = torch.stack(
                [self._apply(generator, seed, image) for seed, image in zip(seeds, pixels, strict=True)]
            )
        finally:
            generator.set_state(state)
        result: npt.NDArray[np.uint8] = changed.permute(0, 2, 3, 1).contiguous().numpy()
        return result

    def _apply(self, generator: Any, seed: int, image: Any) -> Any:
        generator.manual_seed(seed)
        return self.transform(image)


class AlbumentationsAugment:
    """A list of albumentations transforms, image by image.

    Albumentations 2.0.8 by itself gives all loader workers the same random stream and repeats it every epoch; here both
    of its generators start anew at every image. A result that has not the size wanted is brought to it as images are
    that come from files: the shorter side is interpolated, and the centre is cut out.

    Args:
        policy: flip_crop, affine, color, strong, imagenet, or a list of steps.
        seed: The seed of the run.
        image_size: The side of the images.
        in_channels: 1 or 3.
        mirror: Whether a named policy may mirror.

    Raises:
        ValueError: A step of the list is wrong, or fails on images of this size and so many channels.
    """

    def __init__(
        self, policy: str | list[object], *, seed: int, image_size: int, in_channels: int, mirror: bool = True
    ) -> None:
        self.policy = policy
        self.seed = seed
        self.image_size = image_size
        steps = policy
        if isinstance(steps, str):
            steps = named_steps(steps, image_size=image_size, in_channels=in_channels, mirror=mirror)
        self.compose = build_compose(steps)
        self.whole = has_sizing(self.compose)
        self._generator = np.random.Generator(np.random.PCG64(0))
        self._random = random.Random(0)
        if not isinstance(policy, str):
            self._try(in_channels)

    def __call__(self, images: Images, keys: Keys) -> npt.NDArray[np.uint8]:
        """Change every image of a batch; see `Augment`."""
        self.compose.set_random_state(self._generator, self._random)
        numbers = bits(open_streams(self.seed, keys), 5).tolist()
        return np.stack([self._change(image, *draws) for image, draws in zip(images, numbers, strict=True)])

    def _change(self, image: npt.NDArray[np.uint8], *draws: int) -> npt.NDArray[np.uint8]:
        assert image.dtype == np.uint8 and image.ndim == 3, (image.dtype, image.shape)
        self._restart(*draws)
        changed: npt.NDArray[np.uint8] = self.compose(image=image.copy())["image"]
        side = self.image_size
        return changed if changed.shape[:2] == (side, side) else _resized(changed, side)

    def _restart(self, high: int, low: int, sequence_high: int, sequence_low: int, seed: int) -> None:
        # Three times as fast as making the generators anew from a SeedSequence. The increment of PCG64 must be odd.
        state = {"state": high << 64 | low, "inc": sequence_high << 64 | sequence_low | 1}
        self._generator.bit_generator.state = {"bit_generator": "PCG64", "state": state, "has_uint32": 0, "uinteger": 0}
        self._random.seed(seed)

    def _try(self, channels: int) -> None:
        side = self.image_size
        shapes = [(side, side), (2 * side, 3 * side)] if self.whole else [(side, side)]
        for shape in shapes:
            self.compose.set_random_seed(0)
            try_compose(self.compose, np.random.default_rng(0).integers(0, 256, (*shape, channels), dtype=np.uint8))


def _resized(image: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    import torch

    from zoo.datamodules.batch import resize_batch

    result: npt.NDArray[np.uint8] = resize_batch(torch.from_numpy(np.ascontiguousarray(image[None])), side)[0].numpy()
    return result


def _torchvision_transform(policy: str, image_size: int) -> Callable[[Any], Any]:
    from torchvision.transforms import v2

    found_on = v2.AutoAugmentPolicy.CIFAR10 if image_size <= 64 else v2.AutoAugmentPolicy.IMAGENET
    transforms: dict[str, Callable[[Any], Any]] = {
        "randaugment": v2.RandAugment(num_ops=2, magnitude=9),
        "trivialaugment": v2.TrivialAugmentWide(),
        "autoaugment": v2.AutoAugment(found_on),
        "augmix": v2.AugMix(),
    }
    return transforms[policy]
