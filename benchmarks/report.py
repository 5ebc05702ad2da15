"""The pages of a suite: report.md, report.html, table.csv, table.tex and the figures, all from its results."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.benchmarks import figures, html, markup
from zoo.benchmarks.results import Result
from zoo.benchmarks.suite import SIZES, Suite
from zoo.benchmarks.table import Table, claims_table, table
from zoo.weight_files import atomic_file

if TYPE_CHECKING:
    from rich.table import Table as ScreenTable

ByRow = Mapping[str, Sequence[Result]]
MARKDOWN, HTML, CSV, LATEX = "report.md", "report.html", "table.csv", "table.tex"
FIGURE = "figure-{number}.png"


def write_report(suite: Suite, size: str, by_row: ByRow, folder: Path) -> list[Path]:
    """Write the pages into a folder; the files written.

    Raises:
        OSError: If the folder cannot be written to.
    """
    pictures = draw_figures(suite, size, by_row)
    contents = {
        MARKDOWN: markdown_page(suite, size, by_row, [title for title, _ in pictures]).encode(),
        **table_files(suite, size, by_row),
        HTML: html_page(suite, size, by_row, pictures).encode(),
        **{FIGURE.format(number=number): image for number, (_, image) in enumerate(pictures, 1)},
    }
    for stale in folder.glob(FIGURE.format(number="*")):
        if stale.name not in contents:
            stale.unlink()
    for name, content in contents.items():
        with atomic_file(folder / name) as file:
            file.write(content)
    return [folder / name for name in contents]


def table_files(suite: Suite, size: str, by_row: ByRow) -> dict[str, bytes]:
    """The table as CSV and LaTeX, by the names of their files."""
    whole = table(suite, size, by_row)
    return {CSV: markup.csv_text(whole).encode(), LATEX: markup.latex(whole).encode()}


def markdown_page(suite: Suite, size: str, by_row: ByRow, titles: Sequence[str]) -> str:
    """The page in Markdown; the figures of these titles lie beside it."""
    parts = [f"# {suite.title}", markup.markdown(table(suite, size, by_row)).rstrip()]
    if suite.notes:
        parts.append(markup.markdown_text(suite.notes))
    if suite.claims:
        parts += ["## Claims", markup.claims_markdown(suite, size, by_row).rstrip()]
    if titles:
        pictures = [f"![{title}]({FIGURE.format(number=number)})" for number, title in enumerate(titles, 1)]
        parts += ["## Figures", *pictures]
    if size in SIZES:  # not of a suite that was made on the way
        command = f"zoo benchmark run {suite.name} --size {size}"
        parts.append(f"Made by `{command}` and `{command.replace(' run ', ' report ')}`.")
    return "\n\n".join(parts) + "\n"


def html_page(suite: Suite, size: str, by_row: ByRow, pictures: Sequence[tuple[str, bytes]]) -> str:
    """The page in HTML, with the figures in it."""
    whole = table(suite, size, by_row)
    claims = markup.html(claims_table(suite, size, by_row)) if suite.claims else ""
    environments = [result["environment"] for results in by_row.values() for result in results]
    return html.page(suite, size, markup.html(whole), whole.caption, claims, pictures, environments)


def draw_figures(suite: Suite, size: str, by_row: ByRow) -> list[tuple[str, bytes]]:
    """Title and PNG of each figure that has something to show."""
    drawn = [figures.draw(suite, size, one, by_row) for one in suite.figures or figures.default_figures(suite)]
    return [(picture.get_suptitle(), figures.png(picture)) for picture in drawn if picture is not None]


def screen(suite: Suite, size: str, by_row: ByRow) -> "ScreenTable":
    """The table for a terminal."""
    return for_screen(table(suite, size, by_row))


def screen_claims(suite: Suite, size: str, by_row: ByRow) -> "ScreenTable":
    """The claims for a terminal."""
    return for_screen(claims_table(suite, size, by_row))


def for_screen(whole: Table) -> "ScreenTable":
    """The table as rich prints it."""
    from rich.table import Table as ScreenTable
    from rich.text import Text

    shown = ScreenTable(box=None, header_style="bold", pad_edge=False)
    for column in whole.columns:
        shown.add_column(column.heading, justify="left" if column.is_text else "right")
    for row in whole.rows:
        shown.add_row(*map(Text, row))
    return shown
