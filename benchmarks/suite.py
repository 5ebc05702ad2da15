"""`Suite`: a comparison table as data, read from `suites/NAME.yaml`.

    title: Deeper is worse without shortcuts
    question: Does depth hurt a plain network and help a residual one?
    paper: He et al. 2016                     what the published values are from; a row's own `source` says where in it
    metric: test error                        the main column, a name of `METRICS`
    also: [training loss]                     further measured columns
    settings: {data: cifar10, recipe: paper}  what all rows share; names as in `zoo.benchmarks.settings`
    sizes:
      smoke: {reduced: ..., settings: {data: digits, recipe.epochs: 1}}
      cpu: {reduced: "20,000 images, 10 epochs", seeds: 3, settings: {data.train_size: 20000}}
      paper: {seeds: 5}
    rows:
      - {name: plain20, settings: {model: plain20}, published: {test error: "9.5"}, source: Fig. 6}
    claims:
      - {text: Plain-56 has the higher training loss, metric: training loss, higher: plain56, lower: plain20}
    figures:
      - {kind: curves, metric: training error}

What a row sets wins over what its size sets, and that over what all share; a row's own `sizes` win over all.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from zoo.benchmarks.metrics import METRICS
from zoo.benchmarks.settings import Settings, check_setting
from zoo.registry import nearest

SUITES = Path(__file__).parent / "suites"
SIZES = ("smoke", "cpu", "paper")
ROW_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
MAPPINGS = {"settings", "sizes", "published"}
"""Entries that hold names with values."""
Kind = Literal["curves", "bars", "against", "layers"]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        name: What files and claims call it.
        label: What the table calls it; the name if not given.
        settings: What this row changes.
        sizes: What this row changes at one size only.
        published: By name of a metric, the value as the source prints it.
        source: Where in the paper it stands.
        not_comparable: Why it cannot be compared with what is measured here, at any size.
        not_run: Why it cannot be run at all: such a row shows what is published.
        x: Where the row stands in a figure of the kind `against`.
        series: The line of such a figure that it belongs to.
    """

    name: str
    label: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    sizes: dict[str, dict[str, Any]] = field(default_factory=dict)
    published: dict[str, str] = field(default_factory=dict)
    source: str = ""
    not_comparable: str = ""
    not_run: str = ""
    x: float | None = None
    series: str = ""

    @property
    def title(self) -> str:
        """What the table calls it."""
        return self.label or self.name


@dataclass(frozen=True)
class Claim:
    """What the paper, or the lecture, says, as something that can fail.

    Either `higher` and `lower` name two rows, whose values are compared seed by seed; or `row` is compared with the
    value `above` or `below`.

    Args:
        text: The claim in words.
        metric: A name of `METRICS`.
        higher: The row whose metric is higher.
        lower: The row whose metric is lower.
        row: The row that is compared with a value.
        above: Its metric is above this value.
        below: Its metric is below this value.
        source: Who says so.
    """

    text: str
    metric: str
    higher: str = ""
    lower: str = ""
    row: str = ""
    above: float | None = None
    below: float | None = None
    source: str = ""

    @property
    def rows(self) -> tuple[str, ...]:
        """The rows that it is about."""
        return (self.row,) if self.row else (self.higher, self.lower)


@dataclass(frozen=True)
class Figure:
    """A picture of the report.

    Args:
        kind: curves: a metric against training steps, seeds as bands; bars: a metric of each row with error bars;
            against: a metric against the rows' `x`, one line for each `series`; layers: what the rows measured in each
            layer (`metric` is then a name of the result's `extra`).
        metric: A name of `METRICS`.
        rows: Pattern of the rows that are drawn.
        title: Above the picture.
        x_label: What `x` is.
        log: Axes that are logarithmic: x, y or xy.
    """

    kind: Kind
    metric: str
    rows: str = "*"
    title: str = ""
    x_label: str = ""
    log: str = ""


@dataclass(frozen=True)
class Size:
    """One of the sizes at which a suite can be run.

    Args:
        settings: What it changes in all rows.
        seeds: How many seeds are run unless the user says.
        reduced: What is less than in the paper, in words; empty if nothing is.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    seeds: int = 1
    reduced: str = ""


@dataclass(frozen=True)
class Suite:
    """A comparison table; see the module for the file."""

    name: str
    title: str
    question: str
    metric: str
    rows: tuple[Row, ...]
    sizes: dict[str, Size]
    paper: str = ""
    notes: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    published_also: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()
    figures: tuple[Figure, ...] = ()

    def row(self, name: str) -> Row:
        """The row of that name."""
        return next(row for row in self.rows if row.name == name)

    def changes_of(self, row: Row, size: str) -> dict[str, Any]:
        """What a row sets at a size, as the file says it."""
        return {**self.settings, **self.sizes[size].settings, **row.settings, **row.sizes.get(size, {})}

    def settings_of(self, row: Row, size: str) -> Settings:
        """The settings of a row at a size.

        Raises:
            ValueError: If they are not allowed.
        """
        try:
            return Settings.of(self.changes_of(row, size))
        except (ValueError, TypeError) as error:
            raise ValueError(f"suite {self.name}, row {row.name}: {error}") from None


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
