"""What a classifier's last layer is given: features for other learners, and for training the last layer alone."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.classifier import ImageClassifier

ROUNDING = 1e-5
"""Largest difference of logits that counts as rounding, as a part of the largest logit."""


@dataclass(frozen=True)
class Features:
    """What the last layer is given for each image, and the images' labels; on the CPU.

    Attributes:
        features: float32, (N, D).
        labels: int64, (N,).
        shape: The shape of one image's features before they were flattened to D numbers.
    """

    features: Tensor
    labels: Tensor
    shape: tuple[int, ...]


def extract_features(
    model: ImageClassifier,
    batches: Iterable[tuple[Tensor, Tensor]],
    progress: Callable[[int], None] | None = None,
) -> Features:
    """Run the network in evaluation mode up to its last layer, `model.output`, and keep what that layer is given.

    The mode of every layer is afterwards what it was before.

    Args:
        model: The network; nothing in it changes.
        batches: Normalised images (N, C, H, W) with labels (N,).
        progress: Told after each batch how many images are done.

    Raises:
        ValueError: If there are no images, or if no single layer gives the logits.
    """
    features: list[Tensor] = []
    labels: list[Tensor] = []
    shape: tuple[int, ...] = ()
    done = 0
    with _evaluating(model), torch.no_grad():
        for images, batch_labels in batches:
            _, caught = _run(model, images)
            if caught is None:
                raise ValueError(f"no single layer gives the logits of {type(model).__name__}: it has no features")
            shape = tuple(caught.shape[1:])
            features.append(caught.flatten(1).float().cpu())
            labels.append(batch_labels.cpu())
            done += len(images)
            if progress is not None:
                progress(done)
    if not done:
        raise ValueError("there are no images to take features of")
    return Features(torch.cat(features), torch.cat(labels), shape)


def logits_from_features(model: ImageClassifier, features: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Logits (N, num_classes) of features (N, D) that `extract_features` gave, with the shape that it said."""
    logits: Tensor = model.output(features.to(model.dtype).reshape(len(features), *shape))
    return logits.flatten(1)


def can_cache(model: ImageClassifier, images: Tensor) -> bool:
    """Whether the last layer makes of the features of these normalised images (N, C, H, W) the network's own logits.

    Not so in a network with several last layers, or in one that does something after its last layer.
    """
    with _evaluating(model), torch.no_grad():
        logits, caught = _run(model, images)
        if caught is None:
            return False
        cached = logits_from_features(model, caught.flatten(1).float(), tuple(caught.shape[1:]))
    return cached.shape == logits.shape and bool((cached - logits).abs().max() <= ROUNDING * logits.abs().max())


def _run(model: ImageClassifier, images: Tensor) -> tuple[Tensor, Tensor | None]:
    """The logits, and what the last layer was given; None if it was not called."""
    caught: list[Tensor] = []
    handle = model.output.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    try:
        logits: Tensor = model(images.to(model.device).to(model.dtype))
    finally:
        handle.remove()
    return logits, caught[-1] if caught else None


@contextmanager
def _evaluating(model: ImageClassifier) -> Iterator[None]:
    """Evaluation mode; afterwards each layer's own, since frozen ones may differ from the rest."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, was_training in modes:
            module.training = was_training
