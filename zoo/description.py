"""What is written about a model beside its weights: plain values, which are checked before anything is made of them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lightning.pytorch.utilities import rank_zero_warn

from zoo._version import __version__

if TYPE_CHECKING:
    from zoo.classifier import ImageClassifier

KEYS = ("name", "args", "recipe", "data")
_KINDS: dict[str, type] = {"name": str, "args": dict, "recipe": dict, "data": dict}
_OPTIONAL: dict[str, type] = {"pretrained": str, "finetune": dict}
_OF_DATA: dict[str, type] = {"preprocessing": dict, "class_names": list, "args": dict, "name": str}
_OF_IMAGES: dict[str, type] = {"image_size": int, "in_channels": int, "border": int, "mean": list, "std": list}


def describe(model: "ImageClassifier") -> dict[str, Any]:
    """Name, arguments, recipe and data of a model, as plain values."""
    return {
        "name": type(model).__name__,
        "version": __version__,
        "args": {str(key): list(value) if isinstance(value, tuple) else value for key, value in model.hparams.items()},
        "recipe": model.recipe.as_dict(),
        "pretrained": model.pretrained,
        "finetune": model.finetune.as_dict(),
        "data": {**model.data, "preprocessing": model.preprocessing, "class_names": model.class_names},
    }


def warn_of_difference(expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Warn where images are prepared in another way than those that the weights were trained on."""
    keys = ("image_size", "border", "mean", "std")
    if differing := [key for key in keys if expected and expected[key] != found[key]]:
        what = ", ".join(f"{key} is {found[key]} and was {expected[key]}" for key in differing)
        how = "data.use_preprocessing(model.preprocessing) before the run prepares them alike"
        rank_zero_warn(f"images are not prepared as those that the weights were trained on: {what}. {how}")


def is_ours(description: object) -> bool:
    """Whether this is a description that this package could have written."""
    return isinstance(description, dict) and description.keys() >= set(KEYS)


def check_description(description: Mapping[str, Any], path: object) -> None:
    """Raise ValueError, with the file's name, unless every part of a description is of the kind that it has to be."""
    _check(description, _KINDS, path, required=True)
    _check(description, _OPTIONAL, path)
    data = description["data"]
    _check(data, _OF_DATA, path)
    if data.get("preprocessing"):
        _check(data["preprocessing"], _OF_IMAGES, path, required=True)
    if not all(isinstance(name, str) for name in data.get("class_names", ())):
        raise ValueError(f"'{path}' describes its model wrongly: class_names are not all text")


def _check(part: Mapping[str, Any], kinds: Mapping[str, type], path: object, *, required: bool = False) -> None:
    for name, kind in kinds.items():
        if (required or name in part) and not isinstance(part.get(name), kind):
            found = repr(part.get(name))[:60]
            raise ValueError(f"'{path}' describes its model wrongly: {name} is {found}, not a {kind.__name__}")
