"""The report as one HTML page that needs nothing else: styles and pictures are in it, and it may load nothing."""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.benchmarks.suite import Suite

TEMPLATE = "page.html.jinja"
COLOURS = {
    "reproduced": "good",
    "ordering reproduced": "good",
    "differs": "bad",
    "diverged": "bad",
    "failed": "bad",
    "undecided": "open",
    "not comparable": "neutral",
    "not run": "neutral",
}
"""The class of a verdict, by the words that it starts with; the page has a colour for each class."""
# The last cell of a row has the verdict; the longest words are tried first.
_VERDICT = re.compile(rf"(<td[^>]*>\s*)({'|'.join(sorted(COLOURS, key=len, reverse=True))})\b(?=[^<]*</td>\s*</tr>)")


def page(
    suite: Suite,
    size: str,
    table_html: str,
    caption: str,
    claims_html: str,
    figures: Sequence[tuple[str, bytes]],
    environments: Iterable[Mapping[str, Any]] = (),
) -> str:
    """The report of a suite at a size.

    Args:
        suite: The suite, for its title, question, paper and notes.
        size: The size that was run.
        table_html: The table as an HTML element, its text escaped; what a row says last is its verdict.
        caption: What a reader must know to judge the numbers, as plain text.
        claims_html: The table of the claims likewise; empty if there are none.
        figures: Title and PNG of each picture.
        environments: The `environment` of each result: versions, hardware, commit.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    folder = FileSystemLoader(Path(__file__).parent)
    settings = Environment(
        loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return settings.get_template(TEMPLATE).render(
        suite=suite,
        size=size,
        reduced=suite.sizes[size].reduced,
        table=Markup(_coloured(table_html)),
        caption=caption,
        claims=Markup(_coloured(claims_html)),
        figures=[(title, base64.b64encode(image).decode()) for title, image in figures],
        facts=facts(environments),
    )


def facts(environments: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Name and value of everything in the environments; where runs differ, all the values."""
    found: dict[str, set[str]] = {}
    for environment in environments:
        hardware = {name: _words(value) for name, value in environment.get("hardware", {}).items()}
        commit = {"commit": environment.get("git_commit") or "unknown"}
        for name, value in {**environment.get("versions", {}), **hardware, **commit}.items():
            found.setdefault(name, set()).add(str(value))
    return [(name, "; ".join(sorted(values))) for name, values in found.items()]


def _words(value: Any) -> str:
    return (", ".join(map(str, value)) or "none") if isinstance(value, list) else str(value)


def _coloured(html: str) -> str:
    """The table with its verdicts marked, so that the page can colour them."""
    return _VERDICT.sub(lambda found: f'{found[1]}<span class="{COLOURS[found[2]]}">{found[2]}</span>', html)
