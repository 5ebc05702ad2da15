"""How much memory a batch takes in training, and how much there is: on a CPU, which has no limit of its own."""

import copy
import os
from pathlib import Path

import torch
from torch import Tensor

from zoo.classifier import ImageClassifier

IMAGES = 2
"""In a trial batch: batch normalisation needs two."""


def bytes_per_image(model: ImageClassifier) -> float:
    """About what a training step takes for each image: the values that wait for the backward pass, and as much again.

    The other half is for gradients, of which there is at most one for each value at a time. The model stays as it is.
    """
    network, kept = copy.deepcopy(model).train(), dict[int, int]()
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    images = torch.zeros(IMAGES, model.in_channels, model.image_size, model.image_size)
    with torch.random.fork_rng(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        logits = network(images)  # held until all is counted: what is freed could be counted twice
        total = sum(kept.values()) + logits.nbytes
    return float(2 * total / IMAGES)


def free_memory() -> int | None:
    """Bytes that this process may still take: what the machine has, or its container allows; None if nobody says."""
    meminfo, group = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
    if meminfo.is_file():
        rows = (line.split() for line in meminfo.read_text().splitlines())
        free = next(1024 * int(row[1]) for row in rows if row[0] == "MemAvailable:")
    elif hasattr(os, "sysconf"):
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    else:
        return None
    try:
        left = int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
    except (OSError, ValueError):  # no container, or one without a limit
        return free
    return min(free, left)
