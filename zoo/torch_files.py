"""Files that `torch.save` wrote, read without running code and without believing damaged values.

They are pickles, which can name any function: torch's restricted unpickler knows tensors and plain values only. Since
torch 1.6 they are zip files with a check sum of every part. torch does not compare it, so that a flipped bit would be
another weight; here it is compared first, in pieces of 1 MiB.
"""

import os
import re
import warnings
import zipfile
from typing import Any, BinaryIO

import torch

_PIECE = 2**20
_END, _END_LENGTH = b"PK\x05\x06", 22
"""How the last record of a zip begins, and its length: torch writes no comment after it."""


def is_torch_file(beginning: bytes) -> bool:
    """Whether a file that begins so could be one that `torch.save` wrote, now or before 2020."""
    return beginning.startswith(b"PK\x03\x04") or re.match(rb"\x80[\x02-\x05]", beginning) is not None


def read_torch(opened: BinaryIO, path: str | os.PathLike[str]) -> Any:
    """What `torch.save` was given: plain values, and tensors on the CPU.

    Args:
        opened: The file.
        path: Its name, for messages.

    Raises:
        ValueError: If the file is damaged or holds more than that.
    """
    opened.seek(0)
    if opened.read(2) == b"PK":
        _check_parts(opened, path)
    opened.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old or foreign formats: what does not load is refused below
            # Said explicitly, weights_only cannot be turned off by TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD.
            return torch.load(opened, map_location="cpu", weights_only=True)
    except Exception as error:  # what is raised depends on the damage
        raise ValueError(f"'{path}' {_fault(str(error))}") from error


def _check_parts(opened: BinaryIO, path: str | os.PathLike[str]) -> None:
    try:
        with zipfile.ZipFile(opened) as archive:
            fault = _fault_of(archive)
            opened.seek(-_END_LENGTH, os.SEEK_END)
            if opened.read(4) != _END:
                fault = fault or "something stands after its end"
    except zipfile.BadZipFile as error:
        what = str(error) if "CRC" in str(error) else "its table of contents does not fit it"
        raise ValueError(f"'{path}' is truncated or damaged: {what}") from error
    except Exception as error:  # what is raised depends on the damage
        raise ValueError(f"'{path}' is truncated or damaged, or holds more than tensors") from error
    if fault:
        raise ValueError(f"'{path}' is damaged: {fault}")


def _fault_of(archive: zipfile.ZipFile) -> str:
    """What is wrong with the parts of a file, so that torch could read something else than was written."""
    parts = archive.infolist()
    names = {part.filename for part in parts}
    if any(name.endswith("/constants.pkl") for name in names):
        return ""  # a TorchScript program: torch refuses it unread
    if len(names) < len(parts):
        return "two of its parts have the same name"
    if min(part.header_offset for part in parts) != 0:
        return "something stands before its first part"
    if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
        return "its parts are compressed, which torch.save never does"
    if any(part.CRC for part in parts):  # torch can be told to write none
        for part in parts:
            with archive.open(part) as content:
                while content.read(_PIECE):  # the last piece compares the sum
                    pass
    return ""


def _fault(message: str) -> str:
    """What is wrong with a file that torch does not load."""
    remedy = "save the model's state_dict() alone"
    if "TorchScript" in message:
        return f"is a TorchScript program, which holds more than tensors: {remedy}"
    if name := re.search(r"GLOBAL ([\w.]+)", message):
        return f"holds more than tensors, {name[1]} for one, and was not loaded, since that can run code: {remedy}"
    return "is truncated or damaged, or holds more than tensors"
