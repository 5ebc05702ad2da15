"""scikit-learn's handwritten digits: no download, small enough to train on in a minute.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998
(https://doi.org/10.24432/C50P49). scikit-learn carries the 1,797 images of UCI's test file. They come without an
official split, so a fixed fifth of them is the test set here, whatever the seed of the run.
"""

from typing import Unpack

import numpy as np

from zoo.datamodules.arrays import Arrays
from zoo.datamodules.base import ImageDataModule
from zoo.datamodules.options import DataOptions
from zoo.datamodules.splits import cut_rows

TEST_IMAGES = 360
_TEST_SEED = 0  # part of the definition of the dataset: never change it


class Digits(ImageDataModule):
    """1,797 grey 8x8 digits that come with scikit-learn.

    1,437 images are for training and validation. The other 360, a fixed stratified part, are the test set.

    Args:
        **options: See `DataOptions`.
    """

    dataset = "digits"

    def __init__(self, **options: Unpack[DataOptions]) -> None:
        super().__init__(**options)

    def load_arrays(self) -> tuple[Arrays, Arrays]:
        """The 1,437 images to learn from and the 360 to test on."""
        from sklearn.datasets import load_digits

        bunch = load_digits()
        images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]  # values are 0..16
        labels = bunch.target.astype(np.int64)
        train, test = cut_rows(labels, TEST_IMAGES, _TEST_SEED)
        return Arrays(images[train], labels[train]), Arrays(images[test], labels[test])
