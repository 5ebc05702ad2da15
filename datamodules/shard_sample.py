"""A sample of a shard: which of its members is the image, what its label says, how it becomes pixels."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zoo.datamodules.arrays import Pixels
from zoo.datamodules.decode import read_image_bytes
from zoo.datamodules.layout import SUFFIXES, shown

Label = int | str  # a number, or the name of a class


@dataclass(frozen=True)
class Sample:
    """An image with its label, as they are stored.

    Attributes:
        name: What errors call it: the shard and the key.
        number: `key_number` of its key.
        image: The bytes of the image file.
        label: What its .cls or .json says.
    """

    name: str
    number: int
    image: bytes
    label: Label

    @classmethod
    def of(cls, members: dict[str, Any], shard: str) -> "Sample":
        """The sample that the library webdataset made of members with a common name.

        Raises:
            ValueError: It has no image or no label.
        """
        name = f"{shown(shard)}, {shown(members['__key__'])}"
        try:
            image, member = image_member(members), label_member(members)
            label = read_label(member, members[member])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        return cls(name, key_number(members["__key__"]), members[image], label)

    def decode(self, in_channels: int, classes: Sequence[str]) -> tuple[Pixels, int]:
        """The image, uint8 (H, W, C), and the number of its class.

        Raises:
            ValueError: The image is broken, or there is no such class.
        """
        try:
            label = label_number(self.label, classes)
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from None
        return read_image_bytes(self.image, self.name, in_channels), label


def key_number(key: str) -> int:
    """A number from 0 to 2**64 - 1 that stands for the key of a sample wherever random numbers depend on it."""
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big")


def image_member(sample: dict[str, Any]) -> str:
    """Which member of a sample is the image.

    Raises:
        ValueError: None is, or several are.
    """
    members = [name for name in sample if not name.startswith("__")]
    images = [name for name in members if f".{name}" in SUFFIXES]
    if len(images) != 1:
        raise ValueError(f"{'several images' if images else 'no image'} among its members {', '.join(members)}")
    return images[0]


def label_member(sample: dict[str, Any]) -> str:
    """Which member of a sample is the label.

    Raises:
        ValueError: None is.
    """
    for name in ("cls", "json"):
        if name in sample:
            return name
    members = ", ".join(name for name in sample if not name.startswith("__"))
    raise ValueError(f"no label: .cls or .json is missing beside {members}")


def read_label(member: str, content: bytes) -> Label:
    """The label that a member holds.

    Raises:
        ValueError: It holds none.
    """
    text = content.decode("utf-8", "replace").strip()
    if member == "cls":
        return int(text) if re.fullmatch(r"-?\d{1,18}", text) else text
    try:
        found = json.loads(text)
    except ValueError:
        raise ValueError("its .json is not valid") from None
    label = found.get("label") if isinstance(found, dict) else None
    if isinstance(label, bool) or not isinstance(label, int | str):
        raise ValueError('its .json has no "label" that is a number or a name')
    return label


def label_number(label: Label, classes: Sequence[str]) -> int:
    """The number of the class that a label means.

    Raises:
        ValueError: There is no such class.
    """
    if isinstance(label, int) and 0 <= label < len(classes):
        return label
    if isinstance(label, str) and label in classes:
        return list(classes).index(label)
    raise ValueError(f"label {label!r:.60}, but there are {len(classes)} classes, numbered from 0")
