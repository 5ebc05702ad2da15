"""How many images the trained network classifies as it should, besides what the test itself counts."""

from zoo.benchmarks.passes import answers, share
from zoo.classifier import ImageClassifier
from zoo.datamodules import ImageDataModule


def train_eval(model: ImageClassifier, data: ImageDataModule) -> tuple[dict[str, float], None]:
    """Accuracy and loss on the training images without augmentation, dropout or batch statistics, and the test's gap.

    Returns:
        `train_eval/acc`; `train_eval/loss`, the cross-entropy in nats; `gap`, by how much the accuracy is above that on
        the test images.
    """
    train, test = answers(model, data, "train"), answers(model, data, "test")
    gap = train.accuracy - test.accuracy
    return {"train_eval/acc": train.accuracy, "train_eval/loss": train.loss, "gap": gap}, None


def topk(model: ImageClassifier, data: ImageDataModule) -> tuple[dict[str, float], None]:
    """The share of test images whose class is the network's first guess, and one of its first five.

    Returns:
        `top1` and `top5`; with five classes or fewer, `top5` is 1.
    """
    test = answers(model, data, "test")
    guesses = test.logits.topk(min(5, test.logits.shape[1]), dim=1).indices
    is_right = guesses == test.labels[:, None]
    return {"top1": share(is_right[:, 0]), "top5": share(is_right.any(dim=1))}, None
