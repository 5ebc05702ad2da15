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
_CHUNK = 1 << 20
_MOST_DEFLATE = 1032  # a byte of gzip can stand for no more: RFC 1951, 258 values in two bits


def read_images(path: Path, side: int) -> npt.NDArray[np.uint8]:
    """Images (N, side, side) from an IDX file, plain or .gz.

    Raises:
        ValueError: The file is not that, or it is damaged.
    """
    images = read_idx(path, 3)
    if images.shape[1:] != (side, side):
        raise ValueError(f"{path}: the images must be {side}x{side}, not {images.shape[1]}x{images.shape[2]}")
    return images


def read_labels(path: Path, num_classes: int, first: int = 0) -> npt.NDArray[np.int64]:
    """Labels (N,) from an IDX file, plain or .gz.

    Args:
        path: The file.
        num_classes: How many classes there are.
        first: The number of the first class in the file; it becomes 0.

    Raises:
        ValueError: The file is not that, it is damaged, or a label is out of range.
    """
    labels = read_idx(path, 1).astype(np.int64) - first
    for label in (labels.min(), labels.max()):
        if not 0 <= label < num_classes:
            rule = f"labels must be {first} to {first + num_classes - 1}"
            raise ValueError(f"{path}: label {label + first} is out of range, {rule}")
    return labels


def read_idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """An array of bytes from an IDX file, plain or .gz; it may be changed.

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
    # A header may claim anything: no memory is set aside for more than the file can hold.
    if size > path.stat().st_size * (_MOST_DEFLATE if path.suffix == ".gz" else 1):
        raise ValueError(
            f"{path}: dimensions {shape} need {size:,} bytes, more than the file has; fetch the file again"
        )
    values = np.empty(size, dtype=np.uint8)
    found = _fill(file, values)
    if found < size or file.read(1):
        what = f"only {found:,}" if found < size else "more"
        raise ValueError(f"{path}: dimensions {shape} need {size:,} bytes, but {what} follow; fetch the file again")
    return values.reshape(shape)


def _fill(file: gzip.GzipFile | io.BufferedReader, values: npt.NDArray[np.uint8]) -> int:
    """Read into an array; how many bytes there were."""
    view, found = values.data, 0
    while count := file.readinto(view[found : found + _CHUNK]):  # gzip's own readinto makes a copy of what it reads
        found += count
    return found
