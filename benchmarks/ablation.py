"""A grid of settings of one model as a suite, made without a file."""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from zoo.benchmarks.settings import check_name, number_or_text
from zoo.benchmarks.suite import Row, Size, Suite

OWN_SIZE = "own"
"""The only size of a suite that is made on the way."""
Varied = tuple[str, list[Any]]


def parse_vary(text: str) -> Varied:
    """`model.norm=none,batch` as the name of a setting and its values; commas in brackets divide nothing.

    Raises:
        ValueError: It is not of this form, or there is no such setting.

    Example:
        >>> parse_vary("model.hidden=[64],[300, 100]")
        ('model.hidden', [[64], [300, 100]])
    """
    import yaml

    name, equals, values = text.partition("=")
    if not equals or not values:
        raise ValueError(f"--vary is '{text}': it must be NAME=VALUE,VALUE, such as model.norm=none,batch")
    check_name(name)
    parts = re.split(r",(?![^\[]*\])", values)
    return name, [number_or_text(yaml.safe_load(part)) for part in parts]


def make_ablation(model: str, varied: Sequence[Varied], fixed: Mapping[str, Any]) -> Suite:
    """The suite of all combinations.

    Args:
        model: Name of a model.
        varied: Settings and their values.
        fixed: Settings of all runs.

    Raises:
        ValueError: A setting is unknown, or both fixed and varied.
    """
    names = [name for name, _ in varied]
    for name in names:
        if name in fixed or names.count(name) > 1:
            raise ValueError(f"{name} is given twice")
    rows = [_row(dict(zip(names, values, strict=True))) for values in itertools.product(*(v for _, v in varied))]
    if len({row.name for row in rows}) < len(rows):
        raise ValueError(f"--vary {names[0]} has a value twice" if len(names) == 1 else "--vary has a value twice")
    suite = Suite(
        name=f"ablate-{model}",
        title=f"Settings of {model}",
        question=f"What do {' and '.join(names)} change?",
        metric="test error",
        rows=tuple(rows),
        sizes={OWN_SIZE: Size(seeds=3)},
        settings={"model": model, **fixed},
        also=("training error",),
    )
    for row in suite.rows:
        suite.settings_of(row, OWN_SIZE)
    return suite


def _row(settings: dict[str, Any]) -> Row:
    label = ", ".join(f"{name.partition('.')[2] or name} {_word(value)}" for name, value in settings.items())
    return Row(name=re.sub(r"[^A-Za-z0-9.+-]+", "-", label).strip("-"), label=label, settings=settings)


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
