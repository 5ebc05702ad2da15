"""Whether values are of the kinds that a signature or a dataclass declares, in plain Python types.

Without a look at them, wrong kinds are taken in silence: the text "false" counts as true, and a number of numpy's makes
a checkpoint that nothing but code can read.
"""

import sys
import types
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

_WORDS: dict[object, str] = {
    int: "a whole number (int)",
    float: "a finite number (float)",
    bool: "True or False",
    str: "text (str)",
    types.NoneType: "None",
}


def check_kinds(values: Mapping[str, object], declared: Callable[..., object], place: str = "") -> None:
    """Raise ValueError unless each value is of the kind that `declared` has for its name.

    Args:
        values: Arguments or fields by name; a name that `declared` has not is left alone.
        declared: A function or a dataclass with type hints. Whole numbers, numbers, truth values, text, lists of these
            and None are checked; for choices, `zoo.layers.check_choice` knows the nearest.
        place: What stands before the name in the message.

    Example:
        >>> def build(width: int, bias: bool = True) -> None: ...
        >>> check_kinds({"width": 3, "bias": "no"}, build, "model.")
        Traceback (most recent call last):
        ValueError: model.bias is 'no': it must be True or False
    """
    hints = _hints(declared)
    for name, value in values.items():
        if name in hints and not _is(value, hints[name]):
            raise ValueError(f"{place}{name} is {shown(value)}: it must be {_words(hints[name])}")


def shown(value: object) -> str:
    """A value as it stands in a message: as in Python, on one line, and not too long."""
    return one_line(repr(value))


def one_line(text: str) -> str:
    """Text without its line breaks, cut after 60 characters."""
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:57]}..."


@cache
def _hints(declared: Callable[..., object]) -> dict[str, Any]:
    try:
        return get_type_hints(declared)
    except NameError:  # somebody's own network, with names that exist for the type checker only
        return {}


def _is(value: object, hint: Any) -> bool:
    """Whether a value is of a kind; of exactly this type, since subclasses need their own code to be read again."""
    if get_origin(hint) in (Union, types.UnionType):
        return any(_is(value, part) for part in get_args(hint))
    if get_origin(hint) in (list, tuple):
        return isinstance(value, list | tuple) and all(_is(part, get_args(hint)[0]) for part in value)
    if hint is float:
        return type(value) in (int, float) and abs(value) <= sys.float_info.max  # type: ignore[arg-type]
    return hint not in _WORDS or type(value) is hint


def _words(hint: Any) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_words(part) for part in get_args(hint))
    if get_origin(hint) in (list, tuple):
        return f"a list, each item of it {_words(get_args(hint)[0])}"
    return _WORDS[hint]
