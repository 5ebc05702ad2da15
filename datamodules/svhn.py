"""SVHN, the house numbers of Google Street View, read from the original MATLAB files of its cropped digits.

Y. Netzer, T. Wang, A. Coates, A. Bissacco, B. Wu and A. Y. Ng, "Reading Digits in Natural Images with Unsupervised
Feature Learning", 2011 (http://ufldl.stanford.edu/housenumbers/). 73,257 training and 26,032 test images of 32x32
pixels.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.datamodules.arrays import Arrays
from zoo.datamodules.base import ImageDataModule
from zoo.datamodules.download import Archive, Progress, fetch

_SHAPE = (32, 32, 3)
_CHUNK = 512


class SVHN(ImageDataModule):
    """99,289 colour photographs of digits in house numbers, read from DIR/train_32x32.mat and DIR/test_32x32.mat.

    The 531,131 easier images of the "extra" file are not used: figures without them and with them do not compare.

    Args:
        root: Folder that holds the two files.
        download: Fetch the two files (246 MB) into the folder if they are not there.
        **options: See `DataOptions`.
    """

    dataset = "svhn"
    # File names and MD5 sums are those of torchvision.datasets.svhn, whose address is plain http. The first mirror is
    # the same host by https; the second carries the same files, which the sums verify.
    archives = (
        Archive("train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373", most_bytes=1 << 28),
        Archive("test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3", most_bytes=1 << 28),
    )
    mirrors: tuple[str, ...] = (
        "https://ufldl.stanford.edu/housenumbers/",
        "https://cseweb.ucsd.edu/~weijian/static/datasets/svhn/",
    )
    progress: Progress | None = None

    def prepare_data(self) -> None:
        """Fetch the files if that was asked for; otherwise see that they are there."""
        for archive in self.archives:
            if self.download and not self._path(archive.name).is_file():
                fetch(archive, self.mirrors, self._path(), self.progress)
        for archive in self.archives:
            self._find(archive.name)

    def load_arrays(self) -> tuple[Arrays, Arrays]:
        """The 73,257 training and the 26,032 test images."""
        train, test = self.archives
        return read_mat(self._find(train.name)), read_mat(self._find(test.name))

    def _path(self, name: str = "") -> Path:
        return Path(self.root or "").expanduser() / name

    def _find(self, name: str) -> Path:
        path = self._path(name)
        if not path.is_file():
            raise FileNotFoundError(f"{self.dataset}: no {name} in {path.parent}; --data.download true fetches it")
        return path


def read_mat(path: Path) -> Arrays:
    """Images and labels of an SVHN file; its label 10 is the digit 0.

    Raises:
        ValueError: The file is damaged, or is another kind of file.
        PermissionError: The file may not be read.
    """
    content = _load(path)
    pixels, labels = content.get("X"), content.get("y")
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 4:
        raise ValueError(f"{path}: must hold X, images as bytes of the shape (32, 32, 3, N); fetch the file again")
    if pixels.shape[:3] != _SHAPE or not pixels.shape[3]:
        raise ValueError(f"{path}: the images must have the shape (32, 32, 3, N), not {pixels.shape}")
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iuf" or labels.size != pixels.shape[3]:
        raise ValueError(f"{path}: must hold y, the {pixels.shape[3]} numbers of the digits; fetch the file again")
    return Arrays(_channels_last(pixels), _digits(labels.ravel(), path))


def _load(path: Path) -> dict[str, Any]:
    import scipy.io  # scipy has no type hints

    try:
        with path.open("rb") as file:
            content: dict[str, Any] = scipy.io.loadmat(file, variable_names=["X", "y"])
    except PermissionError:
        raise PermissionError(f"{path}: may not be read; check the rights of the file") from None
    except Exception as error:  # bytes of any kind can make it raise anything
        reason = type(error).__name__
        raise ValueError(f"{path}: damaged or no MATLAB 5 file ({reason}); delete it and fetch it again") from None
    return content


def _channels_last(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(H, W, C, N) -> (N, H, W, C), a piece at a time: both orders of a piece fit into the processor's cache."""
    images = np.empty((pixels.shape[3], *_SHAPE), dtype=np.uint8)
    for start in range(0, len(images), _CHUNK):
        images[start : start + _CHUNK] = pixels[..., start : start + _CHUNK].transpose(3, 0, 1, 2)
    return images


def _digits(labels: npt.NDArray[Any], path: Path) -> npt.NDArray[np.int64]:
    wrong = labels[~np.isin(labels, np.arange(1, 11))]
    if len(wrong):
        raise ValueError(f"{path}: label {wrong[0]} is out of range, labels must be 1 to 10, where 10 is the digit 0")
    return labels.astype(np.int64) % 10
