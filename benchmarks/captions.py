"""Captions: what a reader must know of how the numbers of a table came about, in full sentences."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from zoo.benchmarks.formatting import heading
from zoo.benchmarks.results import Result
from zoo.benchmarks.statistics import measured_results
from zoo.benchmarks.suite import Suite

SPLITS = {"train": "training", "val": "validation", "test": "test"}


def caption(suite: Suite, size: str, results_by_row: Mapping[str, Sequence[Result]]) -> str:
    """The caption of a suite's table: question, metric, size, seeds, data, hardware, and how to read the columns."""
    rows = {row.name for row in suite.rows}
    results = [result for name in sorted(rows & results_by_row.keys()) for result in results_by_row[name]]
    measured = measured_results(results)
    sentences = [suite.question, size_sentence(suite, size)]
    if measured:
        sentences += [
            f"Measured: {heading(suite.metric)}, mean ± standard deviation (number of seeds).",
            f"Seeds: {_listed(sorted({int(result['seed']) for result in measured}))}.",
            f"Data: {_data(measured)}.",
            f"Hardware: {_hardware(measured)}.",
            "Intervals are 95 % t-intervals of the mean over the seeds; seconds are the median over the seeds, of runs "
            "that may have shared the machine.",
        ]
    if any(row.published for row in suite.rows):
        sentences.append(f"Difference: measured minus published. Published values: {_sources(suite)}.")
    if any(result["status"] == "diverged" for result in measured):
        sentences.append("A run that diverged is in no mean; in claims it counts as guessing.")
    return " ".join(sentence for sentence in sentences if sentence)


def claims_caption(suite: Suite, size: str) -> str:
    """The caption of the table of the claims."""
    text = (
        "Margin: how far the mean lies on the claim's side, with its 95 % t-interval; p: one-sided t-test that it does "
        "so, paired by seed where two rows are compared. Margins that are the same for all seeds have p = 0 on the "
        "claim's side and 1 on the other."
    )
    return f"{size_sentence(suite, size)} {text}".strip()


def size_sentence(suite: Suite, size: str) -> str:
    """The size, and what is less than in the paper; nothing where there is no paper to be less than."""
    reduced = suite.sizes[size].reduced.rstrip(".")
    if not reduced and not any(row.published for row in suite.rows):
        return ""
    return f"Size {size}: {reduced or 'nothing is reduced'}."


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(map(str, values))


def _data(results: Iterable[Result]) -> str:
    """The data sets with their numbers of images, a range where rows differ."""
    counts: dict[tuple[str, str], dict[str, set[int]]] = {}
    for result in results:
        data = result["data"]
        of_data = counts.setdefault((data["name"], data.get("source", "")), {})
        for split, count in data.get("images", {}).items():
            of_data.setdefault(split, set()).add(int(count))
    return "; ".join(f"{name} ({_images(source, splits)})" for (name, source), splits in sorted(counts.items()))


def _images(source: str, splits: Mapping[str, set[int]]) -> str:
    parts = []
    for split, word in SPLITS.items():
        low, high = min(splits.get(split, {0})), max(splits.get(split, {0}))
        if high:
            parts.append(f"{high:,} {word}" if low == high else f"{low:,} to {high:,} {word}")
    images = f"{_listed(parts)} images" if parts else "images not counted"
    return f"{source}; {images}" if source else images


def _hardware(results: Iterable[Result]) -> str:
    return "; ".join(sorted({_machine(result["environment"]) for result in results}))


def _machine(environment: Mapping[str, Any]) -> str:
    hardware = environment.get("hardware", {})
    threads = hardware.get("threads", "?")
    parts = [
        *hardware.get("gpus", []),
        str(hardware.get("processor", "unknown processor")),
        f"{hardware.get('cores', '?')} cores",
        f"{threads} {'thread' if threads == 1 else 'threads'} for each run",
        f"torch {environment.get('versions', {}).get('torch', '?')}",
    ]
    return ", ".join(parts)


def _sources(suite: Suite) -> str:
    """Where the published values are from, with the rows if they are not all from one place."""
    rows: dict[str, list[str]] = {}
    for row in suite.rows:
        if row.published:
            rows.setdefault(row.source, []).append(row.title)
    places = [source if len(rows) == 1 else f"{source} ({_listed(rows[source])})" for source in rows if source]
    return ", ".join(part for part in (suite.paper, "; ".join(places)) if part)
