"""How numbers are written in the cells of a table."""

from zoo.benchmarks.metrics import METRICS
from zoo.benchmarks.statistics import Sample

LARGE = 1e6
"""Numbers with a fraction are written as 1.2e+06 from here on."""


def heading(metric: str) -> str:
    """A metric with its unit, unless its name says it."""
    unit = METRICS[metric].unit
    return f"{metric} ({unit})" if unit and unit not in metric else metric


def value_text(metric: str, value: float, scale: float | None = None) -> str:
    """A value with as many digits as the metric has; very small and very large ones as powers of ten.

    Args:
        metric: A name of `METRICS`.
        value: As the table shows it.
        scale: The value whose size decides on the form, so that a mean has the same as what stands beside it; `value`
            itself if not given.
    """
    decimals = METRICS[metric].decimals
    size = abs(value if scale is None else scale)
    if decimals and size and not 10**-decimals <= size < LARGE:
        return f"{value:.1e}"
    return f"{round(value, decimals) + 0.0:,.{decimals}f}"  # + 0.0: no -0.00


def sample_text(metric: str, sample: Sample | None) -> str:
    """`8.75 ± 0.21 (3)`; a count that is the same for all seeds stands alone."""
    if sample is None:
        return ""
    mean = value_text(metric, sample.mean)
    if METRICS[metric].decimals == 0 and not sample.std:
        return mean
    if sample.std is None:
        return f"{mean} ({sample.n})"
    return f"{mean} ± {value_text(metric, sample.std, sample.mean)} ({sample.n})"


def interval_text(metric: str, sample: Sample | None, scale: float | None = None) -> str:
    """`8.23 to 9.27`; nothing for one seed."""
    if sample is None or sample.low is None or sample.high is None:
        return ""
    return " to ".join(value_text(metric, end, scale) for end in (sample.low, sample.high))


def signed_text(metric: str, value: float | None, scale: float | None = None) -> str:
    """`+0.12` or `-0.12`; nothing for None."""
    if value is None:
        return ""
    text = value_text(metric, value, scale)
    return text if text.startswith("-") else f"+{text}"


def seconds_text(seconds: float) -> str:
    """Whole seconds from ten on."""
    return f"{seconds:,.1f}" if seconds < 10 else f"{seconds:,.0f}"


def p_text(p: float | None) -> str:
    """Three digits, or that it is below 0.001; nothing for None."""
    if p is None:
        return ""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"
