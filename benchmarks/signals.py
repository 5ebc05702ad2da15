"""Signals in a fresh network: how large what goes forward and what comes back is in each layer.

Both are taken from a copy of the network in training mode, with dropout and the statistics of the batch, and leave the
network, its modes and torch's random numbers as they were.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.benchmarks.passes import batches, finite, or_none, run_seed
from zoo.classifier import ImageClassifier
from zoo.datamodules import ImageDataModule
from zoo.seeds import mixed_seed

IMAGES = 256
"""Of the training images, the first so many, in one batch."""


def gradients(model: ImageClassifier, data: ImageDataModule) -> tuple[dict[str, float], list[float | None]]:
    """The size of the gradient of each weight before training: vanishing or exploding from output to input.

    For each parameter of two or more dimensions, in the order in which the network lists them, which is from input to
    output: the L2 norm of the gradient of the mean cross-entropy, divided by the root of the number of its elements.

    Returns:
        `gradients/first`, `gradients/ratio` (first over last), and the list. A value that is no number is left out, or
        None in the list.
    """
    with _training_copy(model) as network:
        images, labels = next(batches(network, data, "train", IMAGES))
        loss: Any = F.cross_entropy(network(images).float(), labels)
        loss.backward()
    weights = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    # Squares of the gradients behind 20 sigmoids are too small for float32.
    sizes = [float(weight.grad.double().norm()) / sqrt(weight.numel()) for weight in weights if weight.grad is not None]
    first, last = sizes[0], sizes[-1]
    ratio = first / last if last else float("nan")
    return finite({"gradients/first": first, "gradients/ratio": ratio}), or_none(sizes)


def activations(model: ImageClassifier, data: ImageDataModule) -> tuple[dict[str, float], list[float | None]]:
    """The standard deviation of the output of each convolution and linear layer before training.

    It is over images, channels and places, before the activation function, in the order in which the layers are run.

    Returns:
        No metrics, and the list; None in it for a value that is no number.
    """
    sizes: list[float] = []

    def note(_: nn.Module, __: Any, output: Tensor) -> None:
        sizes.append(float(output.double().std(correction=0)))

    with _training_copy(model) as network, torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.register_forward_hook(note)
        network(next(batches(network, data, "train", IMAGES))[0])
    return {}, or_none(sizes)


@contextmanager
def _training_copy(model: ImageClassifier) -> Iterator[ImageClassifier]:
    """A copy in training mode, with random numbers that depend on the seed of the run alone."""
    trainer, model._trainer = model._trainer, None  # not to be copied
    try:
        network = copy.deepcopy(model).train()
    finally:
        model._trainer = trainer
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(mixed_seed(run_seed()))
        yield network
