"""The curve of a test of learning rates: the loss against the rate, and where it falls fastest."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.cli.output import replacing

SMOOTHING = 0.98
"""Of Lightning's moving average of the loss."""
FIRST_POINTS, REACH = 10, 2
"""Points of the curve that say too little, and how many on each side of a point decide how steep it is there."""


@dataclass(frozen=True)
class Curve:
    """What a test of rates saw.

    Args:
        rates: Those that were tried, growing.
        losses: At each, the moving average of the training loss.
        suggestion: The rate at which it falls fastest.
    """

    rates: list[float]
    losses: list[float]
    suggestion: float


def unbiased(losses: Sequence[float]) -> list[float]:
    """Lightning's moving averages, up to where one is no number, divided by the weight that they have so far.

    Lightning 2.6 divides by that of one step more: its first average is half the loss, and the curve seems to rise.
    """
    finite = next((place for place, loss in enumerate(losses) if not math.isfinite(loss)), len(losses))
    weights = [1 - SMOOTHING ** (step + 1) for step in range(finite + 1)]
    return [loss * weights[step + 1] / weights[step] for step, loss in enumerate(losses[:finite])]


def steepest(losses: Sequence[float]) -> int | None:
    """Where the loss falls fastest on a logarithmic axis of rates (Smith 2017, section 3.3), before it is least.

    Lightning's own suggestion goes by the fall for each unit of the rate, which is largest where the rate is tiny and
    noise is all there is to see: 5.6e-05 for LeNet-5 on the digits, whose recipe has 0.002.
    """
    last = min(losses.index(min(losses)) + 1, len(losses) - REACH) if losses else 0
    falls = {place: losses[place - REACH] - losses[place + REACH] for place in range(FIRST_POINTS, last)}
    best = max(falls, key=lambda place: falls[place], default=None)
    return best if best is not None and falls[best] > 0 else None


def draw(curve: Curve, before: float, title: str, path: Path) -> None:
    """The loss against the rate, with the suggestion and the rate of the recipe marked."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot(curve.rates, curve.losses, color="#0072B2")
    there = curve.losses[curve.rates.index(curve.suggestion)]
    axes.plot(curve.suggestion, there, "o", color="#D55E00", label=f"suggestion: {curve.suggestion:.2g}")
    axes.axvline(before, color="0.5", linestyle=":", label=f"recipe: {before:g}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss, moving average", title=title)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    with replacing(path, "wb") as file:
        figure.savefig(file, format="png", dpi=120)
