"""The options that all DataModules share: their one list, which constructors and the command read."""

import difflib
import inspect
from collections.abc import Mapping
from typing import Any, Literal, TypedDict, cast

Normalize = Literal["spec", "auto", "imagenet"]
Sampling = Literal["shuffle", "balanced"]
Interpolation = Literal["bilinear", "bicubic"]
Policy = str | list[Any]


class DataOptions(TypedDict, total=False):
    """What every DataModule takes by keyword.

    Attributes:
        batch_size: Images per step over all devices together. 128 if not given.
        num_workers: Loader processes. If not given: none on one or two processors, else up to four; for image files
            that are not kept decoded as many as there are processors, up to eight.
        image_size: Side of the images in pixels. The dataset's own size if not given.
        crop: Part of an image's shorter side that is kept, above 0 and up to 1: that side is resized to image_size /
            crop pixels, and the centre is cut out. 1 if not given. Policies that cut images themselves ignore it.
        interpolation: How images are resized: bilinear or bicubic, both without aliasing. bilinear if not given.
        augment: Changes to training images: a policy by name, the path of a YAML file with albumentations transforms,
            or such a list. The dataset's own policy if not given. Digits are never mirrored by a named policy.
        val_size: Part of the training set that is held out for validation. 0.1 if not given.
        seed: Seed of the splits, the order and the augmentation. The run's seed if not given.
        normalize: Mean and deviation that images are normalised with: the published ones of the dataset (spec), those
            of its training images (auto), or ImageNet's (imagenet). spec if there are published ones, else auto.
        class_subset: Use these classes only, by name or number; they become the classes 0, 1, 2, ...
        train_fraction: Use this part of the training split, each class keeping its share.
        train_size: Use so many images of the training split, each class keeping its share.
        kfold: Cross-validation: cut the training set into so many parts; `fold` says which one is for validation.
        fold: The part for validation, from 0 to kfold - 1.
        permute_pixels: Seed of a fixed permutation of the pixel positions, the same for all images.
        sampler: shuffle visits every training image once an epoch; balanced shows all classes equally often.
        drop_last: Leave out the images of a last batch that is not full; with false they are a smaller batch.
    """

    batch_size: int | None
    num_workers: int | None
    image_size: int | None
    crop: float | None
    interpolation: Interpolation | None
    augment: Policy | None
    val_size: float | None
    seed: int | None
    normalize: Normalize | None
    class_subset: list[str | int] | None
    train_fraction: float | None
    train_size: int | None
    kfold: int | None
    fold: int | None
    permute_pixels: int | None
    sampler: Sampling | None
    drop_last: bool | None


def given_options(owner: type, options: Mapping[str, Any], known: type) -> dict[str, Any]:
    """Those of a DataModule's options that have a value; None means not given.

    Args:
        owner: The DataModule.
        options: What its constructor was called with.
        known: The TypedDict of its options.

    Raises:
        TypeError: It has no such option, which Python itself does not see where a constructor takes `**options`.
    """
    for name in options:
        if name not in known.__annotations__:
            own = inspect.signature(owner).parameters.keys() - {"options"}
            nearest = difflib.get_close_matches(name, [*own, *known.__annotations__], n=1)
            hint = f": did you mean {nearest[0]!r}?" if nearest else ""
            raise TypeError(f"{owner.__name__}() got an unexpected keyword argument {name!r}{hint}")
    return {name: value for name, value in options.items() if value is not None}


def shared_options(options: Mapping[str, Any]) -> DataOptions:
    """Those of a DataModule's options that all share."""
    return cast(DataOptions, {key: value for key, value in options.items() if key in DataOptions.__annotations__})
