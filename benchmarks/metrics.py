"""The metrics of the tables: what each is called, where a result has it, and how it is shown."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import Any


@dataclass(frozen=True)
class Metric:
    """One column of a table.

    Args:
        key: Its name among a result's metrics, or in a row of its curve.
        unit: %, ms, MB or nothing.
        is_error: Whether the result has the share that is right, and the table shows what is missing to 100 %.
        lower_is_better: Whether a lower value is the better one.
        decimals: Digits after the point.
    """

    key: str
    unit: str = ""
    is_error: bool = False
    lower_is_better: bool = True
    decimals: int = 2

    def shown(self, value: float) -> float:
        """The value as the table has it: shares in percent."""
        if self.unit != "%":
            return value
        return 100 * (1 - value) if self.is_error else 100 * value


def _error(key: str) -> Metric:
    return Metric(key, "%", is_error=True)


def _accuracy(key: str) -> Metric:
    return Metric(key, "%", lower_is_better=False)


METRICS: dict[str, Metric] = {
    "test error": _error("test/acc"),
    "test accuracy": _accuracy("test/acc"),
    "test loss": Metric("test/loss", decimals=4),
    "training error": _error("train/acc"),
    "training accuracy": _accuracy("train/acc"),
    "training loss": Metric("train/loss", decimals=4),
    "validation error": _error("val/acc"),
    "validation accuracy": _accuracy("val/acc"),
    "validation loss": Metric("val/loss", decimals=4),
    "first-epoch accuracy": _accuracy("first/val/acc"),  # on the validation images
    "error on the training images": _error("train_eval/acc"),  # of the final weights, as they are tested
    "gap between test and training error": Metric("gap", "%"),
    "error, Monte-Carlo dropout": _error("monte_carlo/acc"),
    "ECE": Metric("calibration/ece", "%"),
    "ECE after temperature scaling": Metric("calibration/ece_scaled", "%"),
    "temperature": Metric("calibration/temperature", decimals=3),
    "corruption error": _error("corruptions/acc"),
    "gradient of the first layer": Metric("gradients/first", decimals=6, lower_is_better=False),
    "ratio of first to last layer's gradient": Metric("gradients/ratio", decimals=6, lower_is_better=False),
    "top-1 error": _error("top1"),
    "top-5 error": _error("top5"),
    "top-1 accuracy": _accuracy("top1"),
    "top-5 accuracy": _accuracy("top5"),
    "size (MB)": Metric("size_mb", "MB", decimals=1),
    "depth": Metric("depth", decimals=0),
    "parameters": Metric("parameters", decimals=0),
    "CPU ms per inference step": Metric("published only", "ms", decimals=1),
    "ms per step, batch 1": Metric("latency/1", "ms", decimals=1),
    "ms per step, batch 32": Metric("latency/32", "ms", decimals=1),
    "ms per image, batch 32": Metric("latency/32_per_image", "ms", decimals=1),
}


def value_of(result: Mapping[str, Any], name: str) -> float | None:
    """What a result has of a metric, as the table shows it; None if it was not measured.

    A run that diverged is as good as guessing: one class of `num_classes` at random, and the loss of equal odds.
    """
    metric = METRICS[name]
    value = result.get("metrics", {}).get(metric.key)
    if value is None and result["status"] == "diverged" and metric.key.endswith(("/acc", "/loss")):
        classes = result["data"]["num_classes"]
        value = 1 / classes if metric.key.endswith("/acc") else log(classes)
    return None if value is None else metric.shown(value)


def curve_of(result: Mapping[str, Any], name: str) -> list[tuple[int, float]]:
    """(training step, value as the table shows it) at the end of each epoch in which the metric was measured."""
    metric = METRICS[name]
    rows = [(int(row["step"]), row.get(metric.key)) for row in result.get("curve", ())]
    return [(step, metric.shown(value)) for step, value in rows if value is not None]
