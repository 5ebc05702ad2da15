"""A reader of pickles that can hold bytes, texts, numbers, lists, dicts and arrays of bytes, and nothing else.

A pickle can give orders to run anything. Here nothing that it names is imported or called.
"""

import io
import pickle
import pickletools
import reprlib
import warnings
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from zoo.datamodules.layout import shown


def read_pickle(path: Path) -> dict[str, Any]:
    """The dict in a CIFAR file; arrays are `PickledArray`. Nothing that the file names is imported or called.

    Raises:
        ValueError: The file is damaged, or is another kind of file.
        PermissionError: The file may not be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in texts
            _check_memo(data)
            content = _Unpickler(io.BytesIO(data), encoding="bytes").load()
    except PermissionError:
        raise PermissionError(f"{path}: may not be read; check the rights of the file") from None
    except Exception as error:  # bytes of any kind can make it raise anything
        is_clear = isinstance(error, pickle.UnpicklingError | ValueError)
        reason = shown(" ".join(str(error).split())) if is_clear else type(error).__name__
        raise ValueError(f"{path}: damaged or no CIFAR file ({reason}); delete it and fetch it again") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: must hold a dict, not a {type(content).__name__}; delete it and fetch it again")
    return {text_of(key): value for key, value in content.items()}


def _check_memo(data: bytes) -> None:
    """Refuse what is cut off, and numbers of objects beyond all reason: memory is set aside for as many objects."""
    for place, (order, number, _) in enumerate(pickletools.genops(data)):
        if order.name in ("PUT", "LONG_BINPUT") and isinstance(number, int) and number > place:
            raise pickle.UnpicklingError(f"refused, it gives an object the number {number}")


class PickledArray:
    """Takes the place of a numpy array in a pickle and keeps what it is made of; numpy itself never sees the file."""

    def __init__(self, *_: object) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def bytes_of(self, path: Path, row: int) -> npt.NDArray[np.uint8]:
        """The array, uint8 (N, row).

        Args:
            path: What errors call it.
            row: How many bytes a row must have.

        Raises:
            ValueError: It has another type or shape.
        """
        try:
            _, shape, kind, is_fortran, raw = self.state
            count, size = shape
            is_right = kind.name == "u1" and size == row and type(raw) is bytes and len(raw) == count * size
        except (TypeError, ValueError, AttributeError):
            is_right = False
        if not is_right or not count:
            raise ValueError(f"{path}: the images must be bytes of the shape (N, {row})")
        return np.frombuffer(raw, dtype=np.uint8).reshape(-1, size, order="F" if is_fortran else "C")


class _Kind:
    """Takes the place of a numpy dtype."""

    def __init__(self, name: Any, *_: object) -> None:
        self.name = text_of(name)

    def __setstate__(self, state: Any) -> None:
        pass


class _Bytes:
    """Takes the place of `_codecs.encode`, with which Python 3 writes bytes into a pickle that Python 2 can read."""

    def __new__(cls, text: str, encoding: str) -> Any:
        if encoding not in ("latin1", b"latin1"):
            raise pickle.UnpicklingError("an unknown encoding")
        return text.encode("latin1")

    def __setstate__(self, state: Any) -> NoReturn:
        raise pickle.UnpicklingError("bytes have no state")


_STAND_INS = {
    ("numpy.core.multiarray", "_reconstruct"): PickledArray,
    ("numpy._core.multiarray", "_reconstruct"): PickledArray,
    ("numpy", "ndarray"): PickledArray,
    ("numpy", "dtype"): _Kind,
    ("_codecs", "encode"): _Bytes,
}


class _Unpickler(pickle.Unpickler):
    # All stand-ins define __setstate__: a pickle that sets the state of the class itself finds that method, unbound,
    # and fails, rather than change an attribute of the class.
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"refused, it asks for {reprlib.repr(f'{module}.{name}')}")
        return _STAND_INS[module, name]


def text_of(value: Any) -> str:
    """A text, or the bytes that Python 2 took for one; nothing for anything else."""
    if isinstance(value, bytes):
        return value.decode("latin1")
    return value if isinstance(value, str) else ""
