"""Figures of the report hold the numbers of the results; the page holds everything and escapes it."""

import base64
import random
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from scipy import stats

from zoo.benchmarks.figures import default_figures, draw, png
from zoo.benchmarks.html import facts, page
from zoo.benchmarks.results import Result
from zoo.benchmarks.suite import Claim, Figure, Row, Size, Suite

STEPS = (100, 200, 300)


def make_suite(count: int = 3, **changes: Any) -> Suite:
    rows = tuple(Row(f"row{i}", x=10.0 * (3 - i), series="ab"[i % 2], source="Table 1") for i in range(count))
    size = {"cpu": Size(reduced="3 epochs")}
    return replace(Suite("deep", "Deeper", "Is it?", "test error", rows, size, paper="Someone 2016"), **changes)


def make_result(row: int, seed: int, curve: str = "val", **changes: Any) -> Result:
    values = np.random.default_rng([row, seed]).uniform(0.5, 0.9, (len(STEPS), 2))
    points = [
        {"epoch": e, "step": step, "train/acc": train, "train/loss": 1 - train, f"{curve}/acc": other}
        for e, (step, (train, other)) in enumerate(zip(STEPS, values.tolist(), strict=True), 1)
    ]
    metrics = {"test/acc": float(values[-1, 1]), "test/loss": 0.1 + row}
    extra = {"gradients": [10.0 ** (layer - 3 - row) * (1 + seed) for layer in range(4)]}
    data = {"num_classes": 10, "name": "digits"}
    facts = {"seed": seed, "status": "finished", "data": data, "metrics": metrics, "curve": points, "extra": extra}
    return {**facts, **changes}


def make_results(suite: Suite, seeds: int = 3, curve: str = "val") -> dict[str, list[Result]]:
    return {row.name: [make_result(i, seed, curve) for seed in range(seeds)] for i, row in enumerate(suite.rows)}


def axes_of(suite: Suite, figure: Figure, results: dict[str, list[Result]]) -> Axes:
    picture = draw(suite, "cpu", figure, results)
    assert picture is not None
    return picture.axes[0]


def curves(results: list[Result], key: str) -> np.ndarray[Any, Any]:
    """Values in percent of error, a line for each seed."""
    return np.array([[100 * (1 - point[key]) for point in result["curve"]] for result in results])


def legend(axes: Axes) -> list[str]:
    found = axes.get_legend()
    return [] if found is None else [text.get_text() for text in found.get_texts()]


def test_curves_are_means_in_bands_with_the_training_error_dashed() -> None:
    suite = make_suite()
    results = make_results(suite)
    axes = axes_of(suite, Figure("curves", "validation error"), results)
    assert axes.get_ylabel() == "validation error (%)"
    assert legend(axes) == ["row0", "row1", "row2"]
    assert len(axes.lines) == 6
    assert len(axes.collections) == 3  # a band for each bold line
    for place, row in enumerate(suite.rows):
        bold, dashed = axes.lines[2 * place : 2 * place + 2]
        for line, key in ((bold, "val/acc"), (dashed, "train/acc")):
            assert tuple(line.get_xdata()) == STEPS
            np.testing.assert_allclose(line.get_ydata(), curves(results[row.name], key).mean(axis=0))
        assert bold.get_color() == dashed.get_color()
        assert (bold.get_linestyle(), dashed.get_linestyle()) == ("-", "--")
        assert bold.get_linewidth() > dashed.get_linewidth()
        values = curves(results[row.name], "val/acc")
        corners = axes.collections[place].get_paths()[0].vertices
        for step, low, high in zip(STEPS, values.min(axis=0), values.max(axis=0), strict=True):
            found = corners[corners[:, 0] == step][:, 1]
            np.testing.assert_allclose((found.min(), found.max()), (low, high))


@pytest.mark.parametrize(("asked", "measured"), [("validation error", "test"), ("test error", "val")])
def test_curves_show_the_images_that_were_tested_during_training(asked: str, measured: str) -> None:
    suite = make_suite(1)
    results = make_results(suite, curve=measured)
    axes = axes_of(suite, Figure("curves", asked), results)
    assert axes.get_ylabel() == {"val": "validation error (%)", "test": "test error (%)"}[measured]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), curves(results["row0"], f"{measured}/acc").mean(axis=0))


def test_rows_tested_on_different_images_say_so() -> None:
    suite = make_suite(2)
    results = {"row0": [make_result(0, 0)], "row1": [make_result(1, 0, curve="test")]}
    axes = axes_of(suite, Figure("curves", "validation error"), results)
    assert axes.get_ylabel() == "test error or validation error (%)"
    assert [" ".join(label.split()) for label in legend(axes)] == ["row0 (validation error)", "row1 (test error)"]


def test_other_curves_have_one_line_for_each_row() -> None:
    suite = make_suite()
    axes = axes_of(suite, Figure("curves", "training loss", rows="row[02]", log="y"), make_results(suite))
    assert (len(axes.lines), legend(axes), axes.get_yscale()) == (2, ["row0", "row2"], "log")


def test_a_mean_is_of_the_seeds_that_came_so_far() -> None:
    suite = make_suite(1)
    results = make_results(suite, seeds=2)
    results["row0"][1]["curve"] = results["row0"][1]["curve"][:1]  # diverged in the second epoch
    results["row0"][1]["status"] = "diverged"
    results["row0"][0]["curve"][2]["train/loss"] = float("nan")
    axes = axes_of(suite, Figure("curves", "training loss"), results)
    first, second = ([point["train/loss"] for point in result["curve"]] for result in results["row0"])
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [(first[0] + second[0]) / 2, first[1]])
    assert " ".join(legend(axes)[0].split()) == "row0 (1 of 2 diverged)"


def test_bars_are_means_with_t_intervals_and_published_values() -> None:
    suite = make_suite()
    published = ("8.75", "> 60", "about ten")
    rows = [replace(row, published={"test error": text}) for row, text in zip(suite.rows, published, strict=True)]
    suite = replace(suite, rows=tuple(rows))
    results = make_results(suite, seeds=4)
    axes = axes_of(suite, Figure("bars", "test error"), results)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["row0", "row1", "row2"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first row is the highest
    whiskers = [container.errorbar for container in axes.containers if hasattr(container, "errorbar")]
    for bar, whisker, found in zip(axes.patches, whiskers, results.values(), strict=True):
        values = [100 * (1 - result["metrics"]["test/acc"]) for result in found]
        assert bar.get_width() == pytest.approx(np.mean(values))
        expected = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        np.testing.assert_allclose(whisker.lines[2][0].get_segments()[0][:, 0], expected)
    marks = [(line.get_marker(), *line.get_xydata()[0]) for line in axes.lines if line.get_marker() in "D<>"]
    assert marks == [("D", 8.75, 0), (">", 60, 1)]
    assert axes.get_xlim()[0] == 0


def test_bars_of_one_seed_have_no_whiskers_and_failed_runs_no_bar() -> None:
    suite = make_suite()
    diverged, failed = make_result(1, 0, status="diverged"), make_result(2, 0, status="failed", metrics={})
    axes = axes_of(
        suite, Figure("bars", "test error"), {"row0": [make_result(0, 0)], "row1": [diverged], "row2": [failed]}
    )
    assert [label.get_text() for label in axes.get_yticklabels()] == ["row0", "row1 (1 of 1 diverged)"]
    assert [bar.get_y() + bar.get_height() / 2 for bar in axes.patches] == [0]
    assert "diverged" in [text.get_text() for text in axes.texts]
    assert not axes.lines
    assert not axes.collections


def test_against_draws_a_line_for_each_series_in_order_of_x() -> None:
    suite = make_suite(4)
    suite = replace(suite, rows=(*suite.rows, Row("without x")))
    results = make_results(suite)
    axes = axes_of(suite, Figure("against", "test error", x_label="depth"), results)
    assert (axes.get_xlabel(), axes.get_ylabel(), legend(axes)) == ("depth", "test error (%)", ["a", "b"])
    for container, rows in zip(axes.containers, ((2, 0), (3, 1)), strict=True):
        line, _, (whiskers,) = container.lines
        values = np.array([[100 * (1 - r["metrics"]["test/acc"]) for r in results[f"row{i}"]] for i in rows])
        np.testing.assert_allclose(line.get_xdata(orig=False), [10 * (3 - i) for i in rows])
        np.testing.assert_allclose(line.get_ydata(orig=False), values.mean(axis=1))
        halves = [np.ptp(segment[:, 1]) / 2 for segment in whiskers.get_segments()]
        np.testing.assert_allclose(halves, values.std(axis=1, ddof=1))


def test_a_logarithmic_axis_keeps_a_zero_and_plain_numbers() -> None:
    suite = make_suite(4)  # x is 30, 20, 10 and 0
    axes = axes_of(suite, Figure("against", "test error", log="x"), make_results(suite))
    assert axes.get_xscale() == "symlog"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "10", "20", "30"]
    places = axes.transData.transform([(x, 1) for x in (0, 10, 20, 30)])[:, 0]
    assert np.isfinite(places).all()
    assert (np.diff(places) > 0).all()
    assert places[0] >= axes.get_window_extent().x0


def test_layers_are_numbered_from_one_on_a_logarithmic_axis() -> None:
    suite = make_suite()
    results = make_results(suite)
    results["row1"] = [make_result(1, 0, extra={})]  # not measured
    axes = axes_of(suite, Figure("layers", "gradients"), results)
    assert (axes.get_yscale(), legend(axes)) == ("log", ["row0", "row2"])
    assert axes.get_ylabel() == "root mean square of the gradient"
    for line, row in zip(axes.lines, (0, 2), strict=True):
        assert list(line.get_xdata()) == [1, 2, 3, 4]
        np.testing.assert_allclose(line.get_ydata(), [2 * 10.0 ** (layer - 3 - row) for layer in range(4)])


FIGURES = [Figure("curves", "test error"), Figure("bars", "test error"), Figure("against", "test error")]
FIGURES.append(Figure("layers", "gradients"))


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.kind)
def test_the_order_of_results_does_not_matter_and_missing_rows_are_left_out(figure: Figure) -> None:
    suite = make_suite()
    results = make_results(suite)
    results["row1"] = []
    del results["row2"]
    shuffled = {"row0": results["row0"][::-1]}
    first, second = (draw(suite, "cpu", figure, found) for found in (results, shuffled))
    assert first is not None
    assert second is not None
    assert png(first) == png(second)
    texts = " ".join(text.get_text() for text in first.axes[0].get_yticklabels()) + " ".join(legend(first.axes[0]))
    assert "row1" not in texts
    assert "row2" not in texts
    assert draw(suite, "cpu", figure, {"row0": []}) is None
    assert draw(suite, "cpu", figure, {}) is None


def test_one_seed_has_no_band_and_the_note_does_not_speak_of_one() -> None:
    suite = make_suite(1)
    one, three = (draw(suite, "cpu", Figure("curves", "test error"), make_results(suite, seeds)) for seeds in (1, 3))
    assert one is not None
    assert three is not None
    assert not one.axes[0].collections
    notes = [" ".join(picture.get_supxlabel().split()) for picture in (one, three)]
    assert notes[0] == "deep, size cpu, 1 seed. Bold: validation error; dashed: training error."
    assert "3 seeds" in notes[1]
    assert "bands: least to greatest" in notes[1]


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.kind)
def test_twenty_long_names_stay_inside_the_picture_and_apart(figure: Figure) -> None:
    suite = make_suite(20)
    rows = [
        replace(row, label=f"{row.name}: projection shortcuts in all of the blocks", series="s") for row in suite.rows
    ]
    picture = draw(replace(suite, rows=tuple(rows)), "cpu", figure, make_results(suite))
    assert picture is not None
    picture.draw_without_rendering()
    width, height = picture.get_size_inches()
    bounds = picture.get_tightbbox()
    assert min(bounds.x0, bounds.y0) > -0.02
    assert bounds.x1 < width + 0.02
    assert bounds.y1 < height + 0.02
    axes = picture.axes[0]
    found = axes.get_legend()
    texts = axes.get_yticklabels() if figure.kind == "bars" else found.get_texts() if found else []
    boxes = sorted((text.get_window_extent() for text in texts), key=lambda box: box.y0)
    assert all(low.y1 <= high.y0 + 2 for low, high in pairwise(boxes))
    if figure.kind in ("curves", "layers"):
        assert len({(to_hex(line.get_color()), line.get_marker()) for line in axes.lines}) == 20


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("test error", [("curves", "validation error"), ("bars", "test error")]),
        ("test loss", [("curves", "validation loss"), ("bars", "test loss")]),
        ("training loss", [("curves", "training loss"), ("bars", "training loss")]),
        ("ECE", [("bars", "ECE")]),
        ("first-epoch accuracy", [("bars", "first-epoch accuracy")]),
    ],
)
def test_default_figures_follow_the_main_metric(metric: str, expected: list[tuple[str, str]]) -> None:
    assert [(f.kind, f.metric) for f in default_figures(make_suite(metric=metric))] == expected


class Reader(HTMLParser):
    """Checks that every element is closed where it was opened; collects attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


TABLE = "<table><tbody><tr><td>failed nets</td><td style='x'>{}</td></tr></tbody></table>"


def make_page(**changes: Any) -> str:
    hostile = "<script>alert('&')</script>"
    suite = make_suite(title=hostile, question=hostile, notes=hostile, paper=hostile)
    given: dict[str, Any] = {
        "table_html": TABLE.format("ordering reproduced"),
        "claims_html": TABLE.format("differs: it is higher"),
        "figures": [(f'a "picture" {hostile}', b"\x89PNG one"), ("another", b"\x89PNG two")],
        "environments": [{"versions": {"torch": hostile}, "hardware": {"gpus": []}, "git_commit": None}],
    }
    return page(suite, "cpu", caption=hostile, **{**given, **changes})


def test_the_page_is_well_formed_and_refers_to_nothing_outside() -> None:
    text = make_page()
    reader = Reader(text)
    assert reader.open == []
    images = [attributes for tag, attributes in reader.seen if tag == "img"]
    prefix = "data:image/png;base64,"
    sources = [attributes["src"] or "" for attributes in images]
    assert [base64.b64decode(source.removeprefix(prefix)) for source in sources] == [b"\x89PNG one", b"\x89PNG two"]
    assert (images[0]["alt"] or "").startswith('Figure: a "picture" <script>')
    others = [a.get(name) for tag, a in reader.seen for name in ("src", "href", "srcset", "action") if tag != "img"]
    assert set(others) == {None}
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in reader.seen}
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text


def test_the_page_shows_its_texts_escaped() -> None:
    text = make_page()
    assert "<script" not in text
    shown = Reader(text).text
    assert shown.count("<script>alert('&')</script>") == 7  # title twice, question, paper, notes, caption, torch
    assert "Reduced: 3 epochs" in shown


def test_verdicts_are_coloured_and_nothing_else() -> None:
    words = ["reproduced", "ordering reproduced", "differs: x", "diverged (1 of 3)", "failed: x", "undecided: x"]
    words += ["not comparable: smoke", "not run: x", "something else"]
    table = "".join(TABLE.format(word) for word in words)
    found = [a["class"] for tag, a in Reader(make_page(table_html=table, claims_html="")).seen if tag == "span"]
    assert found == ["good", "good", "bad", "bad", "bad", "open", "neutral", "neutral"]


def test_sections_without_content_are_left_out() -> None:
    shown = Reader(make_page(claims_html="", figures=[], environments=[])).text
    assert not any(heading in shown for heading in ("Claims", "Figures", "Versions and hardware"))
    full = make_suite(sizes={"paper": Size()}, claims=(Claim("c", "test error", row="row0", above=1),))
    assert "Nothing is reduced at this size." in page(full, "paper", "", "", "", [])


def test_facts_name_every_machine_once() -> None:
    runs = [
        {"versions": {"torch": version}, "hardware": {"cores": 2, "gpus": gpus}, "git_commit": "abc"}
        for version, gpus in (("2.11", []), ("2.10", ["H100", "H100"]), ("2.11", []))
    ]
    expected = [("torch", "2.10; 2.11"), ("cores", "2"), ("gpus", "H100, H100; none"), ("commit", "abc")]
    assert facts(runs) == expected
    random.Random(0).shuffle(runs)
    assert facts(runs) == expected
