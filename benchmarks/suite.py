"""`Suite`: a comparison table as data, which `zoo.benchmarks.suite_file` reads from `suites/NAME.yaml`.

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

from dataclasses import dataclass, field
from typing import Any, Literal

from zoo.benchmarks.settings import Settings

SIZES = ("smoke", "cpu", "paper")
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
