"""The options of `WebDataset`, and those of other data that a stream cannot have."""

from collections.abc import Mapping
from typing import Any, Literal

from zoo.datamodules.options import DataOptions

_COUNTED = ("kfold", "fold", "train_fraction", "train_size", "class_subset")


class ShardOptions(DataOptions, total=False):
    """What `WebDataset` takes besides `DataOptions`.

    Attributes:
        classes: The class names in the order of their labels. From classes.txt beside the shards if not given.
        num_classes: How many classes there are, if they have no names.
        train_samples: How many samples the training shards hold; needed for addresses, and only for them.
        in_channels: 3 to read the images in colour, 1 in grey.
        on_error: What to do about samples that cannot be used: raise an error, or skip them and say how many.
    """

    classes: list[str] | None
    num_classes: int | None
    train_samples: int | None
    in_channels: int | None
    on_error: Literal["raise", "skip"] | None


def refuse_options(given: Mapping[str, Any], *, is_all_local: bool) -> None:
    """Refuse what cannot be done with a stream.

    Args:
        given: The options that the user chose.
        is_all_local: Whether all shards are local, so that they can be looked through.

    Raises:
        ValueError: One of them is such an option.
    """
    for name in _COUNTED:
        if name in given and not is_all_local:
            raise ValueError(f"{name} is {given[name]}, but shards on the network cannot be counted: leave it out")
    if given.get("sampler") == "balanced":
        raise ValueError("sampler is balanced, which a stream of shards cannot do: use shuffle")
    if given.get("drop_last") is False:
        raise ValueError("drop_last is false, but all devices must make as many full batches of a stream: use true")
