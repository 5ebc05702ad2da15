"""Comparison tables: cells, captions and every format, from results made by hand."""

import csv
import io
import random
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from zoo.benchmarks.formatting import heading, p_text, sample_text, signed_text, value_text
from zoo.benchmarks.markup import claims_markdown, csv_text, html, latex, latex_text, markdown, markdown_text
from zoo.benchmarks.statistics import Sample, describe
from zoo.benchmarks.suite import Row, Size, Suite
from zoo.benchmarks.suite_file import parse_suite
from zoo.benchmarks.table import Table, claims_table, table

HOSTILE = r"a_b & 50% | [x] {y} #1 $z ^~ \frac <b> ± η λ - 深"
SUITE: dict[str, Any] = {
    "title": "Depth",
    "question": "Does depth hurt?",
    "paper": "Somebody 2016",
    "metric": "test error",
    "also": ["training loss", "depth"],
    "published_also": ["top-5 error"],
    "sizes": {"smoke": {"reduced": "tiny"}, "cpu": {"reduced": "10 epochs"}, "paper": {}},
    "rows": [
        {"name": "deep", "published": {"test error": "13.0 ± 0.2"}, "source": "Fig. 6"},
        {"name": "flat", "label": HOSTILE, "published": {"test error": "> 60"}, "source": "Table 6"},
        {"name": "gone", "not_run": "needs 8 GPUs"},
        {"name": "broken"},
    ],
    "claims": [
        {"text": "deep is worse", "metric": "test error", "higher": "deep", "lower": "flat", "source": "§ 4"},
        {"text": "it learns", "metric": "training loss", "row": "deep", "below": 1.0},
    ],
}
ERRORS = {"deep": (13.0, 13.5, 12.8), "flat": (9.0, 9.3, 9.1)}


def result(row: str, seed: int, error: float, status: str = "finished", **changes: Any) -> dict[str, Any]:
    images = {"train": 45_000, "val": 5_000, "test": 10_000}
    metrics = {"test/acc": 1 - error / 100, "train/loss": 0.3 + seed / 100, "depth": 20}
    return {
        "row": row,
        "seed": seed,
        "key": f"{row}{seed}",
        "status": status,
        "error": f"RuntimeError: {HOSTILE}\nand more" if status == "failed" else "",
        "data": {"name": "cifar10", "source": "class folders", "images": images, "num_classes": 10},
        "parameters": 269_722,
        "macs": 40_551_050,
        "seconds": 61.0 + 2 * seed**2,
        "metrics": metrics if status == "finished" else {},
        "environment": {
            "versions": {"torch": "2.15.0"},
            "hardware": {"processor": "A processor", "cores": 2, "threads": 1, "gpus": []},
        },
    } | changes


def all_results() -> dict[str, list[dict[str, Any]]]:
    found = {row: [result(row, seed, error) for seed, error in enumerate(errors)] for row, errors in ERRORS.items()}
    found["flat"][1] = result("flat", 1, 0, "diverged")
    return found | {"broken": [result("broken", 0, 0, "failed")]}


def made(size: str = "cpu", **changes: Any) -> Table:
    return table(parse_suite("depth", SUITE | changes), size, all_results())


def cell(of: Table, row: int, name: str) -> str:
    return of.rows[row][[column.heading for column in of.columns].index(name)]


def test_cells_are_what_was_measured() -> None:
    found = made()
    mean, std = np.mean(ERRORS["deep"]), np.std(ERRORS["deep"], ddof=1)
    half = 4.30265 * std / 3**0.5
    expected = {
        "row": "deep",
        "published test error (%)": "13.0 ± 0.2",
        "measured test error (%)": f"{mean:.2f} ± {std:.2f} (3)",
        "95 % interval": f"{mean - half:.2f} to {mean + half:.2f}",
        "difference": f"+{mean - 13:.2f}",
        "training loss": "0.3100 ± 0.0100 (3)",
        "depth": "20",
        "parameters": "269,722",
        "MACs (M)": "40.55",
        "seconds": "63",  # the median of 61, 63 and 69
        "verdict": "not comparable: deep is worse: undecided: p = 0.76 with 3 seeds",
    }
    assert {name: cell(found, 0, name) for name in expected} == expected
    assert [column.heading for column in found.columns] == list(expected)  # nobody published a top-5 error


def test_rows_that_did_not_finish_are_rows() -> None:
    found = made()
    assert [row[-1].partition(":")[0] for row in found.rows] == [
        "not comparable",
        "diverged (1 of 3)",
        "not run",
        "failed",
    ]
    assert cell(found, 1, "measured test error (%)").startswith("9.05 ± 0.07 (2)")  # 9.0 and 9.1
    assert cell(found, 2, "measured test error (%)") == cell(found, 3, "parameters") == ""
    assert "A run that diverged is in no mean; in claims it counts as guessing." in found.caption


def test_columns_that_are_empty_in_every_row_are_left_out_but_for_three() -> None:
    empty = table(parse_suite("depth", SUITE), "paper", {})
    assert [column.heading for column in empty.columns] == [
        "row",
        "published test error (%)",
        "measured test error (%)",
        "verdict",
    ]
    assert {row[-1] for row in empty.rows} == {"not run", "not run: needs 8 GPUs"}
    assert "Hardware" not in empty.caption
    rows = [{"name": "deep", "published": {"top-5 error": "5.25"}}]
    with_second = table(parse_suite("depth", SUITE | {"rows": rows, "claims": []}), "paper", {})
    assert cell(with_second, 0, "published top-5 error") == "5.25"


def test_one_seed_has_no_spread_and_no_interval() -> None:
    found = table(parse_suite("depth", SUITE), "cpu", {"deep": [result("deep", 0, 13.0)]})
    assert cell(found, 0, "measured test error (%)") == "13.00 (1)"
    assert "95 % interval" not in [column.heading for column in found.columns]
    assert found.records[0]["std"] is None


def test_caption_says_what_one_must_know() -> None:
    caption = made().caption
    for part in (
        "Does depth hurt?",
        "Size cpu: 10 epochs.",
        "test error (%)",
        "Seeds: 0, 1, 2.",
        "cifar10 (class folders; 45,000 training, 5,000 validation, 10,000 test images)",
        "A processor, 2 cores, 1 thread for each run, torch 2.15.0",
        "t-intervals of the mean over the seeds",
        f"Somebody 2016, Fig. 6 (deep); Table 6 ({HOSTILE})",
    ):
        assert part in caption
    assert "Size paper: nothing is reduced." in made("paper").caption


def test_caption_names_all_data_and_machines() -> None:
    results = all_results()
    results["deep"][0]["data"] = {"name": "mnist", "source": "", "images": {"train": 100}, "num_classes": 10}
    results["deep"][1]["data"]["images"] = {"train": 500, "val": 5_000, "test": 10_000}
    results["deep"][2]["environment"]["hardware"]["gpus"] = ["A GPU"]
    caption = table(parse_suite("depth", SUITE), "cpu", results).caption
    assert "500 to 45,000 training, 5,000 validation, 10,000 test images); mnist (100 training images)." in caption
    assert "Hardware: A GPU, A processor, 2 cores" in caption
    assert caption.count("A processor") == 2


def test_order_of_results_has_no_effect() -> None:
    suite, first = parse_suite("depth", SUITE), all_results()
    texts = [markdown(table(suite, "cpu", first)), csv_text(table(suite, "cpu", first))]
    claims = claims_markdown(suite, "cpu", first)
    for seed in range(5):
        shuffled = list(first.items())
        random.Random(seed).shuffle(shuffled)
        other = {row: random.Random(seed).sample(results, len(results)) for row, results in shuffled}
        again = table(suite, "cpu", other)
        assert [markdown(again), csv_text(again)] == texts
        assert latex(again) == latex(table(suite, "cpu", first))
        assert claims_markdown(suite, "cpu", other) == claims


def test_suite_made_in_memory_with_nothing_published() -> None:
    rows = (Row("norm=none"), Row("norm=batch"))
    suite = Suite("ablation", "My grid", "", "test error", rows, {"own": Size()})
    found = table(suite, "own", {"norm=none": [result("norm=none", 0, 12.0)]})
    assert [cell(found, row, "verdict") for row in (0, 1)] == [
        "not comparable: no test error is published",
        "not run",
    ]
    assert found.caption.startswith("Measured: ")
    assert "ublished" not in found.caption
    assert claims_markdown(suite, "own", {}) == ""


# Formats


def test_csv_has_numbers_of_full_precision() -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text(made()))))
    assert float(rows[0]["mean"]) == pytest.approx(np.mean(ERRORS["deep"]), rel=1e-14)
    assert float(rows[0]["difference"]) == pytest.approx(np.mean(ERRORS["deep"]) - 13, rel=1e-9)
    assert (rows[0]["published"], rows[0]["published_value"], rows[0]["n"]) == ("13.0 ± 0.2", "13.0", "3")
    assert float(rows[0]["training loss mean"]) == pytest.approx(0.31)
    assert (rows[1]["label"], rows[1]["published_value"]) == (HOSTILE, "60.0")
    assert (rows[2]["mean"], rows[2]["n"], rows[2]["verdict"]) == ("", "0", "not run: needs 8 GPUs")
    assert {row["metric"] + row["unit"] for row in rows} == {"test error%"}


def test_markdown_has_the_cells_and_nothing_breaks_out() -> None:
    text = markdown(made())
    lines = text.split("\n\n")[0].splitlines()
    assert len(lines) == 2 + len(SUITE["rows"])
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(made().columns) + 1}
    assert re.sub(r"\\(.)", r"\1", lines[3]).startswith(f"| {HOSTILE} ")
    assert not re.search(r"(?<!\\)[<*`\[]", text)
    assert markdown_text("a\nb  c") == "a b c"


class Cells(HTMLParser):
    """Text of the cells, row by row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert tag in ("table", "thead", "tbody", "tr", "th", "td")
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip()


def test_html_has_the_cells_and_escapes_them() -> None:
    found = made()
    rows = Cells(html(found)).rows
    assert rows[0] == [column.heading for column in found.columns]
    assert rows[1:] == [[" ".join(cell.split()) for cell in row] for row in found.rows]


def assert_is_latex(text: str) -> None:
    """No sign is left that LaTeX would not set as it is, and all groups and environments are closed."""
    plain = re.sub(r"\\\\|\\[%$&#_{}]|\\[a-zA-Z]+", "", text)
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    mathematics = re.findall(r"\$[^$]*\$", plain)
    outside = re.sub(r"\$[^$]*\$", "", plain)
    assert not re.search(r"[%#_^~$<>|\\\u00b1]", outside.replace("\\\n", "")), outside
    assert all(re.fullmatch(r"\$[-<>]?(\^?10)?(\^\{-?\d+\})?\$", part) for part in mathematics), mathematics
    assert re.findall(r"\\begin\{(\w+)\}", text) == re.findall(r"\\end\{(\w+)\}", text)[::-1]


@pytest.mark.parametrize("size", ["smoke", "cpu", "paper"])
def test_latex_is_a_complete_booktabs_table(size: str) -> None:
    found = made(size)
    text = latex(found)
    assert_is_latex(text)
    lines = text.splitlines()
    assert (lines[0], lines[-1]) == (r"\begin{table}", r"\end{table}")
    assert rf"\label{{tab:depth-{size}}}" in lines
    rules = [line for line in lines if line.endswith("rule")]
    assert rules == [r"\toprule", r"\midrule", r"\bottomrule"]
    body = lines[lines.index(r"\midrule") + 1 : lines.index(r"\bottomrule")]
    assert len(body) == len(found.rows)
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {len(found.columns) - 1}
    assert all(line.endswith(r"\\") for line in body)
    assert "[" not in body[1].replace("{[}", "")  # would be an option of the end of the row above
    assert r"13.0 $\pm$ 0.2" in body[0]
    assert "not run$^{" in body[2] and "needs 8 GPUs" in text


def test_latex_of_the_claims() -> None:
    text = latex(claims_table(parse_suite("depth", SUITE), "cpu", all_results()))
    assert_is_latex(text)
    assert r"deep is worse (\S{} 4)" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50 % of a_b", r"50 \% of a\_b"),
        ("> 60", "$>$ 60"),
        ("-0.12", "$-$0.12"),
        ("8.1 to -9.2", "8.1 to $-$9.2"),
        ("plain-20", "plain-20"),
        ("--model.norm", "-{}-model.norm"),
        ("-2.0e-03", r"$-$2.0$\times10^{-3}$"),
        ("1.2e+06", r"1.2$\times10^{6}$"),
        ("λ = η", r"$\lambda$ = $\eta$"),
        ("深", r"\texttt{U+6DF1}"),
        ("François", "François"),
        ("\\", r"\textbackslash{}"),
    ],
)
def test_latex_text(text: str, expected: str) -> None:
    assert latex_text(text) == expected


# Claims


def test_claims_have_verdicts_numbers_and_p() -> None:
    suite, results = parse_suite("depth", SUITE), all_results()
    results["flat"] = [result("flat", seed, error) for seed, error in enumerate(ERRORS["flat"])]
    found = claims_table(suite, "cpu", results)
    assert [row[-1] for row in found.rows] == ["reproduced", "reproduced"]
    margins = np.subtract(ERRORS["deep"], ERRORS["flat"])
    assert cell(found, 0, "margin") == f"+{margins.mean():.2f}"
    assert cell(found, 0, "measured") == f"deep {np.mean(ERRORS['deep']):.2f}, {HOSTILE} {np.mean(ERRORS['flat']):.2f}"
    assert cell(found, 1, "margin") == "+0.6900"
    assert found.records[0]["margin_mean"] == pytest.approx(margins.mean())
    assert (found.records[0]["first_row"], found.records[0]["second_row"]) == ("deep", "flat")
    assert found.records[1]["below"] == 1.0
    assert found.records[1]["second_mean"] is None
    assert "paired by seed" in claims_markdown(suite, "cpu", results)
    assert {row[-1] for row in claims_table(suite, "smoke", results).rows} == {"not comparable: smoke"}
    assert {row[-1] for row in claims_table(suite, "cpu", {}).rows} == {"not run"}


# Numbers


def test_headings_have_the_unit_once() -> None:
    assert heading("test error") == "test error (%)"
    assert heading("size (MB)") == "size (MB)"
    assert heading("ms per step, batch 1") == "ms per step, batch 1"
    assert heading("test loss") == "test loss"


def test_numbers_have_the_digits_of_their_metric() -> None:
    assert value_text("test error", 8.756) == "8.76"
    assert value_text("parameters", 269722.0) == "269,722"
    assert value_text("gradient of the first layer", 3.2e-9) == "3.2e-09"
    assert value_text("training loss", 4.5e12) == "4.5e+12"
    assert value_text("test error", 0.0) == value_text("test error", -1e-12, 8.0) == "0.00"
    assert sample_text("gradient of the first layer", describe([2e-9, 4e-9])) == "3.0e-09 ± 1.4e-09 (2)"
    assert sample_text("depth", Sample(3, 56.0, 0.0, 56.0, 56.0)) == "56"
    assert signed_text("test error", 1e-15, 8.0) == "+0.00"
    assert (p_text(0.0421), p_text(0.0), p_text(None)) == ("0.042", "< 0.001", "")
