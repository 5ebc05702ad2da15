"""Files of weights: read any of them without running code, check them, write our own.

A safetensors file is a length, a JSON header and the values; ours have the model's description in the header. torch's
own files are pickles, which can name any function: they are read with torch's restricted unpickler, which knows tensors
and plain values only.
"""

import hashlib
import json
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from zoo.description import check_description, is_ours

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
    is no tensor is left out. Values are not checked for bit rot, which only a hash can find: see `verify`.

    Args:
        path: A local file.

    Raises:
        FileNotFoundError: If there is no such file.
        PermissionError: If it may not be read.
        ValueError: If it is an address or a folder, no file of weights, damaged, or holds more than tensors.
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
            tensors, description = _read_safetensors(file)
        elif beginning.startswith(b"PK\x03\x04") or re.match(rb"\x80[\x02-\x05]", beginning):
            opened.seek(0)
            tensors, description = _read_torch(opened, path)
        else:
            raise ValueError(f"'{path}' {_other_file(beginning)}")
    _check_tensors(tensors, path)
    if description is not None:
        check_description(description, path)
    return WeightFile(tensors, description, file)


def _other_file(beginning: bytes) -> str:
    """What a file is that is none of ours."""
    if not beginning:
        return "is empty: fetch it again"
    if beginning.lstrip().startswith(b"<"):
        return "is a web page and no file of weights: fetch it again from the address of the file itself"
    if beginning.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS and not the weights themselves: fetch them with git lfs pull"
    return f"is neither a safetensors file nor one that torch.save wrote: it begins with {beginning[:8]!r}"


def _read_safetensors(file: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    from safetensors import safe_open  # it imports nothing else, but only few commands need it

    with file.open("rb") as opened:
        header_end = 8 + int.from_bytes(opened.read(8), "little")
    if header_end > (size := file.stat().st_size):
        raise ValueError(f"'{file}' is truncated or damaged: its header would end at byte {header_end:,} of {size:,}")
    try:
        with safe_open(file, framework="pt", device="cpu") as opened_tensors:
            tensors = {name: opened_tensors.get_tensor(name) for name in opened_tensors.keys()}  # noqa: SIM118  no mapping
            description = json.loads((opened_tensors.metadata() or {}).get("zoo", "null"))
    except Exception as error:  # what is raised depends on the damage
        raise ValueError(f"'{file}' is truncated or damaged: its header does not fit its content") from error
    return tensors, description if is_ours(description) else None


def _read_torch(opened: BinaryIO, path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old or foreign formats: what does not load is refused below
            # Said explicitly, weights_only cannot be turned off by TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD.
            content = torch.load(opened, map_location="cpu", weights_only=True)
    except Exception as error:  # what is raised depends on the damage
        raise ValueError(f"'{path}' {_torch_fault(str(error))}") from error
    if not isinstance(content, dict):
        raise ValueError(f"'{path}' holds a {type(content).__name__} and no dictionary of tensors")
    nested = [content.get(key) for key in _NESTED]
    averaged = [content.get(key) for key in _AVERAGED]
    found = (tensors for part in (*nested, content, *averaged) if (tensors := _tensors_of(part)))
    return next(found, {}), content["zoo"] if is_ours(content.get("zoo")) else None


def _torch_fault(message: str) -> str:
    """What is wrong with a file that torch does not load."""
    remedy = "save the model's state_dict() alone"
    if "TorchScript" in message:
        return f"is a TorchScript program, which holds more than tensors: {remedy}"
    if name := re.search(r"GLOBAL ([\w.]+)", message):
        return f"holds more than tensors, {name[1]} for one, and was not loaded, since that can run code: {remedy}"
    return "is truncated or damaged, or holds more than tensors"


def _tensors_of(part: object) -> dict[str, Tensor]:
    if not isinstance(part, dict):
        return {}
    tensors = ((key, value) for key, value in part.items() if isinstance(key, str) and isinstance(value, Tensor))
    return {key: value.detach() for key, value in tensors}


def _check_tensors(tensors: Mapping[str, Tensor], path: str | os.PathLike[str]) -> None:
    if not tensors:
        raise ValueError(f"'{path}' has no tensors in it, neither by name nor in {', '.join(_NESTED + _AVERAGED)}")
    for name, tensor in tensors.items():
        if not name.isprintable():
            raise ValueError(f"'{path}' is damaged: a tensor in it is called {name!r}")
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_complex():
            raise ValueError(f"'{path}' has a tensor that is not dense and real: {name}")


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
    from safetensors.torch import save

    facts = json.dumps(description, sort_keys=True, allow_nan=False)
    separate = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    data = save(separate, {"format": "pt", "zoo": facts})
    end = 8 + int.from_bytes(data[:8], "little")
    # safetensors writes the metadata in random order.
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the values start at a multiple of 8
    with atomic_file(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.write(memoryview(data)[end:])


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` when all is on the disk; on any failure `path` stays as it was.

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
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself must survive a power cut
    finally:
        os.close(folder)
