"""Facts that several families share."""

from zoo.recipe import Recipe
from zoo.registry import Deviation, PublishedResult

CONVOLUTIONAL = Recipe(
    optimizer="adamw",
    lr=3e-4,
    weight_decay=0.01,
    schedule="cosine",
    warmup_epochs=1,
    batch_size=32,
    epochs=15,
    gradient_clip=1.0,
    source="chosen here on the embedded digits",
)
"""Where the default recipes of the deeper networks start from; each has a rate and a length of its own."""
MEAN_ONLY = Deviation(
    "images are normalised by the mean and the deviation of each channel", "the paper subtracts the mean only"
)
AUGMENTATION = Deviation(
    "training images are changed as the data set's own policy says",
    "the paper cuts 224 x 224 out of larger images, mirrors them and changes their colours",
)


def torchvision_accuracy(top1: str, top5: str = "") -> tuple[PublishedResult, ...]:
    """ImageNet accuracies in % of torchvision's first weights."""
    source = "torchvision weights IMAGENET1K_V1, single 224 crop"
    results = (("ImageNet top-1 accuracy", top1), ("ImageNet top-5 accuracy", top5))
    return tuple(PublishedResult(metric, text, "%", source) for metric, text in results if text)
