"""Checks of arguments: each raises one line that names the value, the rule and a remedy."""

from zoo.datamodules.registry import unknown


def whole_number(name: str, value: int, *, least: int = 1, most: int | None = None) -> int:
    """Return the value if it is an integer within the bounds.

    Raises:
        ValueError: It is not; True and False do not count as integers.
    """
    upper = "" if most is None else f" and at most {most}"
    right = (
        isinstance(value, int) and not isinstance(value, bool) and value >= least and (most is None or value <= most)
    )
    if not right:
        raise ValueError(f"{name} must be a whole number of at least {least}{upper}, not {value!r}")
    return value


def fraction(name: str, value: float) -> float:
    """Return the value if it lies strictly between 0 and 1.

    Raises:
        ValueError: It does not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise ValueError(f"{name} must lie between 0 and 1, for example 0.1, not {value!r}")
    return float(value)


def grey_or_colour(in_channels: int) -> int:
    """Return the number of channels if images can have so many.

    Raises:
        ValueError: It is neither 1 nor 3.
    """
    if in_channels not in (1, 3):
        raise ValueError(f"in_channels must be 1 (grey) or 3 (colour), not {in_channels!r}")
    return in_channels


def choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    """Return the value if it is one of the choices.

    Raises:
        ValueError: It is not.
    """
    if value not in choices:
        raise ValueError(unknown(name, value, list(choices)))
    return value
