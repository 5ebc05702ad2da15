"""A table as Markdown, CSV, LaTeX and HTML."""

import csv
import io
import re
import textwrap
from collections.abc import Mapping, Sequence

from tabulate import tabulate

from zoo.benchmarks.results import Result
from zoo.benchmarks.suite import Suite
from zoo.benchmarks.table import Table, claims_table

HEADING_WIDTH = 14
"""Signs in a line of a heading in LaTeX: pages are narrow."""
BOOKTABS = (r"\toprule", r"\midrule", r"\bottomrule")
_GREEK = {
    0x3B1: "alpha",
    0x3B2: "beta",
    0x3B3: "gamma",
    0x3B4: "delta",
    0x3B5: "epsilon",
    0x3B7: "eta",
    0x3B8: "theta",
    0x3BB: "lambda",
    0x3BC: "mu",
    0x3C1: "rho",
    0x3C3: "sigma",
    0x3C4: "tau",
}
_LATEX = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "|": r"\textbar{}",
    "<": r"$<$",  # the default font has other signs in the places of < and >
    ">": r"$>$",
    "±": r"$\pm$",
    "\u00d7": r"$\times$",
    "·": r"$\cdot$",
    "→": r"$\to$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "≈": r"$\approx$",
    "√": r"$\surd$",
    "∞": r"$\infty$",
    "²": r"$^2$",
    "§": r"\S{}",
    "[": "{[}",  # after the end of a row, the start of an option
    "*": "{*}",
    "\u2013": r"\textendash{}",
    "\u2014": r"\textemdash{}",
    "\u2019": "'",
    "\u2212": "$-$",
    **{sign: f"\\{sign}" for sign in "%$&#_{}"},
    **{chr(code): f"$\\{name}$" for code, name in _GREEK.items()},
}
_POWER = re.compile(r"(\d)e([+-])0*(\d+)\b")
_SIGN = re.compile(r"(?<![\w-])-(?=\d)")


def markdown(table: Table) -> str:
    """The table in Markdown, and its caption below it."""
    cells = [[markdown_text(cell) for cell in row] for row in table.rows]
    headings = [markdown_text(column.heading) for column in table.columns]
    return f"{_laid_out(table, headings, cells, 'pipe')}\n\n{markdown_text(table.caption)}\n"


def claims_markdown(suite: Suite, size: str, results_by_row: Mapping[str, Sequence[Result]]) -> str:
    """The claims with their verdicts, numbers and p-values in Markdown; nothing if the suite claims nothing."""
    return markdown(claims_table(suite, size, results_by_row)) if suite.claims else ""


def html(table: Table) -> str:
    """The table as an HTML element, without its caption."""
    headings = [_one_line(column.heading) for column in table.columns]
    return _laid_out(table, headings, [[_one_line(cell) for cell in row] for row in table.rows], "html")


def csv_text(table: Table) -> str:
    """The facts of the table, numbers in columns of their own with all their digits; empty columns stay."""
    if not table.records:
        return ""
    file = io.StringIO()
    writer = csv.DictWriter(file, table.records[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table.records)
    return file.getvalue()


def latex(table: Table) -> str:
    r"""A complete `table` environment; the document needs `\usepackage{booktabs}` and nothing else.

    The reasons of verdicts are notes below the table, so that it stays narrow.
    """
    notes: list[str] = []
    rows = [[*map(latex_text, row[:-1]), _noted(row[-1], notes)] for row in table.rows]
    headings = [_latex_heading(column.heading) for column in table.columns]
    lines = _laid_out(table, headings, rows, "latex_raw").splitlines()
    rules = iter(BOOKTABS)
    lines = [next(rules) if line == r"\hline" else line for line in lines]
    below = [rf"\par\smallskip $^{{{number}}}$ {latex_text(note)}" for number, note in enumerate(notes, 1)]
    label = re.sub(r"[^A-Za-z0-9]+", "-", table.label).strip("-")
    head = [r"\begin{table}", r"\centering", rf"\caption{{{latex_text(table.caption)}}}", rf"\label{{tab:{label}}}"]
    small = [r"\footnotesize", r"\setlength{\tabcolsep}{4pt}"]
    return "\n".join([*head, *small, *lines, *below, r"\end{table}", ""])


def _laid_out(table: Table, headings: list[str], rows: list[list[str]], form: str) -> str:
    sides = ["left" if column.is_text else "right" for column in table.columns]
    return tabulate(rows, headings, tablefmt=form, colalign=sides, disable_numparse=True)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def markdown_text(text: str) -> str:
    """Text in which no sign means anything to Markdown or HTML."""
    return re.sub(r"([\\|*_`<\[\]~$])", r"\\\1", _one_line(text))


def latex_text(text: str) -> str:
    """Text that LaTeX sets as it is: its special signs escaped, numbers with minus signs and powers of ten."""
    escaped = "".join(map(_latex_sign, _one_line(text)))
    escaped = _SIGN.sub("$-$", re.sub("-(?=-)", "-{}", escaped))  # two in a row would become one long dash
    return _POWER.sub(lambda found: rf"{found[1]}$\times10^{{{found[2].strip('+')}{found[3]}}}$", escaped)


def _latex_sign(sign: str) -> str:
    if sign in _LATEX:
        return _LATEX[sign]
    # What the fonts of a plain article have; anything else would stop the compiler.
    return sign if sign < "\u0180" else rf"\texttt{{U+{ord(sign):04X}}}"


def _latex_heading(heading: str) -> str:
    lines = [latex_text(line) for line in textwrap.wrap(heading, HEADING_WIDTH)]
    return lines[0] if len(lines) == 1 else r"\shortstack[r]{" + r"\\".join(lines) + "}"


def _noted(verdict: str, notes: list[str]) -> str:
    """The verdict with the number of the note that has its reason."""
    word, _, reason = verdict.partition(": ")
    if reason and reason not in notes:
        notes.append(reason)
    return latex_text(word) + (rf"$^{{{notes.index(reason) + 1}}}$" if reason else "")
