"""MNIST and its relatives Fashion-MNIST, Kuzushiji-MNIST and EMNIST, read from the original IDX files.

MNIST: Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-Based Learning Applied to Document Recognition", 1998
(https://doi.org/10.1109/5.726791). Fashion-MNIST: H. Xiao, K. Rasul and R. Vollgraf, 2017
(https://arxiv.org/abs/1708.07747). Kuzushiji-MNIST: T. Clanuwat et al., "Deep Learning for Classical Japanese
Literature", 2018 (https://arxiv.org/abs/1812.01718). All three have 60,000 training and 10,000 test images of 28x28
pixels, as MNIST has. EMNIST: G. Cohen, S. Afshar, J. Tapson and A. van Schaik, 2017 (https://arxiv.org/abs/1702.05373).
"""

import string
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from zoo.datamodules.archives import extract_zip
from zoo.datamodules.arrays import Arrays
from zoo.datamodules.base import ImageDataModule
from zoo.datamodules.checks import choice
from zoo.datamodules.download import Archive, Progress, fetch
from zoo.datamodules.idx import read_images, read_labels
from zoo.datamodules.options import DataOptions
from zoo.datamodules.registry import dataset_spec

# File names, MD5 sums and the first mirror of MNIST are those of torchvision.datasets.mnist; its other addresses are
# plain http. The mirrors here are others that carry the same files, which the sums verify. The SHA-256 are of what
# these unpack to.
_MNIST_ARCHIVES = (
    Archive(
        "train-images-idx3-ubyte.gz",
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        plain_sha256="ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    Archive(
        "train-labels-idx1-ubyte.gz",
        "d53e105ee54ea40749a09fcbcd1e9432",
        plain_sha256="65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    Archive(
        "t10k-images-idx3-ubyte.gz",
        "9fb629c4189551a2d022fa330f9573f3",
        plain_sha256="0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    Archive(
        "t10k-labels-idx1-ubyte.gz",
        "ec29112dd5afa0611ce80d1b7f02629c",
        plain_sha256="ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)
_FASHION_ARCHIVES = (
    Archive("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
    Archive("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
    Archive("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
    Archive("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
)
_KMNIST_ARCHIVES = (
    Archive("train-images-idx3-ubyte.gz", "bdb82020997e1d708af4cf47b453dcf7"),
    Archive("train-labels-idx1-ubyte.gz", "e144d726b3acfaa3e44228e80efcd344"),
    Archive("t10k-images-idx3-ubyte.gz", "5c965bf0a639b31b8f53240b1b52f4d7"),
    Archive("t10k-labels-idx1-ubyte.gz", "7320c461ea6c1c855c0b718fb2a4b134"),
)
# In the splits with 47 classes, a letter whose small form looks like the capital is one class.
_MERGED = dataset_spec("emnist").class_names
_EMNIST_CLASSES = {
    "byclass": tuple(string.digits + string.ascii_uppercase + string.ascii_lowercase),
    "bymerge": _MERGED,
    "balanced": _MERGED,
    "letters": tuple(string.ascii_lowercase),
    "digits": tuple(string.digits),
    "mnist": tuple(string.digits),
}
# Mean and standard deviation of the training images as users of the splits publish them.
_EMNIST_STATISTICS = {
    "byclass": (0.1736, 0.3317),
    "bymerge": (0.1736, 0.3317),
    "balanced": (0.1751, 0.3332),
    "letters": (0.1722, 0.3309),
    "digits": (0.1733, 0.3317),
    "mnist": (0.1733, 0.3317),
}
_CHUNK = 4096


class MNIST(ImageDataModule):
    """70,000 handwritten digits, read from DIR/MNIST/raw.

    Args:
        root: Folder that holds MNIST/raw.
        download: Fetch the four files (11 MB) into the folder if they are not there.
        **options: See `DataOptions`.
    """

    dataset = "mnist"
    folder = "MNIST"
    archives: tuple[Archive, ...] = _MNIST_ARCHIVES
    mirrors: tuple[str, ...] = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    )
    progress: Progress | None = None

    def prepare_data(self) -> None:
        """Fetch the files if that was asked for; otherwise see that they are there."""
        if self.download:
            self._fetch()
        for name in self._names():
            self._find(name)

    def load_arrays(self) -> tuple[Arrays, Arrays]:
        """The official training and test images, all of them."""
        train_images, train_labels, test_images, test_labels = self._names()
        train, test = self._read(train_images, train_labels), self._read(test_images, test_labels)
        if others := self._other_files():
            self._notice(f"{self.dataset}: not the official files, by their hashes: {', '.join(others)}")
        return train, test

    def _other_files(self) -> list[str]:
        """The files that are not the official ones, as far as it is known what these hold."""
        official = {archive.plain_name: archive for archive in self.archives}
        paths = {name: self._find(name) for name in self._names() if name in official}
        return [path.name for name, path in paths.items() if official[name].fault(path)]

    def _names(self) -> list[str]:
        """Training images and labels, test images and labels."""
        return [archive.plain_name for archive in self.archives]

    def _fetch(self) -> None:
        for archive in self.archives:
            if not self._raw(archive.plain_name).is_file():
                fetch(archive, self.mirrors, self._raw(), self.progress)

    def _raw(self, name: str = "") -> Path:
        return Path(self.root or "").expanduser() / self.folder / "raw" / name

    def _find(self, name: str) -> Path:
        for path in (self._raw(name), self._raw(f"{name}.gz")):
            if path.is_file():
                return path
        raise FileNotFoundError(f"{self.dataset}: no {name} (or .gz) in {self._raw()}; --data.download true fetches it")

    def _read(self, images: str, labels: str) -> Arrays:
        image_path, label_path = self._find(images), self._find(labels)
        pixels, targets = self._pixels(image_path), self._targets(label_path)
        if len(pixels) != len(targets):
            raise ValueError(f"{image_path} has {len(pixels)} images but {label_path.name} has {len(targets)} labels")
        return Arrays(pixels[..., np.newaxis], targets)

    def _pixels(self, path: Path) -> npt.NDArray[np.uint8]:
        return read_images(path, self.spec.image_size)

    def _targets(self, path: Path) -> npt.NDArray[np.int64]:
        return read_labels(path, self.spec.num_classes)


class FashionMNIST(MNIST):
    """70,000 pictures of clothes, read from DIR/FashionMNIST/raw.

    Args:
        root: Folder that holds FashionMNIST/raw.
        download: Fetch the four files (31 MB) into the folder if they are not there.
        **options: See `DataOptions`.
    """

    dataset = "fashion_mnist"
    folder = "FashionMNIST"
    archives = _FASHION_ARCHIVES
    mirrors = (
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    )


class KMNIST(MNIST):
    """Kuzushiji-MNIST: 70,000 characters of ten kinds from classical Japanese books, read from DIR/KMNIST/raw.

    Args:
        root: Folder that holds KMNIST/raw.
        download: Fetch the four files (21 MB) into the folder if they are not there.
        **options: See `DataOptions`.
    """

    dataset = "kmnist"
    folder = "KMNIST"
    archives = _KMNIST_ARCHIVES
    mirrors = ("https://codh.rois.ac.jp/kmnist/dataset/kmnist/",)


class EMNIST(MNIST):
    """Handwritten digits and letters in six splits, read from DIR/EMNIST/raw.

    Args:
        root: Folder that holds EMNIST/raw.
        download: Fetch the archive of all splits (562 MB) into the folder, and take this split out of it, if its files
            are not there. The archive stays: the other splits then need no download.
        split: byclass (62 classes, 814,255 images), bymerge (47, 814,255), balanced (47, 131,600), letters (26,
            145,600), digits (10, 280,000) or mnist (10, 70,000).
        **options: See `DataOptions`.
    """

    dataset = "emnist"
    folder = "EMNIST"
    archives = (Archive("gzip.zip", "58c8d27c78d21e728a6bc7b3cc06412e", most_bytes=1 << 30),)
    mirrors = ("https://biometrics.nist.gov/cs_links/EMNIST/",)

    def __init__(
        self, root: str | None = None, download: bool = False, split: str = "balanced", **options: Unpack[DataOptions]
    ) -> None:
        super().__init__(root, download, **options)
        self.split = choice("split", split, tuple(_EMNIST_CLASSES))
        mean, std = _EMNIST_STATISTICS[split]
        self.spec = replace(self.spec, class_names=_EMNIST_CLASSES[split], mean=(mean,), std=(std,))

    def arguments(self) -> dict[str, Any]:
        """The arguments that build these data again, with the split."""
        return {**super().arguments(), "split": self.split}

    def _names(self) -> list[str]:
        kinds = ("images-idx3-ubyte", "labels-idx1-ubyte")
        return [f"emnist-{self.split}-{part}-{kind}" for part in ("train", "test") for kind in kinds]

    def _fetch(self) -> None:
        missing = [name for name in self._names() if not any(self._raw(name + end).is_file() for end in ("", ".gz"))]
        if missing:
            archive = fetch(self.archives[0], self.mirrors, self._raw(), self.progress)
            extract_zip(archive, [f"gzip/{name}.gz" for name in missing], self._raw())

    def _pixels(self, path: Path) -> npt.NDArray[np.uint8]:
        images = super()._pixels(path)
        for start in range(0, len(images), _CHUNK):  # in place: the largest split has half a gigabyte
            lying = images[start : start + _CHUNK]  # the files hold columns where MNIST has rows
            lying[:] = lying.transpose(0, 2, 1).copy()
        return images

    def _targets(self, path: Path) -> npt.NDArray[np.int64]:
        return read_labels(path, self.spec.num_classes, first=1 if self.split == "letters" else 0)
