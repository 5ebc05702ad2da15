"""Which shards a user means: local tar files, or addresses."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zoo.datamodules.checks import whole_number
from zoo.datamodules.layout import shown

_ADDRESS = re.compile(r"[A-Za-z][\w+.-]+:")  # two letters at least: C: is a drive


def library() -> Any:
    """The modules `webdataset.tariterators` and `webdataset.filters`.

    Raises:
        ModuleNotFoundError: The library is not installed.
    """
    try:
        import webdataset
    except ModuleNotFoundError as error:
        if error.name != "webdataset":
            raise
        line = "--data webdataset needs the package webdataset: pip install webdataset"
        raise ModuleNotFoundError(line, name=error.name) from None
    return webdataset


def find_shards(pattern: str, *, download: bool) -> tuple[str, ...]:
    """The shards that a pattern names: with {00..09} or {a,b}, with *, ? and [], or a folder of .tar files.

    Args:
        pattern: Local, or beginning with https://.
        download: Whether addresses are allowed.

    Raises:
        ModuleNotFoundError: The library webdataset is not installed.
        FileNotFoundError: There are no such shards.
        ValueError: The pattern is wrong, names something else than .tar files, or addresses that are not allowed.
    """
    library()
    from braceexpand import UnbalancedBracesError, braceexpand  # type: ignore[attr-defined]  # has no type hints

    try:
        names = list(braceexpand(pattern))
    except UnbalancedBracesError:
        raise ValueError(f"{shown(pattern)}: braces that do not match, expected for example {{000..009}}") from None
    if any(_ADDRESS.match(name) for name in names):
        return _addresses(names, download=download)
    found = [path for name in names for path in _local(Path(name).expanduser())]
    if not found:
        raise FileNotFoundError(f"{shown(pattern)}: no .tar files there")
    return tuple(dict.fromkeys(_checked_name(path) for path in found))


def _addresses(names: Sequence[str], *, download: bool) -> tuple[str, ...]:
    for name in names:
        if not name.startswith("https://"):
            raise ValueError(f"{shown(name)}: shards are read from local files and https:// addresses only")
        if not download:
            raise ValueError(f"{shown(name)}: is on the network: --data.download true allows to read it")
    return tuple(dict.fromkeys(_checked_name(name) for name in names))


def _local(path: Path) -> list[str]:
    if path.is_dir():
        return sorted(str(file) for file in path.glob("*.tar"))
    if path.is_file() or not re.search(r"[*?\[]", str(path)):
        return [str(path)]
    start = Path(path.anchor)
    return sorted(str(file) for file in start.glob(str(path.relative_to(start))))


def _checked_name(name: str) -> str:
    if not name.split("?")[0].endswith(".tar"):
        raise ValueError(f"{shown(name)}: not a .tar file; compressed shards are not read, unpack them to .tar files")
    if not is_remote(name) and not Path(name).is_file():
        raise FileNotFoundError(f"{shown(name)}: no such file")
    return name


def is_remote(name: str) -> bool:
    """Whether a shard is an address."""
    return name.startswith("https://")


def find_classes(pattern: str, classes: Sequence[str] | None, count: int | None, *, download: bool) -> tuple[str, ...]:
    """The names of the classes: those given, or numbers, or the lines of classes.txt beside local shards.

    Args:
        pattern: The training shards.
        classes: The names, if the user gave them.
        count: How many there are, if the user said so.
        download: Whether addresses are allowed.

    Raises:
        FileNotFoundError: There are no such shards.
        ValueError: Nothing says which classes there are, there are fewer than two, or two of the same name, or
            classes.txt has an empty line.
    """
    if classes is None and count is not None:
        classes = [str(number) for number in range(whole_number("num_classes", count, least=2))]
    if classes is None:
        first = find_shards(pattern, download=download)[0]
        file = Path(first).with_name("classes.txt")
        if is_remote(first) or not file.is_file():
            raise ValueError(f"{shown(pattern)}: which classes are there? give num_classes or classes or classes.txt")
        classes = _lines(file)
    if len(set(classes)) < max(2, len(classes)):
        raise ValueError(f"classes must name at least two, each once, not {', '.join(classes[:5]) or '[]'}")
    if count is not None and count != len(classes):
        raise ValueError(f"num_classes is {count}, but classes has {len(classes)} names: give one of the two")
    return tuple(classes)


def _lines(file: Path) -> list[str]:
    """The names in classes.txt; an empty line among them might be a class without a name, and so shift the others."""
    names = [line.strip() for line in file.read_text(encoding="utf-8-sig").rstrip().splitlines()]
    if "" in names:
        place = f"{shown(str(file))}: line {names.index('') + 1}"
        raise ValueError(f"{place} is empty: each line must name a class, in the order of the labels")
    return names
