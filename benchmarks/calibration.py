"""Calibration: whether a network that is 80 % sure is right in 80 % of the cases (Guo et al. 2017).

C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, On Calibration of Modern Neural Networks, ICML 2017, arXiv:1706.04599.
"""

from math import exp, log
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.benchmarks.passes import Answers, answers
from zoo.classifier import ImageClassifier
from zoo.datamodules import ImageDataModule

BINS = 15
LARGEST_TEMPERATURE = 100.0
"""Where the search ends, and at one over it: a network that is right of all validation images has none that is best."""

Diagram = dict[str, list[float]]


def calibration(model: ImageClassifier, data: ImageDataModule) -> tuple[dict[str, float], dict[str, Diagram]]:
    """Expected calibration error and cross-entropy on the test images, before and after temperature scaling.

    The temperature is the one with the least cross-entropy on the validation images.

    Returns:
        `calibration/ece`, `calibration/ece_scaled` (shares), `calibration/temperature`, `calibration/nll`,
        `calibration/nll_scaled` (nats); the reliability diagrams `before` and `after`.

    Raises:
        ValueError: There are no validation images.
    """
    heat = temperature(answers(model, data, "val"))
    test = answers(model, data, "test")
    scaled = Answers(test.logits.double() / heat, test.labels)
    return {
        "calibration/ece": ece(test),
        "calibration/ece_scaled": ece(scaled),
        "calibration/temperature": heat,
        "calibration/nll": test.loss,
        "calibration/nll_scaled": scaled.loss,
    }, {"before": reliability(test), "after": reliability(scaled)}


def temperature(answers: Answers) -> float:
    """What the logits are divided by for the least cross-entropy: from 1 / `LARGEST_TEMPERATURE` to that."""
    from scipy.optimize import minimize_scalar

    logits = answers.logits.double()

    def loss(log_temperature: float) -> float:
        return float(F.cross_entropy(logits / exp(log_temperature), answers.labels))

    # The cross-entropy is convex in one over the temperature: there is one minimum.
    most = log(LARGEST_TEMPERATURE)
    found = minimize_scalar(loss, bounds=(-most, most), method="bounded", options={"xatol": 1e-6})
    return exp(float(found.x))


def ece(answers: Answers) -> float:
    """The expected calibration error as a share: |accuracy - confidence| of `BINS` equal bins, weighted by images.

    torchmetrics gives confidences of exactly 1 a bin of their own; here as in the paper they are in the last one.
    """
    bins = {name: torch.tensor(values, dtype=torch.float64) for name, values in reliability(answers).items()}
    return float(((bins["accuracy"] - bins["confidence"]).abs() * bins["count"]).sum() / len(answers.labels))


def reliability(answers: Answers) -> Diagram:
    """The reliability diagram: mean confidence, accuracy and number of images of each bin, 0 where there is none."""
    confidence, predicted = answers.logits.double().softmax(dim=1).max(dim=1)
    is_right = (predicted == answers.labels).double()
    inner = torch.linspace(0, 1, BINS + 1, dtype=torch.float64)[1:-1]
    bins = torch.bucketize(confidence, inner)  # each bin with its upper end, without its lower one
    count = torch.bincount(bins, minlength=BINS)

    def mean(values: Tensor) -> Any:
        return (torch.bincount(bins, values, minlength=BINS) / count.clamp(min=1)).tolist()

    return {"confidence": mean(confidence), "accuracy": mean(is_right), "count": count.tolist()}
