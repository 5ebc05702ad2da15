"""What the seeds of a row say together: mean, deviation, interval, and one-sided t-tests; scipy has the distribution.

One value has a mean and nothing else: no deviation, no interval, no p-value. The order of the values has no effect.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isclose, isfinite, sqrt
from statistics import fmean, stdev
from typing import Any

from zoo.benchmarks.metrics import value_of
from zoo.benchmarks.results import DONE, Result

CONFIDENCE = 0.95
SIGNIFICANCE = 0.05
SAME = 1e-9
"""Values whose largest and smallest agree to this share are the same number, but for rounding."""


@dataclass(frozen=True)
class Sample:
    """What is known of a number that was measured once for each seed.

    Args:
        n: How many values there are.
        mean: Their mean.
        std: Their standard deviation, with n - 1; None for one value.
        low: Lower end of the 95 % interval of the mean; None for one value.
        high: Its upper end.
    """

    n: int
    mean: float
    std: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def standard_error(self) -> float:
        """Of the mean; 0 for one value, of which nothing is known."""
        return 0.0 if self.std is None else self.std / sqrt(self.n)


def describe(values: Sequence[float]) -> Sample | None:
    """Mean, deviation and interval of the values; None if there are none."""
    if not values:
        return None
    ends = interval(values)
    if ends is None:
        return Sample(1, values[0])
    return Sample(len(values), fmean(values), stdev(values), *ends)


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of the mean, by Student's t; None for fewer than two values."""
    if len(values) < 2:
        return None
    from scipy.stats import t

    half = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * stdev(values) / sqrt(len(values))
    return fmean(values) - half, fmean(values) + half


def p_above(values: Sequence[float], threshold: float = 0.0) -> float | None:
    """The p-value of the one-sided t-test that the mean of the values is above a threshold; None for fewer than two.

    Values that are all the same have no spread to hold the mean against. They get the limit of the test for a spread
    that vanishes: 0 if they are above the threshold; and 1 if they are not, also where they equal it.
    """
    if len(values) < 2:
        return None
    if isclose(min(values), max(values), rel_tol=SAME):
        return 0.0 if fmean(values) > threshold else 1.0
    from scipy.stats import ttest_1samp

    return float(ttest_1samp(values, threshold, alternative="greater").pvalue)


def paired_differences(first: Mapping[int, float], second: Mapping[int, float]) -> list[float]:
    """First minus second for each seed that both have, in order of the seeds: `p_above` of them is the paired test."""
    return [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]


def measured_results(results: Iterable[Result]) -> list[Result]:
    """Those that finished or diverged, in order of the seeds."""
    return sorted((result for result in results if result["status"] in DONE), key=_order)


def seed_values(results: Iterable[Result], metric: str) -> dict[int, float]:
    """A metric by seed, as the table shows it, of the runs that have it."""
    found = {int(result["seed"]): value_of(result, metric) for result in measured_results(results)}
    return {seed: value for seed, value in found.items() if value is not None and isfinite(value)}


def _order(result: Result) -> tuple[Any, ...]:
    return int(result["seed"]), str(result.get("key", ""))
