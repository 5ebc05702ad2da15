"""The committed results: their tables are theirs, nothing is missing, and nothing names the machine."""

import json
import re
from pathlib import Path

import pytest

from zoo.benchmarks.report import CSV, LATEX, MARKDOWN, draw_figures, markdown_page, table_files
from zoo.benchmarks.results import read_results
from zoo.benchmarks.suite_file import load_suite
from zoo.benchmarks.tables import SUITE_RESULTS, committed_suites

PLACES = sorted(path.parent for path in SUITE_RESULTS.glob("*/*/report.md"))


def test_the_suites_that_must_be_run_have_results() -> None:
    required = {"mnist-ladder", "permuted-mnist", "activations", "initialisation", "optimisers", "batchnorm", "dropout"}
    required |= {"residual", "batch-size", "augmentation", "keras-applications"}
    assert {name for name, size, _ in committed_suites() if size == "cpu"} >= required


@pytest.mark.parametrize("place", PLACES, ids=lambda place: f"{place.parent.name}-{place.name}")
def test_pages_are_those_of_the_results(place: Path) -> None:
    suite, size = load_suite(place.parent.name), place.name
    found = read_results(suite, size, SUITE_RESULTS)
    titles = re.findall(r"^!\[(.*)\]", (place / MARKDOWN).read_text(), flags=re.M)
    assert (place / MARKDOWN).read_text() == markdown_page(suite, size, found.by_row, titles)
    for name, content in table_files(suite, size, found.by_row).items():
        assert (place / name).read_bytes() == content, name
    assert {path.name for path in place.iterdir() if path.suffix not in (".json", ".html", "")} == {
        *(MARKDOWN, CSV, LATEX),
        *(f"figure-{number}.png" for number in range(1, len(titles) + 1)),
    }


@pytest.mark.parametrize("place", PLACES, ids=lambda place: f"{place.parent.name}-{place.name}")
def test_results_are_complete_and_of_the_present_suite(place: Path) -> None:
    suite, size = load_suite(place.parent.name), place.name
    found = read_results(suite, size, SUITE_RESULTS)
    assert (found.other_settings, found.other_versions) == (0, 0)
    for row in suite.rows:
        seeds = [result["seed"] for result in found.by_row[row.name]]
        expected = [] if row.not_run else list(range(suite.sizes[size].seeds))
        assert seeds == expected, row.name
    assert not [r for results in found.by_row.values() for r in results if r["status"] == "failed"]


@pytest.mark.parametrize("place", PLACES[:1], ids=lambda place: f"{place.parent.name}-{place.name}")
def test_a_changed_result_changes_the_page(place: Path) -> None:
    suite, size = load_suite(place.parent.name), place.name
    found = read_results(suite, size, SUITE_RESULTS)
    titles = [title for title, _ in draw_figures(suite, size, found.by_row)]
    before = markdown_page(suite, size, found.by_row, titles)
    changed = json.loads(json.dumps(found.by_row))
    next(iter(changed.values()))[0]["metrics"]["test/acc"] -= 0.1
    assert markdown_page(suite, size, changed, titles) != before
