"""`MEASURES`: what else a run can measure of its network, by the names that a suite's `measure` lists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.classifier import ImageClassifier
    from zoo.datamodules import ImageDataModule

    MeasureFunction = Callable[[ImageClassifier, ImageDataModule], tuple[dict[str, float], Any]]


@dataclass(frozen=True)
class Measure:
    """Something that is measured of a network.

    Args:
        function: Told the network and its data, which is set up, it gives metrics and plain values for JSON, or None.
            It leaves the network as it was. What is random in it depends on the seed of the run alone.
        before: Whether it is of the fresh network, before training, rather than of the weights that are tested.
    """

    function: MeasureFunction
    before: bool = False


def _in(module: str, name: str) -> MeasureFunction:
    """A function of `zoo.benchmarks`, imported when it is called: the names alone need no torch."""

    def measure(model: ImageClassifier, data: ImageDataModule) -> tuple[dict[str, float], Any]:
        found: tuple[dict[str, float], Any] = getattr(import_module(f"zoo.benchmarks.{module}"), name)(model, data)
        return found

    return measure


MEASURES: dict[str, Measure] = {
    "gradients": Measure(_in("signals", "gradients"), before=True),
    "activations": Measure(_in("signals", "activations"), before=True),
    "train_eval": Measure(_in("accuracy", "train_eval")),
    "topk": Measure(_in("accuracy", "topk")),
    "calibration": Measure(_in("calibration", "calibration")),
    "monte_carlo": Measure(_in("monte_carlo", "monte_carlo")),
    "corruptions": Measure(_in("robustness", "corruptions")),
    "latency": Measure(_in("latency", "latency")),
}
