"""Statistics over seeds against numpy and scipy, and every verdict on claims and rows."""

import warnings
from typing import Any

import numpy as np
import pytest
from scipy import stats

from zoo.benchmarks.statistics import describe, interval, p_above, paired_differences, seed_values
from zoo.benchmarks.suite import Claim, Row, Suite
from zoo.benchmarks.suite_file import parse_suite
from zoo.benchmarks.verdicts import check_claim, check_claims, parse_published, published_error, row_verdict

VALUES = [8.1, 9.4, 8.8, 10.2, 7.7]
HIGHER = Claim("deep is worse", "test error", higher="deep", lower="flat")


def result(row: str, seed: int, error: float, status: str = "finished", **metrics: float) -> dict[str, Any]:
    measured = {"test/acc": 1 - error / 100, **metrics} if status == "finished" else {}
    images = {"train": 45_000, "val": 5_000, "test": 10_000}
    return {
        "row": row,
        "seed": seed,
        "status": status,
        "error": "RuntimeError: no memory" if status == "failed" else "",
        "data": {"name": "cifar10", "source": "", "images": images, "num_classes": 10},
        "metrics": measured,
    }


def results(row: str, *errors: float) -> list[dict[str, Any]]:
    return [result(row, seed, error) for seed, error in enumerate(errors)]


def suite(**changes: Any) -> Suite:
    content: dict[str, Any] = {
        "title": "Depth",
        "question": "Does depth hurt?",
        "paper": "Somebody 2016",
        "metric": "test error",
        "sizes": {"smoke": {"reduced": "tiny"}, "cpu": {"reduced": "10 epochs"}, "paper": {}},
        "rows": [
            {"name": "deep", "settings": {"model": "plain56"}, "published": {"test error": "13.0"}},
            {"name": "flat", "settings": {"model": "plain20"}, "published": {"test error": "9.5 ± 0.2"}},
        ],
        "claims": [{"text": "deep is worse", "metric": "test error", "higher": "deep", "lower": "flat"}],
    }
    return parse_suite("depth", content | changes)


def verdict_of(of: Suite, name: str, size: str, by_row: dict[str, list[dict[str, Any]]]) -> str:
    return row_verdict(of, of.row(name), size, by_row.get(name, []), check_claims(of, by_row, size))


def test_description_is_that_of_numpy_and_scipy() -> None:
    sample = describe(VALUES)
    assert sample is not None
    ends = stats.t.interval(0.95, 4, loc=np.mean(VALUES), scale=stats.sem(VALUES))
    measured = (sample.mean, sample.std, sample.low, sample.high, sample.standard_error)
    assert measured == pytest.approx((np.mean(VALUES), np.std(VALUES, ddof=1), *ends, stats.sem(VALUES)), rel=1e-12)
    assert describe(VALUES[::-1]) == sample == describe(sorted(VALUES))


def test_interval_of_three_values_by_hand() -> None:
    # Student's t has the quantile 4.30265 at 97.5 % with 2 degrees of freedom; deviation 1, mean 2.
    assert interval([1, 2, 3]) == pytest.approx((2 - 4.30265 / 3**0.5, 2 + 4.30265 / 3**0.5), abs=1e-5)


def test_one_value_has_a_mean_only() -> None:
    sample = describe([5.0])
    assert sample is not None
    assert (sample.n, sample.mean, sample.std, sample.low, sample.high) == (1, 5.0, None, None, None)
    assert sample.standard_error == 0
    assert p_above([5.0]) is None
    assert interval([5.0]) is None
    assert describe([]) is None


def test_paired_test_is_that_of_scipy_over_the_seeds_that_both_have() -> None:
    first = dict(enumerate(VALUES))
    second = {seed: value - 0.3 + 0.2 * seed for seed, value in zip((1, 3, 4, 9), VALUES, strict=False)}
    shared = [1, 3, 4]
    theirs = stats.ttest_rel([first[s] for s in shared], [second[s] for s in shared], alternative="greater")
    assert p_above(paired_differences(first, second)) == pytest.approx(theirs.pvalue, rel=1e-12)
    other = stats.ttest_1samp(VALUES, 8, alternative="greater")
    assert p_above(VALUES, 8) == pytest.approx(other.pvalue, rel=1e-12)


@pytest.mark.parametrize(("value", "p"), [(0.1, 0.0), (0.0, 1.0), (-0.1, 1.0)])
def test_values_without_spread_are_decided_by_their_side(value: float, p: float) -> None:
    almost = [1 + value - 1, value, 3 + value - 3]  # the same number, rounded three times
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert p_above(almost) == p
        assert p_above([value] * 3) == p


def test_failed_runs_have_no_values_and_diverged_ones_those_of_guessing() -> None:
    found = [result("deep", 2, 8.0), result("deep", 0, 0, "failed"), result("deep", 1, 0, "diverged")]
    assert seed_values(found, "test error") == pytest.approx({1: 90, 2: 8})
    assert list(seed_values(found, "test error")) == [1, 2]


# Claims


@pytest.mark.parametrize(
    ("deep", "flat", "outcome"),
    [
        ((13.0, 13.2, 12.9), (9.0, 9.3, 9.1), "reproduced"),
        ((9.0, 9.3, 9.1), (13.0, 13.2, 12.9), "differs"),
        ((9.0, 9.3, 9.1), (9.0, 9.3, 9.1), "differs"),  # equal is not higher
        ((13.0,), (9.0,), "undecided: one seed"),
        ((9.0,), (13.0,), "undecided: one seed"),
        ((9.3, 9.0, 9.2), (9.1, 9.1, 9.1), "undecided: p = 0.26 with 3 seeds"),
        ((9.0, 9.1, 9.2), (9.1, 9.1, 9.2), "undecided: p = 0.79 with 3 seeds"),  # the other side is no more certain
        ((), (9.0, 9.1), "not run"),
    ],
)
def test_claim_about_two_rows(deep: tuple[float, ...], flat: tuple[float, ...], outcome: str) -> None:
    by_row = {"deep": results("deep", *deep), "flat": results("flat", *flat)}
    verdict = check_claim(HIGHER, by_row, "cpu")
    assert verdict.outcome == outcome
    if verdict.margin is not None:
        assert verdict.margin.n == len(deep)
        assert verdict.means == pytest.approx((np.mean(deep), np.mean(flat)))
        assert verdict.margin.mean == pytest.approx(np.mean(deep) - np.mean(flat))


def test_claim_that_is_on_its_side_by_chance_is_undecided() -> None:
    deep, flat = (10.0, 12.0, 9.0), (9.8, 9.0, 10.0)
    verdict = check_claim(HIGHER, {"deep": results("deep", *deep), "flat": results("flat", *flat)}, "paper")
    p = stats.ttest_rel(deep, flat, alternative="greater").pvalue
    assert verdict.p == pytest.approx(p)
    assert verdict.outcome == f"undecided: p = {p:.2g} with 3 seeds"


def test_claim_of_rows_without_a_common_seed_or_without_the_metric() -> None:
    apart = {"deep": [result("deep", 0, 13)], "flat": [result("flat", 1, 9)]}
    assert check_claim(HIGHER, apart, "cpu").outcome == "undecided: the rows have no seed in common"
    loss = Claim("", "training loss", higher="deep", lower="flat")
    assert check_claim(loss, apart, "cpu").outcome == "undecided: deep has no training loss"


def test_failed_runs_alone_are_not_run_and_smoke_decides_nothing() -> None:
    by_row = {"deep": [result("deep", 0, 0, "failed")], "flat": results("flat", 9, 9.1)}
    assert check_claim(HIGHER, by_row, "cpu").outcome == "not run"
    by_row["deep"] = results("deep", 13, 13.1)
    assert check_claim(HIGHER, by_row, "smoke").outcome == "not comparable: smoke"


def test_diverged_runs_count_as_guessing_in_a_claim() -> None:
    by_row = {"deep": [result("deep", s, 0, "diverged") for s in (0, 1)], "flat": results("flat", 9, 9.1)}
    verdict = check_claim(HIGHER, by_row, "cpu")
    assert (verdict.outcome, verdict.means[0]) == ("reproduced", pytest.approx(90))


@pytest.mark.parametrize(
    ("limits", "outcome", "margin"),
    [
        ({"above": 8.0}, "reproduced", 1.0),
        ({"above": 9.5}, "differs", -0.5),
        ({"below": 9.5}, "reproduced", 0.5),
        ({"below": 8.0}, "differs", -1.0),
    ],
)
def test_claim_about_one_row_and_a_value(limits: dict[str, float], outcome: str, margin: float) -> None:
    verdict = check_claim(Claim("", "test error", row="flat", **limits), {"flat": results("flat", 8.9, 9, 9.1)}, "cpu")
    assert verdict.outcome == outcome
    assert verdict.margin is not None
    assert verdict.margin.mean == pytest.approx(margin)


# Rows


@pytest.mark.parametrize(
    ("text", "value", "spread", "bound", "last_digit"),
    [
        ("8.75", 8.75, None, "", 0.01),
        ("6.61 ± 0.16", 6.61, 0.16, "", 0.01),
        ("7.72±.16", 7.72, 0.16, "", 0.01),
        ("> 60", 60, None, ">", 1),
        ("99.06 %", 99.06, None, "", 0.01),
        ("1,727,962", 1727962, None, "", 1),
    ],
)
def test_published_strings(text: str, value: float, spread: float | None, bound: str, last_digit: float) -> None:
    published = parse_published(text)
    assert published is not None
    assert (published.value, published.spread, published.bound) == (value, spread, bound)
    assert published.last_digit == pytest.approx(last_digit)


@pytest.mark.parametrize("text", ["", "6.43 (6.61 ± 0.16)", "1.7M", "7 to 8", "n/a", "8.75, 9.1"])
def test_published_strings_that_are_not_one_number(text: str) -> None:
    assert parse_published(text) is None


def test_error_of_published_values() -> None:
    known = result("deep", 0, 10)
    plain, spread = parse_published("10"), parse_published("10 ± 0.7")
    assert plain is not None and spread is not None
    assert published_error(spread, "test error", known) == 0.7
    assert published_error(plain, "test error", known) == pytest.approx(100 * (0.1 * 0.9 / 10_000) ** 0.5)
    assert published_error(plain, "validation error", known) == pytest.approx(100 * (0.1 * 0.9 / 5_000) ** 0.5)
    assert published_error(plain, "test loss", known) == 0.5


@pytest.mark.parametrize(
    ("errors", "verdict"),
    [
        # 13.0 has the binomial error sqrt(0.13 * 0.87 / 10000) = 0.336 %, times 1.96 = 0.659.
        ((13.6,), "not comparable: one seed"),
        ((13.6, 13.6), "reproduced"),
        ((13.7, 13.7), "differs"),
        ((12.3, 12.3), "differs"),
        ((14.2, 14.6, 13.8), "differs"),  # half the interval is 4.303 * 0.231 = 0.994: hypot with 0.659 is 1.19
        ((14.1, 14.5, 13.7), "reproduced"),
        ((13.7, 14.1, 13.3), "reproduced"),
    ],
)
def test_row_against_its_published_value(errors: tuple[float, ...], verdict: str) -> None:
    assert verdict_of(suite(), "deep", "paper", {"deep": results("deep", *errors)}) == verdict


def test_row_against_a_bound_or_what_is_no_number() -> None:
    for text, verdict in [
        ("> 60", "differs"),
        ("< 60", "reproduced"),
        ("8 to 9", "not comparable: the published '8 to 9' is not one number"),
    ]:
        of = suite(rows=[{"name": "deep", "published": {"test error": text}}], claims=[])
        assert verdict_of(of, "deep", "paper", {"deep": results("deep", 13)}) == verdict


def test_row_at_a_reduced_size_is_judged_by_its_claims() -> None:
    good = {"deep": results("deep", 13, 13.2, 12.9), "flat": results("flat", 9, 9.3, 9.1)}
    bad = {"deep": results("deep", 9, 9.3, 9.1), "flat": results("flat", 13, 13.2, 12.9)}
    assert verdict_of(suite(), "deep", "cpu", good) == "ordering reproduced"
    assert verdict_of(suite(), "flat", "cpu", bad) == "differs: deep is worse"
    one = {"deep": results("deep", 13), "flat": results("flat", 9)}
    assert verdict_of(suite(), "deep", "cpu", one) == "not comparable: deep is worse: undecided: one seed"
    assert verdict_of(suite(claims=[]), "deep", "cpu", good) == "not comparable: 10 epochs"
    assert verdict_of(suite(), "deep", "smoke", good) == "not comparable: tiny"
    unpublished = suite(rows=[{"name": "deep"}], claims=[])
    assert verdict_of(unpublished, "deep", "paper", good) == "not comparable: no test error is published"


def test_claim_about_a_value_can_only_count_against_a_reduced_row() -> None:
    by_row = {"deep": results("deep", 13, 13.1)}
    for limit, verdict in [(10.0, "not comparable: 10 epochs"), (20.0, "differs: high")]:
        claims = [{"text": "high", "metric": "test error", "row": "deep", "above": limit}]
        assert verdict_of(suite(claims=claims), "deep", "cpu", by_row) == verdict


def test_what_happened_comes_before_what_was_measured() -> None:
    of, runs = suite(), results("deep", 13, 13.1)
    diverged, failed = result("deep", 2, 0, "diverged"), result("deep", 2, 0, "failed")
    assert verdict_of(of, "deep", "paper", {}) == "not run"
    assert verdict_of(of, "deep", "paper", {"deep": [*runs, diverged]}) == "diverged (1 of 3)"
    assert verdict_of(of, "deep", "paper", {"deep": [failed]}) == "failed: RuntimeError: no memory"
    assert verdict_of(of, "deep", "paper", {"deep": [*runs, failed]}) == "reproduced (1 of 3 failed)"
    for field, word in [("not_run", "not run"), ("not_comparable", "not comparable")]:
        row = Row("deep", **{field: "eight GPUs"})  # type: ignore[arg-type]  # both fields are strings
        assert row_verdict(of, row, "paper", runs, ()) == f"{word}: eight GPUs"


def test_weights_that_are_measured_as_they_are_need_one_run() -> None:
    fixed = {"protocol": {"train": False}}
    by_row = {
        "deep": [result("deep", 0, 13.05) | {"settings": fixed}],
        "flat": [result("flat", 0, 9.0) | {"settings": fixed}],
    }
    assert check_claim(HIGHER, by_row, "cpu").outcome == "reproduced"
    assert verdict_of(suite(), "deep", "paper", by_row) == "reproduced"
    by_row["deep"][0]["metrics"]["test/acc"] = 0.868  # 13.2 is more than libraries differ by
    assert verdict_of(suite(), "deep", "paper", by_row) == "differs"


def test_a_claim_is_open_where_diverged_runs_have_no_value() -> None:
    by_row = {"deep": results("deep", 13, 13.2), "flat": [*results("flat", 9.0), result("flat", 1, 0, "diverged")]}
    for row in by_row.values():
        for one in row:
            if one["status"] == "finished":
                one["metrics"]["gap"] = 1.0
    claim = Claim("x", "gap between test and training error", higher="deep", lower="flat")
    outcome = check_claim(claim, by_row, "cpu").outcome
    assert outcome == "undecided: 1 runs of flat diverged and have no gap between test and training error"
