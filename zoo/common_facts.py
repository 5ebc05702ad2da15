"""Facts that several families share."""

from zoo.registry import Deviation, PublishedResult

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
