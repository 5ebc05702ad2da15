"""Datasets as LightningDataModules: splits, augmentation, loaders. Nothing here knows about models.

Importing the package loads no torch; the first use of a DataModule does.

Example:
    >>> from zoo.datamodules import list_datasets, dataset_spec
    >>> list_datasets("*mnist")
    ['fashion_mnist', 'mnist']
    >>> dataset_spec("digits").num_classes
    10
"""

import importlib
from typing import TYPE_CHECKING, Any

from zoo.datamodules.registry import DatasetSpec, dataset_spec, list_datasets, unknown

if TYPE_CHECKING:
    from zoo.datamodules.base import ImageDataModule
    from zoo.datamodules.digits import Digits
    from zoo.datamodules.fake import Fake
    from zoo.datamodules.mnist import MNIST, FashionMNIST

__all__ = [
    "MNIST",
    "DatasetSpec",
    "Digits",
    "Fake",
    "FashionMNIST",
    "ImageDataModule",
    "create_datamodule",
    "dataset_spec",
    "list_datasets",
]

_LAZY = {
    "ImageDataModule": "zoo.datamodules.base",
    "Digits": "zoo.datamodules.digits",
    "Fake": "zoo.datamodules.fake",
    "MNIST": "zoo.datamodules.mnist",
    "FashionMNIST": "zoo.datamodules.mnist",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def create_datamodule(name: str, **arguments: Any) -> "ImageDataModule":
    """Build the DataModule that goes by a name.

    Args:
        name: A name from `list_datasets()`.
        **arguments: Arguments of that DataModule.

    Raises:
        ValueError: There is no such dataset, or it takes no such argument.

    Example:
        >>> create_datamodule("digits", batch_size=64).num_classes
        10
    """
    import inspect

    dataset_spec(name)
    names = importlib.import_module("zoo.datamodules.names")
    build: type[ImageDataModule] = getattr(names, name)
    accepted = list(inspect.signature(build).parameters)
    for argument in arguments:
        if argument not in accepted:
            raise ValueError(unknown(f"argument of {name}", argument, accepted))
    return build(**arguments)
