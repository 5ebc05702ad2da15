"""MNIST and Fashion-MNIST, read from the original IDX files.

MNIST: Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-Based Learning Applied to Document Recognition", 1998
(https://doi.org/10.1109/5.726791). Fashion-MNIST: H. Xiao, K. Rasul and R. Vollgraf, 2017
(https://arxiv.org/abs/1708.07747). Both have 60,000 training and 10,000 test images of 28x28 pixels.
"""

from pathlib import Path

import numpy as np

from zoo.datamodules.arrays import Arrays
from zoo.datamodules.base import ImageDataModule
from zoo.datamodules.download import Archive, fetch
from zoo.datamodules.idx import read_images, read_labels

# File names, MD5 sums and the first mirror of MNIST are those of torchvision.datasets.mnist; its other addresses are
# plain http. The mirrors here are others that carry the same files, which the sums verify.
_MNIST_ARCHIVES = (
    Archive("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
    Archive("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
    Archive("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
    Archive("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
)
_FASHION_ARCHIVES = (
    Archive("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
    Archive("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
    Archive("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
    Archive("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
)


class MNIST(ImageDataModule):
    """70,000 handwritten digits, read from DIR/MNIST/raw.

    Args:
        root: Folder that holds MNIST/raw.
        download: Fetch the four files (11 MB) into the folder if they are not there.
        batch_size: Images per step over all devices together. 128 if not given.
        num_workers: Loader processes. If not given: none on one or two processors, else up to four.
        image_size: Side of the images in pixels. 28 if not given; 32 is reached by a black margin, others by
            interpolation.
        augment: Changes to training images: none, flip_crop, affine, color, strong or imagenet. The dataset's own
            policy if not given. Digits are never mirrored, whatever the policy.
        val_size: Part of the training set that is held out for validation.
        seed: Seed of the validation split, the order and the augmentation. The run's seed if not given.
    """

    dataset = "mnist"
    folder = "MNIST"
    archives = _MNIST_ARCHIVES
    mirrors: tuple[str, ...] = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    )

    def prepare_data(self) -> None:
        """Fetch the files if that was asked for; otherwise see that they are there."""
        if self.download:
            for archive in self.archives:
                if not self._raw(archive.plain_name).is_file():
                    fetch(archive, self.mirrors, self._raw())
        for archive in self.archives:
            self._find(archive)

    def load_arrays(self) -> tuple[Arrays, Arrays]:
        """The 60,000 training and the 10,000 test images."""
        train_images, train_labels, test_images, test_labels = self.archives
        return self._read(train_images, train_labels), self._read(test_images, test_labels)

    def _raw(self, name: str = "") -> Path:
        return Path(self.root or "").expanduser() / self.folder / "raw" / name

    def _find(self, archive: Archive) -> Path:
        for name in (archive.plain_name, archive.name):
            if self._raw(name).is_file():
                return self._raw(name)
        raise FileNotFoundError(
            f"{self.dataset}: no {archive.plain_name} (or .gz) in {self._raw()}; --data.download true fetches it"
        )

    def _read(self, images: Archive, labels: Archive) -> Arrays:
        image_path, label_path = self._find(images), self._find(labels)
        pixels = read_images(image_path, self.spec.image_size)
        targets = read_labels(label_path, self.num_classes)
        if len(pixels) != len(targets):
            raise ValueError(f"{image_path} has {len(pixels)} images but {label_path.name} has {len(targets)} labels")
        return Arrays(pixels[..., np.newaxis], targets)


class FashionMNIST(MNIST):
    """70,000 pictures of clothes, read from DIR/FashionMNIST/raw.

    Args:
        root: Folder that holds FashionMNIST/raw.
        download: Fetch the four files (31 MB) into the folder if they are not there.
        batch_size: Images per step over all devices together. 128 if not given.
        num_workers: Loader processes. If not given: none on one or two processors, else up to four.
        image_size: Side of the images in pixels. 28 if not given; 32 is reached by a black margin, others by
            interpolation.
        augment: Changes to training images: none, flip_crop, affine, color, strong or imagenet. flip_crop if not given.
        val_size: Part of the training set that is held out for validation.
        seed: Seed of the validation split, the order and the augmentation. The run's seed if not given.
    """

    dataset = "fashion_mnist"
    folder = "FashionMNIST"
    archives = _FASHION_ARCHIVES
    mirrors = (
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    )
