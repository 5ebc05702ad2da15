"""Every dataset as a class that bears its short name, so that `--data mnist` and `data: mnist` resolve natively.

jsonargparse matches the class name exactly, case included; a function or an alias would not do, a real subclass does.
"""

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

_PARENTS: tuple[type[ImageDataModule], ...] = (
    CIFAR10,
    CIFAR100,
    CSV,
    EMNIST,
    KMNIST,
    MNIST,
    SVHN,
    Digits,
    Fake,
    FashionMNIST,
    Folder,
    HuggingFace,
    ImageNet,
    WebDataset,
)

for _parent in _PARENTS:
    globals()[_parent.dataset] = type(_parent.dataset, (_parent,), {"__module__": __name__, "__doc__": _parent.__doc__})
