"""The albumentations policies: the named ones, and the user's own, whose names and arguments are checked.

Both are lists of plain values, as in a YAML file. A step is the name of a transform, or a name with its arguments:

    - HorizontalFlip: {p: 0.5}
    - RandomBrightnessContrast
    - OneOf: {transforms: [GaussianBlur, {MotionBlur: {blur_limit: 5}}], p: 0.3}

This is the only module that knows albumentations.
"""

import difflib
import inspect
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.datamodules.registry import unknown

Steps = Sequence[object]

MAX_ROTATION = 10  # degrees
MAX_SHIFT = 0.08  # of the side
MAX_ZOOM = 0.1  # more or less than 1
MAX_SHEAR = 5  # degrees

GROUPS = ("OneOf", "SomeOf", "Sequential")
# Transforms that bring images of any size to a size of their own.
SIZING = {"RandomResizedCrop", "Resize", "SmallestMaxSize", "LongestMaxSize"}
_ON_DEVICE = "images stay uint8, and are normalised on the device after augmentation: leave it out"
REFUSED = dict.fromkeys(("Normalize", "ToTensorV2", "ToTensor3D", "ToFloat", "FromFloat"), _ON_DEVICE)


def crop_padding(size: int) -> int:
    """Width of the black border from which `flip_crop` cuts: an eighth of the side, 4 pixels for CIFAR."""
    return max(1, size // 8)


def named_steps(policy: str, *, image_size: int, in_channels: int, mirror: bool) -> list[object]:
    """The steps of a named policy.

    Args:
        policy: flip_crop, affine, color, strong or imagenet.
        image_size: The side of the images.
        in_channels: 1 or 3.
        mirror: Whether mirroring is allowed.
    """
    flip = [{"HorizontalFlip": {"p": 0.5}}] if mirror else []
    crop = [
        {"Pad": {"padding": crop_padding(image_size), "fill": 0}},
        {"RandomCrop": {"height": image_size, "width": image_size}},
    ]
    limits = {
        "rotate": [-MAX_ROTATION, MAX_ROTATION],
        "translate_percent": [-MAX_SHIFT, MAX_SHIFT],
        "scale": [1 - MAX_ZOOM, 1 + MAX_ZOOM],
        "shear": [-MAX_SHEAR, MAX_SHEAR],
    }
    affine = {"Affine": {**limits, "fill": 0, "p": 1.0}}
    shade = [0.8, 1.2]
    color: dict[str, dict[str, object]] = {
        "ColorJitter": {"brightness": shade, "contrast": shade, "saturation": shade, "hue": [-0.05, 0.05], "p": 1.0}
    }
    if in_channels == 1:
        color = {"RandomBrightnessContrast": {"brightness_limit": [-0.2, 0.2], "contrast_limit": [-0.2, 0.2], "p": 1.0}}
    side = [0.2, 0.4]
    patch = {
        "CoarseDropout": {
            "num_holes_range": [1, 1], "hole_height_range": side, "hole_width_range": side, "fill": 0, "p": 0.5
        }
    }  # fmt: skip
    cutout = {"RandomResizedCrop": {"size": [image_size, image_size], "scale": [0.08, 1.0], "ratio": [3 / 4, 4 / 3]}}
    policies: dict[str, list[object]] = {
        "flip_crop": [*crop, *flip],
        "affine": [affine],
        "color": [color],
        "strong": [*crop, *flip, affine, color, patch],
        "imagenet": [cutout, *flip],
    }
    return policies[policy]


def read_steps(path: str) -> list[object]:
    """The steps in a YAML file, checked.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds no list of steps.
    """
    import yaml

    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"augment {path!r}: there is no such file")
    try:
        steps = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(steps, list):
        raise ValueError(f"{path} must hold a list of transforms, '- HorizontalFlip: {{p: 0.5}}', not {steps!r:.60}")
    try:
        return check_steps(steps)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def check_steps(steps: Steps) -> list[object]:
    """A copy of the steps in lists, mappings, text and numbers alone, all names and arguments checked.

    Raises:
        ValueError: There are no steps, or one has an unknown name, an unknown argument or a wrong value.
    """
    if not steps:
        raise ValueError("the augmentation policy has no steps: use none to change nothing")
    copy = [_plain(step) for step in steps]
    build_compose(copy)
    return copy


def build_compose(steps: Steps) -> Any:
    """The albumentations `Compose` of a list of steps.

    Raises:
        ValueError: A step has an unknown name, an unknown argument or a wrong value.
    """
    # Without this, importing albumentations asks a web server for its newest version.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations
    import cv2

    cv2.setNumThreads(0)  # its threads compete with the loader's workers for tiny images
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # albumentations only warns of some wrong values, and then uses its defaults
        return albumentations.Compose([_build(albumentations, step) for step in steps])


def has_sizing(group: Any) -> bool:
    """Whether a transform of a `Compose`, or one within its groups, is in `SIZING`."""
    return any(
        has_sizing(transform) if type(transform).__name__ in GROUPS else type(transform).__name__ in SIZING
        for transform in group.transforms
    )


def try_compose(compose: Any, image: npt.NDArray[np.uint8]) -> None:
    """Run every transform on an image, also those that a policy applies seldom.

    Raises:
        ValueError: One fails, or does not return uint8 with as many channels.
    """
    for transform in compose.transforms:
        image = _try(transform, image)


def _try(transform: Any, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    name, shape = type(transform).__name__, "x".join(map(str, image.shape))
    if name in GROUPS:
        return _try_group(transform, image)
    try:
        result: npt.NDArray[np.uint8] = transform(image=image.copy(), force_apply=transform.p > 0)["image"]
    except Exception as error:  # albumentations and OpenCV raise many kinds
        raise ValueError(f"{name} fails on an image of {shape}: {_one_line(error)}") from None
    if result.dtype != np.uint8 or result.ndim != 3 or result.shape[2] != image.shape[2]:
        made = f"{result.dtype} {'x'.join(map(str, result.shape))}"
        raise ValueError(f"{name} turns uint8 {shape} into {made}: the type and the channels must stay")
    return result


def _try_group(group: Any, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    if type(group).__name__ == "Sequential":
        for transform in group.transforms:
            image = _try(transform, image)
        return image
    results = [_try(transform, image) for transform in group.transforms]
    return results[0]  # what follows sees one of them


def _build(library: Any, step: object) -> Any:
    name, arguments = _parse(step)
    kind = _kind(library, name)
    known = list(inspect.signature(kind).parameters)
    for argument in arguments:
        if argument not in known:  # albumentations only warns
            raise ValueError(unknown(f"argument of {name}", argument, known))
    if name in GROUPS:
        children = arguments.get("transforms")
        if not isinstance(children, list) or not children:
            raise ValueError(f"{name} needs a list of transforms, not {children!r}")
        arguments["transforms"] = [_build(library, child) for child in children]
    try:
        transform = kind(**arguments)
    except Exception as error:  # as above; and its warnings are errors here
        raise ValueError(f"{name}: {_one_line(error)}") from None
    if name in GROUPS and not (isinstance(transform.p, int | float) and 0 <= transform.p <= 1):
        raise ValueError(f"{name}: p must lie between 0 and 1, not {transform.p!r}")  # albumentations checks transforms
    return transform


def _parse(step: object) -> tuple[str, dict[str, Any]]:
    if isinstance(step, str):
        return step, {}
    if isinstance(step, Mapping) and len(step) == 1:
        [(name, arguments)] = step.items()
        if isinstance(name, str) and isinstance(arguments, Mapping | None):
            return name, {str(argument): value for argument, value in (arguments or {}).items()}
    raise ValueError(f"a step must be a name or 'Name: {{argument: value}}', not {step!r:.100}")


def _kind(library: Any, name: str) -> Any:
    if name in REFUSED:
        raise ValueError(f"{name} cannot be a step: {REFUSED[name]}")
    bases, volumes = (library.ImageOnlyTransform, library.DualTransform), library.Transform3D
    classes = {key: value for key, value in vars(library).items() if inspect.isclass(value)}
    kinds = {key: kind for key, kind in classes.items() if issubclass(kind, bases) and not issubclass(kind, volumes)}
    kinds |= {group: getattr(library, group) for group in GROUPS}
    if name not in kinds:
        nearest = difflib.get_close_matches(name, kinds, n=1, cutoff=0.0)[0]  # all hundred would fill the screen
        raise ValueError(
            f"unknown transform {name!r}: did you mean {nearest!r}? choose an image transform of albumentations"
        )
    return kinds[name]


def _plain(value: object) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise ValueError(f"a policy holds names, numbers, lists and mappings alone, not {value!r:.100}")


def _one_line(error: Exception) -> str:
    details = getattr(error.__cause__, "errors", None)  # pydantic's, whose text has a line per alternative type
    if details is None:
        return " ".join(str(error).split())
    first = details()[0]
    given = "" if first["type"] == "missing" else f", not {first['input']!r:.60}"
    return f"{first['loc'][0] if first['loc'] else 'arguments'}: {first['msg']}{given}"
