"""The comparison table of a suite: published beside measured, one line for each row, and the table of its claims.

A table holds its cells as they are read and the same facts as numbers; `zoo.benchmarks.markup` writes it as Markdown,
CSV, LaTeX and HTML. The same results give the same table, whatever their order.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

from zoo.benchmarks.captions import caption, claims_caption
from zoo.benchmarks.formatting import heading, interval_text, p_text, sample_text, seconds_text, signed_text, value_text
from zoo.benchmarks.metrics import METRICS
from zoo.benchmarks.results import Result
from zoo.benchmarks.statistics import Sample, describe, measured_results, seed_values
from zoo.benchmarks.suite import Row, Suite
from zoo.benchmarks.verdicts import ClaimVerdict, check_claims, parse_published, row_verdict


@dataclass(frozen=True)
class Column:
    """One column.

    Args:
        heading: With its unit.
        is_text: Words, which stand on the left, and not numbers.
        stays: Also if all its cells are empty.
    """

    heading: str
    is_text: bool = False
    stays: bool = False


@dataclass(frozen=True)
class Table:
    """A table, ready to be written in any format.

    Args:
        title: Of the suite.
        label: By which LaTeX refers to it.
        caption: What a reader must know to judge the numbers.
        columns: Those that have something to show; the last is the verdict.
        rows: The cells, as many in each row as there are columns.
        records: For each row the same facts as numbers of full precision, by name; None where there is none.
    """

    title: str
    label: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    records: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class _Line:
    """What the cells of a row are made from; `samples` has the main metric and the others that are measured."""

    row: Row
    metric: str
    samples: dict[str, Sample | None]
    parameters: int | None
    macs: int | None
    seconds: float | None
    verdict: str
    is_other_data: bool

    @property
    def published(self) -> str:
        return self.row.published.get(self.metric, "")

    @property
    def difference(self) -> float | None:
        sample, published = self.samples[self.metric], parse_published(self.published)
        if self.is_other_data:  # 30 % of CIFAR-10 and 30 % of ImageNet have no difference
            return None
        return sample.mean - published.value if sample and published else None

    @property
    def scale(self) -> float | None:
        """Decides how the numbers beside the mean are written."""
        sample = self.samples[self.metric]
        return sample.mean if sample else None


def table(suite: Suite, size: str, results_by_row: Mapping[str, Sequence[Result]]) -> Table:
    """The table of a suite at a size; rows without results are rows too.

    Args:
        suite: The suite, also one that was made in memory.
        size: A key of `suite.sizes`.
        results_by_row: By name of a row, its results.
    """
    verdicts = check_claims(suite, results_by_row, size)
    lines = [_line(suite, size, row, results_by_row.get(row.name, ()), verdicts) for row in suite.rows]
    columns = [(column, [cell(line) for line in lines]) for column, cell in _columns(suite)]
    shown = [(column, cells) for column, cells in columns if column.stays or any(cells)]
    return Table(
        title=suite.title,
        label=f"{suite.name}-{size}",
        caption=caption(suite, size, results_by_row),
        columns=tuple(column for column, _ in shown),
        rows=tuple(zip(*(cells for _, cells in shown), strict=True)),
        records=tuple(_record(suite, line) for line in lines),
    )


def _line(suite: Suite, size: str, row: Row, results: Sequence[Result], verdicts: Sequence[ClaimVerdict]) -> _Line:
    measured = measured_results(results)
    finished = [result for result in measured if result["status"] == "finished"]
    metrics = (suite.metric, *suite.also)
    seconds = [float(result["seconds"]) for result in finished if result.get("seconds") is not None]
    return _Line(
        row=row,
        metric=suite.metric,
        samples={metric: describe(list(seed_values(finished, metric).values())) for metric in metrics},
        parameters=next((result["parameters"] for result in measured if result.get("parameters")), None),
        macs=next((result["macs"] for result in measured if result.get("macs")), None),
        seconds=median(seconds) if seconds else None,
        verdict=row_verdict(suite, row, size, results, verdicts),
        is_other_data=_is_other_data(suite, size, row),
    )


def _is_other_data(suite: Suite, size: str, row: Row) -> bool:
    """Whether this size runs on other data than the paper's size of the same row."""
    if "paper" not in suite.sizes:
        return False
    return suite.changes_of(row, size).get("data") != suite.changes_of(row, "paper").get("data")


def _columns(suite: Suite) -> list[tuple[Column, Callable[[_Line], str]]]:
    """All columns of the table with what makes their cells."""
    main = suite.metric
    return [
        (Column("row", is_text=True, stays=True), lambda line: line.row.title),
        (Column(f"published {heading(main)}", stays=True), lambda line: line.published),
        (Column(f"measured {heading(main)}", stays=True), partial(_measured, main)),
        (Column("95 % interval"), lambda line: interval_text(main, line.samples[main], line.scale)),
        (Column("difference"), lambda line: signed_text(main, line.difference, line.scale)),
        *((Column(heading(name)), partial(_measured, name)) for name in _others(suite, suite.also)),
        *((Column(f"published {name}"), partial(_published, name)) for name in _others(suite, suite.published_also)),
        (Column("parameters"), lambda line: "" if line.parameters is None else f"{line.parameters:,}"),
        (Column("MACs (M)"), lambda line: "" if line.macs is None else f"{line.macs / 1e6:,.2f}"),
        (Column("seconds"), lambda line: "" if line.seconds is None else seconds_text(line.seconds)),
        (Column("verdict", is_text=True, stays=True), lambda line: line.verdict),
    ]


def _others(suite: Suite, metrics: Sequence[str]) -> list[str]:
    """Without the main one, which has its columns already."""
    return [name for name in dict.fromkeys(metrics) if name != suite.metric]


def _measured(metric: str, line: _Line) -> str:
    return sample_text(metric, line.samples[metric])


def _published(metric: str, line: _Line) -> str:
    return line.row.published.get(metric, "")


def _record(suite: Suite, line: _Line) -> dict[str, Any]:
    published = parse_published(line.published)
    record: dict[str, Any] = {
        "row": line.row.name,
        "label": line.row.title,
        "metric": suite.metric,
        "unit": METRICS[suite.metric].unit,
        "published": line.published,
        "published_value": published.value if published else None,
        "source": line.row.source or (suite.paper if line.row.published else ""),
        **_numbers(line.samples[suite.metric]),
        "difference": line.difference,
    }
    for name in _others(suite, suite.also):
        record |= {f"{heading(name)} {key}": value for key, value in _numbers(line.samples[name]).items()}
    record |= {f"published {name}": _published(name, line) for name in _others(suite, suite.published_also)}
    facts = {"parameters": line.parameters, "macs": line.macs, "seconds": line.seconds, "verdict": line.verdict}
    return record | facts


def _numbers(sample: Sample | None) -> dict[str, Any]:
    if sample is None:
        return {"mean": None, "std": None, "n": 0, "low": None, "high": None}
    return {"mean": sample.mean, "std": sample.std, "n": sample.n, "low": sample.low, "high": sample.high}


def claims_table(suite: Suite, size: str, results_by_row: Mapping[str, Sequence[Result]]) -> Table:
    """The claims of a suite with their verdicts and the numbers behind them."""
    verdicts = check_claims(suite, results_by_row, size)
    headings = ("claim", "metric", "measured", "margin", "95 % interval", "p", "seeds", "verdict")
    words = ("claim", "metric", "measured", "verdict")
    return Table(
        title=f"{suite.title}: claims",
        label=f"{suite.name}-{size}-claims",
        caption=claims_caption(suite, size),
        columns=tuple(Column(name, is_text=name in words, stays=True) for name in headings),
        rows=tuple(_claim_cells(suite, verdict) for verdict in verdicts),
        records=tuple(_claim_record(verdict) for verdict in verdicts),
    )


def _claim_cells(suite: Suite, verdict: ClaimVerdict) -> tuple[str, ...]:
    claim, name = verdict.claim, verdict.claim.metric
    scale = verdict.means[0] if verdict.means else None
    pairs = zip(claim.rows, verdict.means, strict=False)  # nothing was measured where there are no means
    return (
        f"{claim.text} ({claim.source})" if claim.source else claim.text,
        heading(name),
        ", ".join(f"{suite.row(row).title} {value_text(name, mean)}" for row, mean in pairs),
        signed_text(name, verdict.margin.mean if verdict.margin else None, scale),
        interval_text(name, verdict.margin, scale),
        p_text(verdict.p),
        str(verdict.margin.n) if verdict.margin else "",
        verdict.outcome,
    )


def _claim_record(verdict: ClaimVerdict) -> dict[str, Any]:
    claim = verdict.claim
    means = dict(zip(("first_mean", "second_mean"), verdict.means, strict=False))
    return {
        "claim": claim.text,
        "source": claim.source,
        "metric": claim.metric,
        "unit": METRICS[claim.metric].unit,
        "first_row": claim.rows[0],
        "second_row": "" if claim.row else claim.rows[1],
        "above": claim.above,
        "below": claim.below,
        "first_mean": means.get("first_mean"),
        "second_mean": means.get("second_mean"),
        **{f"margin_{key}" if key != "n" else key: value for key, value in _numbers(verdict.margin).items()},
        "p": verdict.p,
        "verdict": verdict.outcome,
    }
