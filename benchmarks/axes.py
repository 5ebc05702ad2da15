"""What the figures of the report have in common: lines with bands, styles, axes and legends."""

import textwrap
from collections.abc import Iterable, Sequence
from math import isfinite
from statistics import fmean
from typing import TYPE_CHECKING, Any

from zoo.benchmarks.metrics import METRICS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Points = Iterable[tuple[float, float]]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#999999")
"""Those of Okabe and Ito (https://jfly.uni-koeln.de/color/), which people with every kind of colour vision can tell
apart, but for the yellow that is too faint on white, and with grey."""
MARKERS = ("", "^", "s", "v")  # rows beyond the eighth share a colour and differ in their markers
LINE_HEIGHT = 0.19  # inches, of the 9-point type


def band(axes: "Axes", seeds: Iterable[Points], is_shaded: bool = True, **look: Any) -> None:
    """The mean over the seeds that have a value there as a line; from the least to the greatest of them as a band."""
    found: dict[float, list[float]] = {}
    for place, value in (point for points in seeds for point in points if isfinite(point[1])):
        found.setdefault(place, []).append(value)
    if not found:
        return
    places = sorted(found)
    marker = look.pop("marker", "") or ("o" if len(places) == 1 else "")
    means = [fmean(found[place]) for place in places]
    axes.plot(places, means, marker=marker, markevery=max(1, len(places) // 12), markersize=5, **look)
    if is_shaded and any(len(values) > 1 for values in found.values()):
        low, high = ([end(found[place]) for place in places] for end in (min, max))
        axes.fill_between(places, low, high, color=look["color"], alpha=0.18, linewidth=0)


def style(place: int) -> dict[str, Any]:
    """Colour and marker of a row by its place in the figure, so that rows that come later change none."""
    return {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place // len(COLOURS) % len(MARKERS)]}


def logarithmic(axes: "Axes", which: str) -> None:
    """Make axes logarithmic, with plain numbers; an x of zero keeps a place of its own to the left.

    Args:
        axes: Axes with everything in them.
        which: x, y, xy or nothing.
    """
    from matplotlib.ticker import LogLocator, NullLocator

    if "x" in which:
        least = axes.xaxis.get_minpos()
        axes.set_xscale("symlog", linthresh=least) if axes.dataLim.x0 <= 0 else axes.set_xscale("log")
    if "y" in which:
        axes.set_yscale("log", nonpositive="clip")
    for axis in (axes.xaxis if name == "x" else axes.yaxis for name in which):
        if axis.get_data_interval()[1] < 1e4 * axis.get_minpos():
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(lambda value, _: f"{value:,g}")
            axis.set_minor_locator(NullLocator())


def keep_possible(axes: "Axes", which: str, metric: str, means: Sequence[float]) -> None:
    """Cut the axis where no share can be, if whiskers reach further."""
    low, high = axes.get_xlim() if which == "x" else axes.get_ylim()
    if METRICS[metric].unit != "%" or not means or min(means) < 0:
        return
    limits = max(low, 0.0), min(high, greatest(metric))
    (axes.set_xlim if which == "x" else axes.set_ylim)(*limits)


def greatest(metric: str) -> float:
    """What the metric cannot exceed."""
    return 100.0 if METRICS[metric].unit == "%" else float("inf")


def whole_numbers(axes: "Axes") -> None:
    """Number the x axis in whole steps."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def legend(axes: "Axes") -> None:
    """Names of the lines to the right of the axes, where they hide nothing."""
    handles, labels = axes.get_legend_handles_labels()
    labels = [textwrap.fill(label, 24) for label in labels]
    if any(labels):
        axes.legend(handles, labels, loc="upper left", bbox_to_anchor=(1.01, 1.02), fontsize=9, frameon=False)
        grow(axes, sum(label.count("\n") + 1.1 for label in labels))


def grow(axes: "Axes", lines: float) -> None:
    """Make the picture high enough for so many lines of type."""
    picture = axes.get_figure(root=True)
    if picture is not None:
        picture.set_figheight(max(picture.get_figheight(), 1.5 + LINE_HEIGHT * lines))
