"""Training the last layer alone: what the frozen layers make of each image is computed once, before the run."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from torch import Tensor

from zoo.classifier import ImageClassifier
from zoo.features import can_cache, extract_features


class ImageData(Protocol):
    """What is needed of a data module that has been set up; `zoo.datamodules.ImageDataModule` has it."""

    augment: Any
    is_stream: bool

    @property
    def sizes(self) -> Mapping[str, int]:
        """How many images each split has."""

    def ordered_loader(self, name: str) -> Iterable[Any]:
        """The images of a split in order, without augmentation."""

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Normalise the images."""

    def use_features(self, features: Mapping[str, Tensor]) -> None:
        """Give features in place of images from now on."""


def why_not_cached(model: ImageClassifier, data: ImageData, devices: int = 1) -> str:
    """Why the features of images must be computed anew in every epoch; empty if once is enough."""
    if model.finetune.method != "linear":
        return "more than the last layer is trained"
    if data.augment != "none":
        return "training images are augmented"
    if not model.finetune.freeze_bn:
        return "finetune.freeze_bn is false"
    if model.recipe.mixup or model.recipe.cutmix:
        return "images are mixed"
    if data.is_stream:
        return "the images are a stream"
    if devices > 1:
        return "there are several devices"
    images, _ = data.on_after_batch_transfer(next(iter(data.ordered_loader("train"))), 0)
    return "" if can_cache(model, images) else "this network does something after its last layer"


def cache_features(model: ImageClassifier, data: ImageData, progress: Callable[[int, int], None] | None = None) -> None:
    """Let `Trainer.fit` train the last layer on features that are computed now, with what is frozen run once.

    The result is that of training on images, to rounding. Testing and prediction go on with images.

    Args:
        model: On the device that is to compute, with `finetune` set to linear.
        data: Set up; `use_features({})` undoes this.
        progress: Told how many of how many images are done.

    Raises:
        ValueError: If that would be another training; the message says why.
    """
    if reason := why_not_cached(model, data):
        raise ValueError(f"features cannot be computed once: {reason}")
    names = [name for name in ("train", "val") if name in data.sizes]
    total, done = sum(data.sizes[name] for name in names), 0
    features: dict[str, Tensor] = {}

    def report(now: int) -> None:
        if progress is not None:
            progress(done + now, total)

    for name in names:
        batches = (data.on_after_batch_transfer(batch, 0) for batch in data.ordered_loader(name))
        found = extract_features(model, batches, report)
        features[name], model.feature_shape = found.features, found.shape
        done += len(found.labels)
    data.use_features(features)
