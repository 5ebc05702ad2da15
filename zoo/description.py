"""What is written about a model beside its weights: plain values, which are checked before anything is made of them."""

import math
from collections.abc import Mapping
from types import UnionType
from typing import TYPE_CHECKING, Any

from lightning.pytorch.utilities import rank_zero_warn

from zoo._version import __version__

if TYPE_CHECKING:
    from zoo.classifier import ImageClassifier

Kind = type | UnionType
KEYS = ("name", "args", "recipe", "data")
_NUMBER = int | float
_KINDS: dict[str, Kind] = {"name": str, "args": dict, "recipe": dict, "data": dict}
_OPTIONAL: dict[str, Kind] = {"pretrained": str, "finetune": dict}
_OF_DATA: dict[str, Kind] = {"preprocessing": dict, "class_names": list, "args": dict, "name": str}
_OF_IMAGES: dict[str, Kind] = {"image_size": int, "in_channels": int, "border": int, "mean": list, "std": list}
_UNUSUAL: dict[str, Kind] = {"crop": _NUMBER, "interpolation": str, "permute_pixels": int}
_DEEPEST, _MOST = 20, 1_000_000
_LARGEST_IMAGE = 2**14


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


def wrong(path: object, what: object) -> ValueError:
    """The error that a file's description is not one; `what` is made one line of printable characters."""
    text = " ".join(str(what).split())
    return ValueError(f"'{path}' describes its model wrongly: {''.join(c if c.isprintable() else '?' for c in text)}")


def check_description(description: Mapping[str, Any], path: object) -> None:
    """Raise ValueError, with the file's name, unless every part of a description is of the kind that it has to be."""
    _check_plain(description, path)
    _check(description, _KINDS, path, required=True)
    _check(description, _OPTIONAL, path)
    for key in ("name", "pretrained"):
        if not description.get(key, "").isprintable():
            raise wrong(path, f"{key} is {description[key][:60]!r}, which no model can have")
    data = description["data"]
    _check(data, _OF_DATA, path)
    if data.get("preprocessing"):
        _check_preprocessing(data["preprocessing"], path)
    if not all(isinstance(name, str) for name in data.get("class_names", ())):
        raise wrong(path, "class_names are not all text")
    if "name" in data:
        _check(data, {"args": dict}, path, required=True)
    if "download" in data.get("args", {}):  # the user's to say
        raise wrong(path, "data.args has download, which is not about a model")


def check_like(values: Mapping[str, Any], usual: Mapping[str, Any], path: object) -> None:
    """Raise ValueError, with the file's name, unless settings have names of the usual ones, and values of their kinds.

    A whole number can stand for any number.
    """
    for name, value in values.items():
        if name not in usual:
            raise wrong(path, f"there is no {name}")
        kind = type(usual[name])
        _check({name: value}, {name: _NUMBER if kind is float else kind}, path)


def _check_plain(description: object, path: object) -> None:
    """Raise ValueError unless it is made of text, finite numbers, None, and lists and dictionaries of these.

    Lists that share parts or hold themselves make endless walks: only so many parts are looked at.
    """
    waiting, seen = [(description, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        seen += 1
        if depth > _DEEPEST or seen > _MOST:
            raise wrong(path, f"it has more than {_DEEPEST} levels or {_MOST:,} values")
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            waiting += [(part, depth + 1) for part in value.values()]
        elif isinstance(value, list | tuple):
            waiting += [(part, depth + 1) for part in value]
        elif isinstance(value, int | float) and not -(2**63) <= value < 2**63:  # nor nan
            raise wrong(path, "it has a number that is not finite, or too large")
        elif not isinstance(value, str | int | float | None):
            raise wrong(path, f"it has a {type(value).__name__}, which is no plain value")


def _check_preprocessing(facts: Mapping[str, Any], path: object) -> None:
    _check(facts, _OF_IMAGES, path, required=True)
    _check({name: value for name, value in facts.items() if value is not None}, _UNUSUAL, path)
    size, channels, border = (facts[name] for name in ("image_size", "in_channels", "border"))
    if not 1 <= size <= _LARGEST_IMAGE or not 0 <= 2 * border < size:
        raise wrong(path, f"images of {size} pixels with a border of {border}")
    for name in ("mean", "std"):
        values = facts[name]
        are_numbers = all(_is(value, _NUMBER) and math.isfinite(value) for value in values)
        if len(values) != channels or not are_numbers or (name == "std" and min(values) <= 0):
            raise wrong(path, f"{name} is {values!r:.60}, with {channels} channels")


def _check(part: Mapping[str, Any], kinds: Mapping[str, Kind], path: object, *, required: bool = False) -> None:
    for name, kind in kinds.items():
        if (required or name in part) and not _is(part.get(name), kind):
            readable = kind.__name__ if isinstance(kind, type) else "number"
            raise wrong(path, f"{name} is {part.get(name)!r:.60}, not a {readable}")


def _is(value: object, kind: Kind) -> bool:
    """Whether a value is of this kind; for Python, true and false are numbers too."""
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
