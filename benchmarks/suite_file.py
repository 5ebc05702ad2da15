"""Reading suites from their files, and checking them."""

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from zoo.benchmarks.metrics import METRICS
from zoo.benchmarks.settings import check_setting
from zoo.benchmarks.suite import SIZES, Claim, Figure, Kind, Row, Size, Suite
from zoo.registry import nearest

SUITES = Path(__file__).parent / "suites"
ROW_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
MAPPINGS = {"settings", "sizes", "published"}
"""Entries that hold names with values."""


def suite_names() -> list[str]:
    """The suites that come with the package."""
    return sorted(path.stem for path in SUITES.glob("*.yaml"))


def load_suite(name: str) -> Suite:
    """A suite by name, or one of your own by the path of its file.

    Raises:
        ValueError: There is none of that name, or something in the file is wrong.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else SUITES / f"{name}.yaml"
    if not path.is_file():
        raise ValueError(f"unknown suite '{name}'.{nearest(name, suite_names())}")
    import yaml

    try:
        return parse_suite(path.stem, yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None


def parse_suite(name: str, content: Any) -> Suite:
    """The suite that a file holds.

    Raises:
        ValueError: Something in it is wrong; the message names the suite and the place.
    """
    try:
        given = {"sizes": {}, **_mapping("a suite", content)}
        suite: Suite = _build(
            Suite,
            {
                **given,
                "name": name,
                "rows": tuple(_build(Row, row) for row in _list(given, "rows")),
                "sizes": {size: _build(Size, what or {}) for size, what in _mapping("sizes", given["sizes"]).items()},
                "claims": tuple(_build(Claim, claim) for claim in _list(given, "claims")),
                "figures": tuple(_build(Figure, figure) for figure in _list(given, "figures")),
                "also": tuple(_list(given, "also")),
                "published_also": tuple(_list(given, "published_also")),
            },
        )
        _check(suite)
    except (ValueError, TypeError) as error:
        message = str(error)
        raise ValueError(message if message.startswith("suite ") else f"suite {name}: {message}") from None
    return suite


def _list(given: Mapping[str, Any], name: str) -> list[Any]:
    value = given.get(name, [])
    if not isinstance(value, list):
        raise ValueError(f"{name} must be a list, not {value!r:.60}")
    return value


def _mapping(what: str, content: Any) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ValueError(f"{what} must be a mapping, not {content!r:.60}")
    return content


def _build(kind: type[Any], content: Any) -> Any:
    """One of the dataclasses above from what the file says, unknown names refused."""
    what = kind.__name__.lower()
    given = _mapping(f"a {what}", content)
    known = [field.name for field in fields(kind)]
    for name in given:
        if name not in known:
            raise ValueError(f"unknown '{name}' in a {what}.{nearest(str(name), known)}")
    for name in MAPPINGS & given.keys():
        _mapping(name, given[name])
    return kind(**given)


def _check(suite: Suite) -> None:
    names = [row.name for row in suite.rows]
    for name in names:
        if not isinstance(name, str) or not ROW_NAME.fullmatch(name):
            raise ValueError(f"row {name!r} must have a name of letters, digits and . _ + -, since files are called so")
    for size, what in suite.sizes.items():
        if not isinstance(what.seeds, int) or what.seeds < 1:
            raise ValueError(f"size {size}: seeds is {what.seeds!r}: it must be a whole number, at least 1")
    if not names or len(set(names)) != len(names):
        raise ValueError("it needs rows, each with a name of its own")
    if set(suite.sizes) != set(SIZES):
        raise ValueError(f"it has the sizes {', '.join(suite.sizes) or 'none'}: it needs {', '.join(SIZES)}")
    _check_metrics(suite)
    for claim in suite.claims:
        _check_claim(claim, names)
    for figure in suite.figures:
        if figure.kind not in get_args(Kind):
            raise ValueError(f"unknown figure '{figure.kind}'.{nearest(figure.kind, get_args(Kind))}")
    everything: list[Mapping[str, Any]] = [suite.settings, *(size.settings for size in suite.sizes.values())]
    for row in suite.rows:
        everything += [row.settings, *row.sizes.values()]
    for settings in everything:
        for name, value in settings.items():
            check_setting(name, value)


def _check_metrics(suite: Suite) -> None:
    published = [metric for row in suite.rows for metric in row.published]
    claimed = [claim.metric for claim in suite.claims]
    drawn = [figure.metric for figure in suite.figures if figure.kind != "layers"]
    for metric in (suite.metric, *suite.also, *suite.published_also, *published, *claimed, *drawn):
        if metric not in METRICS:
            raise ValueError(f"unknown metric '{metric}'.{nearest(metric, list(METRICS))}")
    for row in suite.rows:
        for metric, value in row.published.items():
            if not isinstance(value, str):
                raise ValueError(f"row {row.name}: write the published {metric} as the source prints it: '{value}'")
        if row.published and not (row.source or suite.paper):
            raise ValueError(f"row {row.name}: a published value needs its source")


def _check_claim(claim: Claim, names: list[str]) -> None:
    for row in claim.rows:
        if row not in names:
            raise ValueError(f"claim '{claim.text}': unknown row '{row}'.{nearest(row, names)}")
    if claim.row and (claim.above is None) == (claim.below is None):
        raise ValueError(f"claim '{claim.text}': a single row needs either above or below")
