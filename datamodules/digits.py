"""scikit-learn's handwritten digits: no download, small enough to train on in a minute.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998
(https://doi.org/10.24432/C50P49). scikit-learn carries the 1,797 images of UCI's test file. They come without an
official split, so a fixed fifth of them is the test set here, whatever the seed of the run.
"""

import numpy as np

from zoo.datamodules.arrays import Arrays, split
from zoo.datamodules.base import ImageDataModule

TEST_IMAGES = 360
_TEST_SEED = 0  # part of the definition of the dataset: never change it


class Digits(ImageDataModule):
    """1,797 grey 8x8 digits that come with scikit-learn.

    1,437 images are for training and validation. The other 360, a fixed stratified part, are the test set.

    Args:
        batch_size: Images per step over all devices together. 128 if not given.
        num_workers: Loader processes. If not given: none on one or two processors, else up to four.
        image_size: Side of the images in pixels. 8 if not given.
        augment: Changes to training images: none, flip_crop, affine, color, strong or imagenet. affine if not given.
            Digits are never mirrored, whatever the policy.
        val_size: Part of the training set that is held out for validation.
        seed: Seed of the validation split, the order and the augmentation. The run's seed if not given.
    """

    dataset = "digits"

    def __init__(
        self,
        batch_size: int | None = None,
        num_workers: int | None = None,
        image_size: int | None = None,
        augment: str | None = None,
        val_size: float = 0.1,
        seed: int | None = None,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            num_workers=num_workers,
            image_size=image_size,
            augment=augment,
            val_size=val_size,
            seed=seed,
        )

    def load_arrays(self) -> tuple[Arrays, Arrays]:
        """The 1,437 images to learn from and the 360 to test on."""
        from sklearn.datasets import load_digits

        bunch = load_digits()
        images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]  # values are 0..16
        return split(Arrays(images, bunch.target.astype(np.int64)), TEST_IMAGES, _TEST_SEED)
