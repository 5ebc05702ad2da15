"""A strict reader of IDX, the format of the MNIST family.

A file is: two zero bytes, a type code, the number of dimensions, each dimension as a big-endian 32-bit integer, then
the values. All of it must agree; a file that is cut short or too long is refused rather than read in part.
"""

import gzip
import io
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

_UINT8 = 0x08  # the only type code that the MNIST family uses


def read_images(path: Path, side: int) -> npt.NDArray[np.uint8]:
    """Images (N, side, side) from an IDX file, plain or .gz.

    Raises:
        ValueError: The file is not that, or it is damaged.
    """
    images = read_idx(path, 3)
    if images.shape[1:] != (side, side):
        raise ValueError(f"{path}: the images must be {side}x{side}, not {images.shape[1]}x{images.shape[2]}")
    return images


def read_labels(path: Path, num_classes: int) -> npt.NDArray[np.int64]:
    """Labels (N,) from an IDX file, plain or .gz.

    Raises:
        ValueError: The file is not that, it is damaged, or a label is out of range.
    """
    labels = read_idx(path, 1)
    if labels.max() >= num_classes:
        raise ValueError(f"{path}: label {labels.max()} is out of range, labels must be 0 to {num_classes - 1}")
    return labels.astype(np.int64)


def read_idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """An array of bytes from an IDX file, plain or .gz.

    Raises:
        ValueError: The file is damaged, or has other dimensions.
        PermissionError: The file may not be read.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return _parse(file, path, dimensions)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: not a complete gzip file ({error}); delete it and fetch it again") from None
    except PermissionError:
        raise PermissionError(f"{path}: may not be read; check the rights of the file") from None


def _parse(file: gzip.GzipFile | io.BufferedReader, path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    expected = bytes((0, 0, _UINT8, dimensions))
    magic = file.read(4)
    if magic != expected:
        raise ValueError(f"{path}: must start with the bytes {expected.hex()} (IDX), not {magic.hex() or 'nothing'}")
    header = file.read(4 * dimensions)
    if len(header) < 4 * dimensions:
        raise ValueError(f"{path}: ends within its header")
    shape = struct.unpack(f">{dimensions}I", header)
    size = math.prod(shape)
    if size == 0:
        raise ValueError(f"{path}: holds no data, its dimensions are {shape}")
    values = file.read(size + 1)  # one more, to see whether the file ends where it should
    if len(values) != size:
        found = "more" if len(values) > size else f"only {len(values):,}"
        raise ValueError(f"{path}: dimensions {shape} need {size:,} bytes, but {found} follow; fetch the file again")
    return np.frombuffer(values, dtype=np.uint8).reshape(shape)
