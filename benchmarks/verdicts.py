"""Does it come out as published? Verdicts on the claims of a suite and on the rows of its table.

A claim is decided over seeds, see `check_claim`. A row is held against its published value where nothing is reduced,
and else judged by the claims that compare it with another row, see `row_verdict`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import hypot, sqrt
from statistics import fmean

from zoo.benchmarks.metrics import METRICS
from zoo.benchmarks.results import Result
from zoo.benchmarks.statistics import (
    SIGNIFICANCE,
    Sample,
    describe,
    measured_results,
    p_above,
    paired_differences,
    seed_values,
)
from zoo.benchmarks.suite import Claim, Row, Suite

SMOKE = "not comparable: smoke"
NORMAL_QUANTILE = 1.96
"""Two-sided 95 % of the normal distribution."""
REEVALUATION = 0.1
"""Points: libraries decode and resize a little differently, so that the same weights reach a little more or less."""
FIGURE_READING = 0.5
"""What a value with ≈, read off a figure, is good to."""
_PUBLISHED = re.compile(
    r"(?P<bound>[<>≈]?)\s*(?P<value>-?(?:\d[\d,]*)?\.?\d+)\s*%?\s*(?:±\s*(?P<spread>\d*\.?\d+))?\s*%?"
)


@dataclass(frozen=True)
class ClaimVerdict:
    """How a claim came out.

    Args:
        claim: The claim.
        outcome: reproduced, differs, `undecided: why`, `not run` or `not comparable: smoke`.
        means: The mean of each of the claim's rows over the seeds that count, in the order of `claim.rows`.
        margin: How far they lie on the claim's side, positive if they do: higher minus lower, or the distance from the
            value; with its interval.
        p: Of the one-sided t-test that the margin is positive, paired over the seeds if the claim has two rows.
    """

    claim: Claim
    outcome: str
    means: tuple[float, ...] = ()
    margin: Sample | None = None
    p: float | None = None


@dataclass(frozen=True)
class Published:
    """A published value as a number.

    Args:
        value: The number.
        spread: What stands behind the ±; None if nothing does.
        bound: `>` or `<` if the source gives a bound only.
        last_digit: One unit of the last digit that is printed.
    """

    value: float
    spread: float | None = None
    bound: str = ""
    last_digit: float = 1.0


def parse_published(text: str) -> Published | None:
    """The number that a source prints, such as `8.75`, `6.61 ± 0.16` or `> 60`; None if it is not exactly one.

    Example:
        >>> parse_published("6.61 ± 0.16")
        Published(value=6.61, spread=0.16, bound='', last_digit=0.01)
        >>> parse_published("0.95 to 1.1") is None
        True
    """
    found = _PUBLISHED.fullmatch(text.strip())
    if found is None:
        return None
    digits = found["value"].replace(",", "")
    spread, bound = float(found["spread"]) if found["spread"] else None, found["bound"]
    if bound == "≈":
        spread, bound = FIGURE_READING / NORMAL_QUANTILE, ""
    return Published(float(digits), spread, bound, 10.0 ** -len(digits.partition(".")[2]))


def check_claims(suite: Suite, results_by_row: Mapping[str, Sequence[Result]], size: str) -> tuple[ClaimVerdict, ...]:
    """The verdicts on all claims of a suite, in its order."""
    return tuple(check_claim(claim, results_by_row, size) for claim in suite.claims)


def check_claim(claim: Claim, results_by_row: Mapping[str, Sequence[Result]], size: str) -> ClaimVerdict:
    """Hold a claim against the results.

    It is `reproduced` if the mean over at least two seeds is on the claim's side with p < 0.05, and it `differs` if it
    is on the other side with p < 0.05; else it is undecided. Where nothing is trained, one run says it all.
    """
    if size == "smoke":
        return ClaimVerdict(claim, SMOKE)
    results = [results_by_row.get(row, ()) for row in claim.rows]
    if not all(measured_results(of_row) for of_row in results):
        return ClaimVerdict(claim, "not run")
    values = [seed_values(of_row, claim.metric) for of_row in results]
    for row, of_row in zip(claim.rows, values, strict=True):
        if not of_row:
            return ClaimVerdict(claim, f"undecided: {row} has no {claim.metric}")
    for row, found, known in zip(claim.rows, results, values, strict=True):
        if lost := sum(result["status"] == "diverged" and int(result["seed"]) not in known for result in found):
            return ClaimVerdict(claim, f"undecided: {lost} runs of {row} diverged and have no {claim.metric}")
    seeds = sorted(set.intersection(*(set(of_row) for of_row in values)))
    margins = _margins(claim, values)
    margin = describe(margins)
    if margin is None:
        return ClaimVerdict(claim, "undecided: the rows have no seed in common")
    means = tuple(fmean([of_row[seed] for seed in seeds]) for of_row in values)
    p = p_above(margins)
    is_fixed = not any(is_trained(result) for of_row in results for result in of_row)
    return ClaimVerdict(claim, _outcome(margin, p, is_fixed=is_fixed), means, margin, p)


def is_trained(result: Result) -> bool:
    """Whether the run trained its weights, so that another seed gives another value."""
    return bool(result.get("settings", {}).get("protocol", {}).get("train", True))


def _margins(claim: Claim, values: Sequence[Mapping[int, float]]) -> list[float]:
    """How far each seed lies on the claim's side."""
    if not claim.row:
        return paired_differences(values[0], values[1])
    if claim.above is not None:
        return [values[0][seed] - claim.above for seed in sorted(values[0])]
    assert claim.below is not None  # the suite was checked
    return [claim.below - values[0][seed] for seed in sorted(values[0])]


def _outcome(margin: Sample, p: float | None, *, is_fixed: bool) -> str:
    if p is None and is_fixed:
        return "reproduced" if margin.mean > 0 else "differs"
    if p is None:
        return "undecided: one seed"
    if p < SIGNIFICANCE:
        return "reproduced"
    return "differs" if p > 1 - SIGNIFICANCE else f"undecided: p = {p:.2g} with {margin.n} seeds"


def row_verdict(
    suite: Suite, row: Row, size: str, results: Sequence[Result], claim_verdicts: Iterable[ClaimVerdict]
) -> str:
    """What a row's results say about the paper, in a few words.

    `reproduced` and `differs` say that the published value is, or is not, compatible with what was measured under the
    same conditions; `ordering reproduced` that at a reduced size the row stands to others as claimed, and `differs:
    CLAIM` that it does not. The others are `not comparable: why`, `not run`, `diverged (2 of 3)` and `failed: error`;
    with some runs failed, the verdict on the rest ends with how many.
    """
    if row.not_run:
        return f"not run: {row.not_run}"
    if not results:
        return "not run"
    measured = measured_results(results)
    if not measured:
        return f"failed: {min(str(result['error']) for result in results)}"
    diverged = sum(result["status"] == "diverged" for result in measured)
    if diverged:
        return f"diverged ({diverged} of {len(results)})"
    verdict = _comparison(suite, row, size, measured, claim_verdicts)
    failed = len(results) - len(measured)
    return f"{verdict} ({failed} of {len(results)} failed)" if failed else verdict


def _comparison(
    suite: Suite, row: Row, size: str, results: Sequence[Result], claim_verdicts: Iterable[ClaimVerdict]
) -> str:
    if row.not_comparable:
        return f"not comparable: {row.not_comparable}"
    reduced = suite.sizes[size].reduced
    if size == "smoke":
        return f"not comparable: {reduced or 'smoke'}"
    if not reduced and suite.metric in row.published:
        return _against_published(suite, row, results)
    published = suite.metric in row.published
    return _by_claims(row, reduced if published else f"no {suite.metric} is published", claim_verdicts)


def _by_claims(row: Row, reason: str, claim_verdicts: Iterable[ClaimVerdict]) -> str:
    """The verdict where only the order of rows can be held against the paper."""
    about = [verdict for verdict in claim_verdicts if row.name in verdict.claim.rows]
    against = [verdict.claim.text for verdict in about if verdict.outcome == "differs"]
    if against:
        return f"differs: {'; '.join(against)}"
    orders = [verdict for verdict in about if not verdict.claim.row]
    if not orders:
        return f"not comparable: {reason}"
    open_ones = [f"{verdict.claim.text}: {verdict.outcome}" for verdict in orders if verdict.outcome != "reproduced"]
    return f"not comparable: {'; '.join(open_ones)}" if open_ones else "ordering reproduced"


def _against_published(suite: Suite, row: Row, results: Sequence[Result]) -> str:
    text = row.published[suite.metric]
    published = parse_published(text)
    if published is None:
        return f"not comparable: the published '{text}' is not one number"
    sample = describe(list(seed_values(results, suite.metric).values()))
    if sample is None:
        return f"not comparable: no {suite.metric} was measured"
    difference = sample.mean - published.value
    if published.bound:
        agrees = difference > 0 if published.bound == ">" else difference < 0
    elif not is_trained(results[0]):
        agrees = abs(difference) <= REEVALUATION
    elif sample.std is None:
        return "not comparable: one seed"
    else:
        error = published_error(published, suite.metric, results[0])
        half = (sample.high or sample.mean) - sample.mean  # of the interval over the seeds
        agrees = abs(difference) <= hypot(half, NORMAL_QUANTILE * error)
    return "reproduced" if agrees else "differs"


def published_error(published: Published, metric: str, result: Result) -> float:
    """The standard error of a published value, as far as it can be known.

    The printed ± if there is one; for a share in % the binomial error of as many images as were measured here; else
    half a unit of the last printed digit.
    """
    if published.spread is not None:
        return published.spread
    images = result["data"].get("images", {})
    split = next((part for part in METRICS[metric].key.split("/") if part in images), "test")
    if METRICS[metric].unit != "%" or not images.get(split):
        return published.last_digit / 2
    share = min(max(published.value / 100, 0.0), 1.0)
    return 100 * sqrt(share * (1 - share) / images[split])
