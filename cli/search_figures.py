"""Two pictures of a search: what its trials reached one after the other, and which settings went with it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.benchmarks.axes import COLOURS, whole_numbers
from zoo.cli.output import replacing
from zoo.cli.search_space import Range, Varied

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TICKS = 3
"""Numbers written along the axis of a range."""
HEIGHT = 4.0  # inches


@dataclass(frozen=True)
class Point:
    """A trial, as the pictures show it.

    Args:
        number: Of the trial.
        values: The settings that were varied, as they are typed.
        reached: What is monitored, at its best epoch, as the tables show it.
        is_finished: Whether it ran to its end; else it was stopped early.
    """

    number: int
    values: tuple[str, ...]
    reached: float
    is_finished: bool


def history(points: Sequence[Point], label: str, is_maximised: bool, path: Path) -> None:
    """Draw what each trial reached, and the best of the finished ones so far.

    Args:
        points: The trials, in any order.
        label: What is monitored, with its unit.
        is_maximised: Whether more of it is better.
        path: The PNG.
    """
    figure, axes = _figure(7.5)
    ordered = sorted(points, key=lambda point: point.number)
    for is_finished, name, fill in ((True, "finished", COLOURS[0]), (False, "stopped early", "none")):
        chosen = [(point.number, point.reached) for point in ordered if point.is_finished == is_finished]
        if chosen:
            axes.plot(*zip(*chosen, strict=True), "o", color=COLOURS[0], markerfacecolor=fill, label=name)
    finished = [point for point in ordered if point.is_finished]
    choose = max if is_maximised else min
    best = [choose(point.reached for point in finished[: place + 1]) for place in range(len(finished))]
    steps = [*(point.number for point in finished), ordered[-1].number]
    axes.step(steps, [*best, best[-1]], where="post", color=COLOURS[1], label="best so far", zorder=1)
    axes.set(xlabel="trial", ylabel=label)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    whole_numbers(axes)
    _save(figure, path)


def parallel(points: Sequence[Point], varied: Sequence[Varied], label: str, is_maximised: bool, path: Path) -> None:
    """Draw a line for each trial through its settings to what it reached; the best is bold.

    Args:
        points: The trials, in any order.
        varied: What was varied: one axis for each.
        label: What is monitored, with its unit: the last axis.
        is_maximised: Whether more of it is better.
        path: The PNG.
    """
    from matplotlib import colormaps

    figure, axes = _figure(max(5.0, 1.9 * (len(varied) + 1)))
    reached = [point.reached for point in points]
    scale = Range(label, min(reached), max(reached))
    ordered = sorted(points, key=lambda point: point.reached, reverse=not is_maximised)  # the best on top
    for point in ordered:
        last = place(scale, str(point.reached))
        heights = [*(place(one, value) for one, value in zip(varied, point.values, strict=True)), last]
        colour = colormaps["viridis_r"](last if is_maximised else 1 - last)
        axes.plot(heights, color=colour, linewidth=3.0 if point is ordered[-1] else 1.0)
    behind = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5}
    for column, one in enumerate([*varied, scale]):
        axes.axvline(column, color="0.3", linewidth=0.8)
        for height, text in ticks(one):
            axes.annotate(text, (column, height), (4, 0), "data", "offset points", fontsize=8, va="center", bbox=behind)
    axes.set_xticks(range(len(varied) + 1), [*(one.name for one in varied), label])
    axes.set(yticks=[], xlim=(-0.1, len(varied) + 0.3))
    axes.spines[:].set_visible(False)
    _save(figure, path)


def place(one: Varied, value: str) -> float:
    """Where a value is on its axis: from 0 at the bottom to 1 at the top."""
    if not isinstance(one, Range):
        return one.values.index(value) / (len(one.values) - 1)
    low, high, there = (math.log(x) if one.is_log else x for x in (one.low, one.high, float(value)))
    return (there - low) / (high - low) if high > low else 0.5


def ticks(one: Varied) -> list[tuple[float, str]]:
    """The places that are named on an axis, and their names."""
    if not isinstance(one, Range):
        return [(place(one, value), value) for value in one.values]
    if one.low == one.high:
        return [(0.5, f"{one.low:.4g}")]
    shares = [tick / (TICKS - 1) for tick in range(TICKS)]
    if one.is_log:
        return [(share, f"{one.low * (one.high / one.low) ** share:.3g}") for share in shares]
    return [(share, f"{one.low + (one.high - one.low) * share:.4g}") for share in shares]


def _figure(width: float) -> "tuple[Figure, Axes]":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, HEIGHT), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def _save(figure: "Figure", path: Path) -> None:
    with replacing(path, "wb") as file:
        figure.savefig(file, format="png", dpi=110)
