"""Accuracy on corrupted test images."""

import numpy as np
import torch

from zoo.benchmarks.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from zoo.benchmarks.passes import evaluating, prepare, raw_batches, run_seed
from zoo.classifier import ImageClassifier
from zoo.datamodules import ImageDataModule

IMAGES = 1000
"""Of the test images, the first so many: each is classified 65 times."""


def corruptions(
    model: ImageClassifier, data: ImageDataModule, images: int = IMAGES
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Accuracy on test images that are corrupted in 13 ways at 5 severities, see `zoo.benchmarks.corruptions`.

    Not to be compared with results on the files of CIFAR-10-C cell by cell: the corruptions are made here, of the first
    test images alone.

    Args:
        model: The trained network.
        data: Its data.
        images: How many of the test images, from the first.

    Returns:
        `corruptions/acc`, the mean over kinds and severities; for each kind, the accuracy at severity 1 to 5.
    """
    correct, done = np.zeros((len(CORRUPTIONS), len(SEVERITIES)), dtype=np.int64), 0
    with evaluating(model):
        for batch, (pixels, labels) in enumerate(raw_batches(data, "test", images)):
            for kind, name in enumerate(CORRUPTIONS):
                for severity in SEVERITIES:
                    random = np.random.default_rng((run_seed(), kind, severity, batch))
                    changed = torch.from_numpy(corrupt(pixels.numpy(), name, severity, random))
                    guesses = model(prepare(model, data, changed)).argmax(dim=1).cpu()
                    correct[kind, severity - 1] += int((guesses == labels).sum())
            done += len(labels)
    accuracies = correct / done
    return {"corruptions/acc": float(accuracies.mean())}, dict(zip(CORRUPTIONS, accuracies.tolist(), strict=True))
