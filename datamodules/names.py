"""Every dataset as a class that bears its short name, so that `--data mnist` and `data: mnist` resolve natively.

jsonargparse matches the class name exactly, case included; a function or an alias would not do, a real subclass does.
"""

from zoo.datamodules.base import ImageDataModule
from zoo.datamodules.digits import Digits
from zoo.datamodules.fake import Fake
from zoo.datamodules.mnist import MNIST, FashionMNIST

_PARENTS: tuple[type[ImageDataModule], ...] = (Digits, Fake, FashionMNIST, MNIST)

for _parent in _PARENTS:
    globals()[_parent.dataset] = type(_parent.dataset, (_parent,), {"__module__": __name__, "__doc__": _parent.__doc__})
