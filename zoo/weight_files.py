"""Files of weights: read any of them without running code, check them, write our own.

A safetensors file is a length, a JSON header and the values; ours have the model's description in the header, and a
SHA-256 of it and of the values, since the format itself does not notice a flipped bit.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from zoo.description import check_description, is_ours
from zoo.safetensors_files import read_safetensors, safetensors_parts
from zoo.torch_files import is_torch_file, read_torch

# Where training programs keep the state dict; Lightning's place first. Averages only where there is nothing else.
_NESTED = ("state_dict", "model_state_dict", "model")
_AVERAGED = ("model_ema", "state_dict_ema")


@dataclass(frozen=True)
class WeightFile:
    """What a file of weights holds.

    Attributes:
        tensors: Tensors by name, on the CPU.
        description: What `ImageClassifier.description()` said of the model, if this package wrote the file: always with
            its keys, but their values are not checked.
        path: The file.
    """

    tensors: dict[str, Tensor]
    description: dict[str, Any] | None
    path: Path


def read_weights(path: str | os.PathLike[str]) -> WeightFile:
    """The tensors of a safetensors file, a checkpoint of ours or of Lightning, or a state dict that torch saved.

    The format is found by content, whatever the file is called. Nothing that a file names is imported or run, and what
    is no tensor is left out. Values that have changed since they were written are found in files with check sums: those
    of `torch.save` since 2020, and those that `write_weights` wrote. For others, `verify` compares with a known hash.

    Args:
        path: A local file.

    Raises:
        FileNotFoundError: If there is no such file.
        PermissionError: If it may not be read.
        ValueError: If it is an address or a folder, no file of weights, damaged, or holds more than tensors.
    """
    content = read_content(path)
    nested = [content.get(key) for key in _NESTED]
    averaged = [content.get(key) for key in _AVERAGED]
    found = (tensors for part in (*nested, content, *averaged) if (tensors := _tensors_of(part)))
    tensors = next(found, {})
    check_tensors(tensors, path)
    description = content["zoo"] if is_ours(content.get("zoo")) else None
    if description is not None:
        check_description(description, path)
    return WeightFile(tensors, description, Path(path))


def read_content(path: str | os.PathLike[str]) -> dict[str, Any]:
    """All that a file of weights holds, tensors and plain values, unchecked but for damage.

    Args:
        path: A local file.

    Returns:
        The dictionary that `torch.save` was given; of a safetensors file `state_dict` and `zoo`, which may be None.

    Raises:
        FileNotFoundError: If there is no such file.
        PermissionError: If it may not be read.
        ValueError: If it is an address or a folder, no file of weights, damaged, or holds more than that.
    """
    if "://" in str(path):
        raise ValueError(f"'{path}' is an address: weights are read from local files only")
    file = Path(path)
    if file.is_dir():
        raise ValueError(f"'{path}' is a folder: name a file of weights in it")
    if not file.is_file():
        raise FileNotFoundError(f"no file of weights at '{path}'")
    with file.open("rb") as opened:
        beginning = opened.read(512)
        if beginning[8:9] == b"{":
            return read_safetensors(file)
        if not is_torch_file(beginning):
            raise ValueError(f"'{path}' {_other_file(beginning)}")
        content = read_torch(opened, path)
    if not isinstance(content, dict):
        raise ValueError(f"'{path}' holds a {type(content).__name__} and no dictionary of tensors")
    return content


def _other_file(beginning: bytes) -> str:
    """What a file is that is none of ours."""
    if not beginning:
        return "is empty: fetch it again"
    if beginning.lstrip().startswith(b"<"):
        return "is a web page and no file of weights: fetch it again from the address of the file itself"
    if beginning.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS and not the weights themselves: fetch them with git lfs pull"
    return f"is not a checkpoint or another file of weights: it begins with {beginning[:8]!r}"


def _tensors_of(part: object) -> dict[str, Tensor]:
    if not isinstance(part, dict):
        return {}
    tensors = ((key, value) for key, value in part.items() if isinstance(key, str) and isinstance(value, Tensor))
    return {key: value.detach() for key, value in tensors}


def check_tensors(tensors: Mapping[str, Tensor], path: str | os.PathLike[str]) -> None:
    """Raise ValueError, with the file's name, unless tensors are there, and are what a network's weights can be."""
    if not tensors:
        raise ValueError(f"'{path}' has no tensors in it, neither by name nor in {', '.join(_NESTED + _AVERAGED)}")
    for name, tensor in tensors.items():
        if not name.isprintable():
            raise ValueError(f"'{path}' is damaged: a tensor in it is called {name!r}")
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_complex():
            raise ValueError(f"'{path}' has a tensor that is not dense and real: {name}")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ValueError(f"'{path}' is damaged: {name} has more elements, {tensor.numel():,}, than the file")


def verify(path: str | os.PathLike[str], sha256: str, size: int) -> None:
    """Check a file against what is known of it, before anything in it is believed.

    Args:
        path: A local file.
        sha256: The whole hash, 64 hexadecimal digits.
        size: The number of bytes.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is another one.
    """
    found_size = Path(path).stat().st_size
    if found_size != size:
        raise ValueError(
            f"'{path}' is damaged: it has {found_size:,} bytes and not {size:,}; delete it, fetch it again"
        )
    with Path(path).open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != sha256:
        raise ValueError(f"'{path}' is damaged: its SHA-256 is {found} and not {sha256}; delete it, fetch it again")


def write_weights(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write a safetensors file: all of it or, if anything fails, nothing. The same content gives the same bytes.

    Args:
        path: Where; the folder is made if need be.
        tensors: Tensors by name, on any device and with any strides; those that share memory are written one by one.
        description: Facts about the model that JSON can express, as `ImageClassifier.description()` gives them.

    Raises:
        ValueError: If a number in the description is not finite.
        OSError: If the disk is full or the folder cannot be written to.
    """
    parts = safetensors_parts(tensors, json.dumps(description, sort_keys=True, allow_nan=False))
    with atomic_file(path) as file:
        for part in parts:
            file.write(part)


@contextmanager
def atomic_file(path: str | os.PathLike[str], keep: Path | None = None) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` when all is on the disk; on any failure `path` stays as it was.

    Args:
        path: The file to replace.
        keep: Where the file that is replaced is kept; at no moment is there no `path`.

    Raises:
        OSError: If the disk is full or the folder cannot be written to.
    """
    target = Path(path).absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and target.exists():
            _link(target, keep)
        temporary.replace(target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # failed writes do not say of which file
            error.filename = str(path)
        raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself must survive a power cut
    finally:
        os.close(folder)


def _link(file: Path, place: Path) -> None:
    """Let the file be at `place` too, in the place of what is there."""
    beside = place.with_name(f".{place.name}.{os.getpid()}.part")
    beside.unlink(missing_ok=True)
    try:
        os.link(file, beside)
    except OSError:  # a file system without links
        shutil.copyfile(file, beside)
    beside.replace(place)


def remove_unfinished(folder: Path) -> None:
    """Delete what writers that were killed left in the folder."""
    for file in folder.glob(".*.part"):
        file.unlink(missing_ok=True)
