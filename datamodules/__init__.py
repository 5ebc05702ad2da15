"""Datasets as LightningDataModules: splits, augmentation, loaders. Nothing here knows about models.

Importing the package loads no torch; the first use of a DataModule does.

Example:
    >>> from zoo.datamodules import list_datasets, dataset_spec
    >>> list_datasets("*mnist")
    ['emnist', 'fashion_mnist', 'kmnist', 'mnist']
    >>> dataset_spec("digits").num_classes
    10
"""

import importlib
from typing import TYPE_CHECKING, Any

from zoo.datamodules.registry import DatasetSpec, dataset_spec, list_datasets, unknown

if TYPE_CHECKING:
    from zoo.datamodules.base import ImageDataModule
    from zoo.datamodules.cifar import CIFAR10, CIFAR100
    from zoo.datamodules.csv_file import CSV
    from zoo.datamodules.digits import Digits
    from zoo.datamodules.fake import Fake
    from zoo.datamodules.folder import Folder, ImageNet
    from zoo.datamodules.hub import HuggingFace
    from zoo.datamodules.mnist import EMNIST, KMNIST, MNIST, FashionMNIST
    from zoo.datamodules.shards import WebDataset
    from zoo.datamodules.svhn import SVHN

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "CSV",
    "EMNIST",
    "KMNIST",
    "MNIST",
    "SVHN",
    "DatasetSpec",
    "Digits",
    "Fake",
    "FashionMNIST",
    "Folder",
    "HuggingFace",
    "ImageDataModule",
    "ImageNet",
    "WebDataset",
    "create_datamodule",
    "dataset_spec",
    "list_datasets",
]

_MODULES = {
    "base": ["ImageDataModule"],
    "cifar": ["CIFAR10", "CIFAR100"],
    "csv_file": ["CSV"],
    "digits": ["Digits"],
    "fake": ["Fake"],
    "folder": ["Folder", "ImageNet"],
    "hub": ["HuggingFace"],
    "mnist": ["EMNIST", "KMNIST", "MNIST", "FashionMNIST"],
    "shards": ["WebDataset"],
    "svhn": ["SVHN"],
}
_LAZY = {name: f"zoo.datamodules.{module}" for module, names in _MODULES.items() for name in names}


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
    dataset_spec(name)
    names = importlib.import_module("zoo.datamodules.names")
    build: type[ImageDataModule] = getattr(names, name)
    accepted = parameters(build)
    for argument in arguments:
        if argument not in accepted:
            raise ValueError(unknown(f"argument of {name}", argument, accepted))
    return build(**arguments)


def parameters(build: "type[ImageDataModule]") -> list[str]:
    """The arguments that a DataModule takes: its own, then those that it shares with others."""
    import inspect
    import typing

    own = list(inspect.signature(build).parameters.values())
    shared = [typing.get_args(p.annotation)[0] for p in own if p.kind == p.VAR_KEYWORD]  # of Unpack[DataOptions]
    return [p.name for p in own if p.kind != p.VAR_KEYWORD] + [name for kind in shared for name in kind.__annotations__]
