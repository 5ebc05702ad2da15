"""All suites: their files are right, every row runs at size smoke, and the pages come out."""

import re
from pathlib import Path

import pytest

from zoo.benchmarks.execute import run_job
from zoo.benchmarks.report import CSV, HTML, LATEX, MARKDOWN, write_report
from zoo.benchmarks.results import read_result, read_results
from zoo.benchmarks.runner import make_plan
from zoo.benchmarks.suite import SIZES
from zoo.benchmarks.suite_file import load_suite, parse_suite, suite_names

NAMED = {  # by the issue that asked for them
    *("mnist-ladder", "nielsen", "permuted-mnist", "activations", "initialisation", "optimisers", "schedules"),
    *("batch-size", "batchnorm", "dropout", "regularisation", "augmentation", "residual", "resnet-cifar"),
    *("vgg-configs", "transfer", "training-size", "calibration", "keras-applications", "imagenet", "robustness"),
}


def test_the_suites_that_were_promised_are_there() -> None:
    assert set(suite_names()) >= NAMED


@pytest.mark.parametrize("name", suite_names())
def test_every_row_can_be_set_up_at_every_size(name: str) -> None:
    suite = load_suite(name)
    for size in SIZES:
        digests = [suite.settings_of(row, size).digest() for row in suite.rows if not row.not_run]
        assert len(digests) == sum(not row.not_run for row in suite.rows)
    # Rows that were the same run would be compared with themselves.
    assert len(set(digests)) == len(digests), f"rows of {name} are the same at size paper"


@pytest.mark.parametrize("name", suite_names())
def test_rows_are_the_same_run_at_no_size(name: str) -> None:
    suite = load_suite(name)
    for size in ("cpu", "paper"):
        named: dict[str, str] = {}
        for row in suite.rows:
            if not row.not_run:
                digest = suite.settings_of(row, size).digest()
                assert digest not in named, f"{row.name} and {named[digest]} are the same run at size {size}"
                named[digest] = row.name


@pytest.mark.parametrize("name", suite_names())
def test_a_suite_says_what_a_smaller_size_leaves_out(name: str) -> None:
    suite = load_suite(name)
    assert suite.question.endswith("?")
    assert suite.sizes["smoke"].reduced
    trains = [suite.settings_of(row, "cpu").protocol["train"] for row in suite.rows if not row.not_run]
    if name == "imagenet":  # published weights on the official images: nothing is trained, and nothing is less
        assert not any(trains)
        return
    assert suite.sizes["cpu"].reduced
    assert suite.sizes["cpu"].seeds >= 3


@pytest.mark.parametrize("name", suite_names())
def test_a_suite_runs_at_size_smoke(name: str, tmp_path: Path) -> None:
    suite = load_suite(name)
    plan = make_plan(suite, "smoke", tmp_path)
    expected = [row.name for row in suite.rows if not row.not_run]
    assert [job.row for job in plan.jobs][: len(expected)] == expected
    for job in plan.jobs:
        result = read_result(run_job(job))
        assert result["status"] in ("finished", "diverged"), f"{job.row}: {result['error']}"
    found = read_results(suite, "smoke", tmp_path)
    assert found.count == len(plan.jobs)
    assert not make_plan(suite, "smoke", tmp_path).jobs
    assert not list((tmp_path / name / "smoke").glob(".work/*"))
    pages = {path.name: path for path in write_report(suite, "smoke", found.by_row, tmp_path / "pages")}
    assert {MARKDOWN, HTML, CSV, LATEX} <= pages.keys()
    assert all(row.title in pages[HTML].read_text() for row in suite.rows if re.fullmatch(r"[\w -]+", row.title))
    assert len(pages[CSV].read_text().splitlines()) == 1 + len(suite.rows)


GOOD = {
    "title": "t",
    "question": "q?",
    "metric": "test error",
    "sizes": {"smoke": {}, "cpu": {}, "paper": {}},
    "rows": [{"name": "a", "settings": {"model": "mlp"}}, {"name": "b", "settings": {"model": "softmax"}}],
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "test eror"}, "unknown metric 'test eror'. Did you mean 'test error'?"),
        ({"rows": []}, "it needs rows"),
        ({"rows": GOOD["rows"] * 2}, "each with a name of its own"),  # type: ignore[operator]  # a list
        ({"sizes": {"smoke": {}}}, "it has the sizes smoke"),
        ({"row": []}, "unknown 'row' in a suite. Did you mean 'rows'?"),
        ({"settings": {"recipe.learning_rate": 1}}, "unknown setting 'recipe.learning_rate'."),
        ({"settings": {"recipe": {"lr": 1}}}, "write 'recipe.NAME: VALUE'"),
        ({"settings": {"select": "first"}}, "select is first: it must be one of last, best"),
        ({"claims": [{"text": "x", "metric": "test error", "higher": "a", "lower": "c"}]}, "unknown row 'c'"),
        ({"claims": [{"text": "x", "metric": "test error", "row": "a"}]}, "either above or below"),
        ({"figures": [{"kind": "pie", "metric": "test error"}]}, "unknown figure 'pie'"),
        ({"rows": [{"name": "a", "published": {"test error": 1.0}}]}, "as the source prints it"),
        ({"rows": [{"name": "a", "published": {"test error": "1.0"}}]}, "a published value needs its source"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(change: dict[str, object], message: str) -> None:
    parse_suite("good", GOOD)
    with pytest.raises(ValueError, match=r"^suite bad: ") as error:
        parse_suite("bad", {**GOOD, **change})
    assert message in str(error.value)
    assert "\n" not in str(error.value)
