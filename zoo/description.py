"""What a weights file says about its model: plain values, which are checked before anything is made of them."""

from collections.abc import Mapping
from typing import Any

KEYS = ("name", "args", "recipe", "data")
_KINDS: dict[str, type] = {"name": str, "args": dict, "recipe": dict, "data": dict}
_OPTIONAL: dict[str, type] = {"pretrained": str, "finetune": dict}
_OF_DATA: dict[str, type] = {"preprocessing": dict, "class_names": list, "args": dict, "name": str}
_OF_IMAGES: dict[str, type] = {"image_size": int, "in_channels": int, "border": int, "mean": list, "std": list}


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
