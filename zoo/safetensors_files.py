"""Safetensors files: a length, a JSON header and the values, in which nothing can be run.

The format does not notice a flipped bit in the values. Ours have a SHA-256 of their content in the header, beside the
model's description.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_DESCRIPTION, _DIGEST = "zoo", "zoo_sha256"


def read_safetensors(file: Path) -> dict[str, Any]:
    """The tensors in a file as `state_dict`, and as `zoo` what `safetensors_parts` was told of the model, or None.

    Raises:
        ValueError: If the file is damaged.
    """
    from safetensors import safe_open  # it imports nothing else, but only few commands need it

    with file.open("rb") as opened:
        header_end = 8 + int.from_bytes(opened.read(8), "little")
    if header_end > (size := file.stat().st_size):
        raise ValueError(f"'{file}' is truncated or damaged: its header would end at byte {header_end:,} of {size:,}")
    try:
        with safe_open(file, framework="pt", device="cpu") as opened_tensors:
            tensors = {name: opened_tensors.get_tensor(name) for name in opened_tensors.keys()}  # noqa: SIM118  no mapping
            metadata = opened_tensors.metadata() or {}
        facts = metadata.get(_DESCRIPTION, "null")
        description = json.loads(facts)
    except Exception as error:  # what is raised depends on the damage
        raise ValueError(f"'{file}' is truncated or damaged: its header does not fit its content") from error
    if metadata.get(_DIGEST) not in (None, _digest(facts, tensors)):  # files of others, and our older ones, have none
        raise ValueError(f"'{file}' is damaged: its content does not have the SHA-256 that it gives")
    return {"state_dict": tensors, "zoo": description}


def safetensors_parts(tensors: Mapping[str, Tensor], facts: str) -> tuple[bytes, memoryview]:
    """Header and values of a file; the same content gives the same bytes.

    Args:
        tensors: Tensors by name, on any device and with any strides; those that share memory are written one by one.
        facts: What is to be known of the model, as JSON.
    """
    from safetensors.torch import save

    separate = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    data = save(separate, {"format": "pt", _DESCRIPTION: facts, _DIGEST: _digest(facts, separate)})
    end = 8 + int.from_bytes(data[:8], "little")
    # safetensors writes the metadata in random order.
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the values start at a multiple of 8
    return len(text).to_bytes(8, "little") + text, memoryview(data)[end:]


def _digest(facts: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of a description, and of each tensor's name, kind, shape and values."""
    digest = hashlib.sha256(facts.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
