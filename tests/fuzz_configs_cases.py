"""How configuration files and command lines that work are changed at random."""

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from tests.fuzz_configs_seeds import FILES, LINES, SNIPPETS, VALUES

DRY = ["--trainer.fast_dev_run", "true"]
SHORT = ["--recipe.epochs", "1", *(f"--trainer.limit_{split}_batches=2" for split in ("train", "val", "test"))]
"""A whole run with all its files, of two steps."""


@dataclass
class Case:
    """A command line, and the configuration file that it may name.

    Attributes:
        words: The command's.
        text: What is in the file `case.yaml`; None if there is none.
        what: How it came about, to be read.
    """

    words: list[str]
    text: str | None
    what: str


def make_case(seed: int, number: int) -> Case:
    """A function of (seed, number): two of three cases are files."""
    draw = random.Random(f"{seed} {number}")
    return _line(draw) if number % 3 == 2 else _file(draw)


def _file(draw: random.Random) -> Case:
    text, names = draw.choice(FILES), []
    for _ in range(draw.choice((0, 1, 1, 1, 2, 3))):
        change = draw.choice((_change_tree, _change_tree, _change_tree, _change_tree, _change_text))
        text, name = change(text, draw)
        names.append(name)
    return Case(["fit", "--config", "case.yaml", *draw.choice((DRY, DRY, SHORT))], text, f"file: {', '.join(names)}")


def _line(draw: random.Random) -> Case:
    words, names = draw.choice(LINES).split(), []
    for _ in range(draw.choice((0, 1, 1, 2, 3))):
        name = draw.choice(tuple(OF_LINES))
        OF_LINES[name](words, draw)
        names.append(name)
    words = [word for word in words if word not in ("push", "run")]  # what talks to others, or takes hours
    if words[:1] == ["fit"]:
        words = [word for word in words if "fast_dev_run" not in word]
        words += draw.choice((DRY, DRY, SHORT))
    return Case(words, None, f"line: {', '.join(names)}")


# Files as text


def _change_text(text: str, draw: random.Random) -> tuple[str, str]:
    name = draw.choice(tuple(OF_TEXT))
    return OF_TEXT[name](text, draw), name


def _cut(text: str, draw: random.Random) -> str:
    return text[: draw.randrange(len(text) + 1)]


def _insert(text: str, draw: random.Random) -> str:
    place = draw.randrange(len(text) + 1)
    return text[:place] + draw.choice(SNIPPETS) + text[place:]


def _drop(text: str, draw: random.Random) -> str:
    place = draw.randrange(len(text) + 1)
    return text[:place] + text[place + draw.choice((1, 1, 2, 5)) :]


def _flip(text: str, draw: random.Random) -> str:
    data = bytearray(text.encode("utf-8", "surrogateescape"))
    if data:
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return data.decode("utf-8", "surrogateescape")


def _double_line(text: str, draw: random.Random) -> str:
    lines = text.splitlines(keepends=True) or [""]
    place = draw.randrange(len(lines))
    return "".join([*lines[: place + 1], *lines[place:]])


def _splice(text: str, draw: random.Random) -> str:
    other = draw.choice(FILES)
    return _cut(text, draw) + other[draw.randrange(len(other)) :]


def _nest(text: str, draw: random.Random) -> str:
    depth = draw.choice((3, 30, 300, 5000))
    return f"{text}\nrecipe.lr: {'[' * depth}{']' * depth}\n"


def _aliases(text: str, draw: random.Random) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, draw.choice((2, 4, 9, 20)))]
    return "\n".join(lines) + f"\n{text}"


OF_TEXT: dict[str, Callable[[str, random.Random], str]] = {
    "cut": _cut, "insert": _insert, "drop": _drop, "flip": _flip, "double": _double_line, "splice": _splice,
    "nest": _nest, "aliases": _aliases,
}  # fmt: skip


# Files as trees


def _change_tree(text: str, draw: random.Random) -> tuple[str, str]:
    """Change a setting; a text that is no tree any more is left as it is."""
    try:
        tree = yaml.safe_load(text)
        other = yaml.safe_load(draw.choice(FILES))
    except (yaml.YAMLError, ValueError, RecursionError):
        return text, "nothing"
    places, others = _places(tree), _places(other)
    if not places:
        return text, "nothing"
    owner, key = draw.choice(places)
    name = draw.choice((*("value", "number", "section") * 3, *("delete", "graft") * 2, "rename", "wrap", "swap"))
    if name == "section" and isinstance(tree, dict):
        section = draw.choice(list(other))
        tree[section] = other[section]
    elif name == "number" and (numbers := [place for place in places if _is_number(place[0][place[1]])]):
        _change_place(name, *draw.choice(numbers), draw, draw.choice(others), draw.choice(places))
    else:
        _change_place(name, owner, key, draw, draw.choice(others), draw.choice(places))
    try:
        return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), name
    except (RecursionError, ValueError):
        return text, "nothing"


def _change_place(
    name: str, owner: Any, key: Any, draw: random.Random, other: tuple[Any, Any], third: tuple[Any, Any]
) -> None:
    value = owner[key]
    if name == "number" and _is_number(value):
        owner[key] = draw.choice(
            (value * 2, value + 1, value + 2, value * 3, -value, value / 2, str(value), value + 0.5)
        )
    elif name == "delete":
        del owner[key]
    elif name == "rename" and isinstance(owner, dict):
        owner[_misspelt(str(key), draw)] = owner.pop(key)
    elif name == "graft":
        copied = copy.deepcopy(other[0][other[1]])
        if isinstance(owner, dict) and isinstance(other[1], str):
            owner[other[1]] = copied
        else:
            owner[key] = copied
    elif name == "wrap":
        owner[key] = draw.choice(([value], {"class_path": value}, {str(key): value}, [value, copy.deepcopy(value)]))
    elif name == "swap":
        owner[key], third[0][third[1]] = copy.deepcopy(third[0][third[1]]), copy.deepcopy(value)
    else:
        owner[key] = copy.deepcopy(draw.choice(VALUES))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Every setting under a tree, as what holds it and its key there; what aliases repeat, once."""
    places, trees, seen = [], [tree], set()
    while trees:
        tree = trees.pop(0)
        keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else []
        if id(tree) not in seen:
            places += [(tree, key) for key in keys]
            trees += [tree[key] for key in keys]
        seen.add(id(tree))
    return places


def _misspelt(word: str, draw: random.Random) -> str:
    place = draw.randrange(len(word) + 1)
    letter = draw.choice("aeiou_-.=+é ")
    return draw.choice(
        (word[:place] + letter + word[place:], word[:place] + word[place + 1 :], word[::-1], word.upper())
    )


# Command lines


def _swap(words: list[str], draw: random.Random) -> None:
    one, other = draw.randrange(len(words)), draw.randrange(len(words))
    words[one], words[other] = words[other], words[one]


def _double(words: list[str], draw: random.Random) -> None:
    place = draw.randrange(len(words))
    words[place:place] = words[place : place + draw.choice((1, 2))]


def _remove(words: list[str], draw: random.Random) -> None:
    del words[draw.randrange(len(words))]
    words += [] if words else ["fit"]


def _end(words: list[str], draw: random.Random) -> None:
    del words[draw.randrange(1, len(words) + 1) :]


def _misspell(words: list[str], draw: random.Random) -> None:
    place = draw.randrange(len(words))
    words[place] = _misspelt(words[place], draw)


def _replace(words: list[str], draw: random.Random) -> None:
    value = draw.choice(VALUES)
    words[draw.randrange(len(words))] = str(value).replace("\x00", "")


def _borrow(words: list[str], draw: random.Random) -> None:
    other = draw.choice(LINES).split()
    place = draw.randrange(len(other))
    words += other[place : place + draw.choice((1, 2, 4))]


def _join(words: list[str], draw: random.Random) -> None:
    place = draw.randrange(len(words))
    words[place : place + 2] = ["=".join(words[place : place + 2])]


OF_LINES: dict[str, Callable[[list[str], random.Random], None]] = {
    "swap": _swap, "double": _double, "remove": _remove, "end": _end, "misspell": _misspell, "replace": _replace,
    "borrow": _borrow, "join": _join,
}  # fmt: skip
