"""Pictures of the report, drawn from the results of a suite: curves, bars, against a quantity, layer by layer.

The curves follow He et al. 2016 (https://arxiv.org/abs/1512.03385), Fig. 6: "dashed lines denote training error, and
bold lines denote testing error".
"""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from io import BytesIO
from typing import TYPE_CHECKING

from zoo.benchmarks.axes import COLOURS, band, greatest, grow, keep_possible, legend, logarithmic, style, whole_numbers
from zoo.benchmarks.metrics import METRICS, curve_of
from zoo.benchmarks.results import Result
from zoo.benchmarks.statistics import Sample, describe, measured_results, seed_values
from zoo.benchmarks.suite import Figure, Row, Suite
from zoo.benchmarks.verdicts import parse_published

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Picture

Drawn = Sequence[tuple[Row, Sequence[Result]]]

DPI = 110
MOST_TICKS = 8
"""So many places of the rows are named on an axis, one by one."""
WIDTH = 900 / DPI  # inches: as wide as the page shows it
SPREAD = "Lines: mean; bands: least to greatest of the seeds."
LAYERS = {
    "gradients": "root mean square of the gradient",
    "activations": "standard deviation of the outputs",
}
"""What is measured in each layer, by its name in a result's `extra`."""


def default_figures(suite: Suite) -> tuple[Figure, ...]:
    """What is drawn when a suite lists no figures: the learning curves of its main metric, if it has any, and bars."""
    curve = suite.metric.replace("test ", "validation ")
    bars = Figure("bars", suite.metric)
    if curve not in METRICS or METRICS[curve].key not in ("val/acc", "val/loss", "train/acc", "train/loss"):
        return (bars,)
    return Figure("curves", curve), bars


def draw(suite: Suite, size: str, figure: Figure, results_by_row: Mapping[str, Sequence[Result]]) -> "Picture | None":
    """Draw one figure of a suite.

    Args:
        suite: The suite: its rows give the order, the labels and the published values.
        size: The size at which the results were measured.
        figure: What to draw.
        results_by_row: The results of each row, one for each seed, by the name of the row.

    Returns:
        The picture, or None if no result has what it shows.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Picture

    chosen = [row for row in suite.rows if fnmatchcase(row.name, figure.rows)]
    rows = [(row, measured_results(results_by_row.get(row.name, ()))) for row in chosen]
    picture = Picture(figsize=(WIDTH, 4.4))
    picture.set_layout_engine("constrained", w_pad=0.08, h_pad=0.08)  # inches
    FigureCanvasAgg(picture)
    axes = picture.subplots()
    title, marks, spread = DRAWERS[figure.kind](axes, figure, rows)
    if not axes.has_data():
        return None
    title = textwrap.fill(figure.title or title, 85)
    picture.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    counts = sorted({len(found) for _, found in rows if found})
    sentences = f"{suite.name}, size {size}, {_seeds(counts)}.", marks, spread if counts[-1] > 1 else ""
    note = " ".join(sentence for sentence in sentences if sentence)
    picture.supxlabel(textwrap.fill(note, 125), x=0.01, ha="left", fontsize=9, color="0.35")
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return picture


def png(picture: "Picture") -> bytes:
    """The picture as a PNG, 900 pixels wide; the same bytes each time that it is drawn."""
    file = BytesIO()
    picture.savefig(file, dpi=DPI, format="png", metadata={"Software": None})
    return file.getvalue()


def _curves(axes: "Axes", figure: Figure, rows: Drawn) -> tuple[str, str, str]:
    """A metric against the training steps, and with few rows the training error beside that of other images."""
    metrics = {row.name: _measured(figure.metric, results) for row, results in rows}
    shown = " or ".join(sorted({name for name in metrics.values() if name}))
    is_few = len(rows) <= len(COLOURS)
    is_paired = is_few and figure.metric in ("test error", "validation error")
    for place, (row, results) in enumerate(rows):
        if metric := metrics[row.name]:
            label = _label(row, results) if metric == shown else f"{_label(row, results)} ({metric})"
            curves = [curve_of(result, metric) for result in results]
            band(axes, curves, label=label, linewidth=2.2 if is_few else 1.5, **style(place))
            if is_paired:
                training = [curve_of(result, "training error") for result in results]
                thin = {"linewidth": 0.9, "linestyle": "--", "markerfacecolor": "none", "color": COLOURS[place]}
                band(axes, training, is_shaded=False, **thin)
    axes.set(xlabel="training steps", ylabel=_with_unit(figure.metric, shown))
    whole_numbers(axes)
    logarithmic(axes, figure.log)
    legend(axes)
    pair = f"Bold: {shown}; dashed: training error." if is_paired else ""
    return f"{_capital(shown)} during training", pair, SPREAD


def _measured(metric: str, results: Sequence[Result]) -> str:
    """The metric, or its twin of the images that these runs did test during training; empty if there is neither."""
    kind, _, what = metric.partition(" ")
    twin = {"validation": f"test {what}", "test": f"validation {what}"}.get(kind, metric)
    return next((name for name in (metric, twin) if any(curve_of(result, name) for result in results)), "")


def _bars(axes: "Axes", figure: Figure, rows: Drawn) -> tuple[str, str, str]:
    """A metric of each row, the published value of the same metric beside it."""
    metric = METRICS[figure.metric]
    found = [(row, results, _sample(results, figure.metric)) for row, results in rows]
    bars = [(row, _label(row, results), sample) for row, results, sample in found if results]
    has_published = False
    for place, (row, _, sample) in enumerate(bars):
        if sample is None:
            axes.annotate("diverged", (0, place), (7, 0), textcoords="offset points", va="center", fontsize=9)
            continue
        low, high = (sample.mean if end is None else end for end in (sample.low, sample.high))
        whiskers = None if sample.n == 1 else [[sample.mean - low], [high - sample.mean]]
        axes.barh(place, sample.mean, xerr=whiskers, height=0.62, color=COLOURS[4], error_kw={"capsize": 3})
        end = max(sample.mean, min(high, greatest(figure.metric)))
        if published := parse_published(row.published.get(figure.metric, "")):
            axes.plot(published.value, place, color="black", marker=published.bound or "D", markersize=6)
            end, has_published = max(end, published.value), True
        text = f"{sample.mean:,.{metric.decimals}f}"
        axes.annotate(text, (end, place), (7, 0), textcoords="offset points", va="center", fontsize=9)
    labels = [textwrap.fill(label, 36) for _, label, _ in bars]
    axes.set_yticks(range(len(bars)), labels=labels, fontsize=9)
    axes.set_ylim(max(len(bars), 1) - 0.5, -0.5)  # the first row is the highest
    axes.set_xlabel(_with_unit(figure.metric))
    logarithmic(axes, "x" if figure.log else "")
    keep_possible(axes, "x", figure.metric, [sample.mean for _, _, sample in bars if sample])
    grow(axes, len(bars) * (0.6 + max((label.count("\n") + 1 for label in labels), default=0)))
    marks = "Black: published (diamond: the value, arrow: a bound)." if has_published else ""
    return _capital(figure.metric), marks, "Bars: mean; whiskers: its 95 % interval."


def _sample(results: Sequence[Result], metric: str) -> Sample | None:
    """Of the runs that finished."""
    return describe([*seed_values([r for r in results if r["status"] == "finished"], metric).values()])


def _against(axes: "Axes", figure: Figure, rows: Drawn) -> tuple[str, str, str]:
    """A metric against what the rows differ in, a line for each series."""
    lines: dict[str, list[tuple[float, float, float]]] = {row.series: [] for row, _ in rows if row.x is not None}
    for row, results in rows:
        sample = _sample(results, figure.metric)
        if row.x is not None and sample:
            lines[row.series].append((row.x, sample.mean, sample.std or 0.0))
    for place, (series, points) in enumerate(lines.items()):
        if points:
            x, means, deviations = zip(*sorted(points), strict=True)
            look = {**style(place), "marker": style(place)["marker"] or "o"}
            axes.errorbar(x, means, yerr=deviations, label=series, capsize=3, markersize=5, linewidth=1.8, **look)
    axes.set(xlabel=figure.x_label, ylabel=_with_unit(figure.metric))
    logarithmic(axes, figure.log)
    places = sorted({x for points in lines.values() for x, _, _ in points})
    if "x" in figure.log or len(places) <= MOST_TICKS:
        axes.set_xticks(places, labels=[f"{x:,g}" for x in places])
    keep_possible(axes, "y", figure.metric, [mean for points in lines.values() for _, mean, _ in points])
    legend(axes)
    title = f"{_capital(figure.metric)} against {figure.x_label}" if figure.x_label else _capital(figure.metric)
    return title, "", "Points: mean; whiskers: standard deviation over the seeds."


def _layers(axes: "Axes", figure: Figure, rows: Drawn) -> tuple[str, str, str]:
    """What was measured in each layer, from input to output."""
    for place, (row, results) in enumerate(rows):
        found = [result.get("extra", {}).get(figure.metric) or () for result in results]
        lines = [[(layer, float(value)) for layer, value in enumerate(values, 1)] for values in found]
        band(axes, lines, label=_label(row, results), linewidth=1.8, **style(place))
    axes.set(xlabel="layer, from input to output", ylabel=LAYERS.get(figure.metric, figure.metric))
    whole_numbers(axes)
    logarithmic(axes, "y")
    legend(axes)
    return f"{_capital(figure.metric)} of each layer", "", SPREAD


DRAWERS: dict[str, Callable[["Axes", Figure, Drawn], tuple[str, str, str]]] = {
    "curves": _curves,
    "bars": _bars,
    "against": _against,
    "layers": _layers,
}
"""For each kind of figure, what draws it; it returns a title, what the marks mean, and what shows the spread."""


def _label(row: Row, results: Sequence[Result]) -> str:
    diverged = sum(result["status"] == "diverged" for result in results)
    return f"{row.title} ({diverged} of {len(results)} diverged)" if diverged else row.title


def _seeds(counts: Sequence[int]) -> str:
    most = f"{counts[-1]} seed{'s' if counts[-1] != 1 else ''}"
    return most if len(counts) == 1 else f"{counts[0]} to {most}"


def _with_unit(metric: str, shown: str = "") -> str:
    unit = METRICS[metric].unit
    name = shown or metric
    return name if not unit or unit in name else f"{name} ({unit})"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
