"""What is in shards: tar files in which the members of a sample share a name and stand one after the other.

Local shards are looked through once: headers and labels are read, images are passed over.
"""

import hashlib
import json
import os
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from zoo.datamodules.arrays import Indices
from zoo.datamodules.cache import cache_folder
from zoo.datamodules.layout import shown
from zoo.datamodules.shard_names import library
from zoo.datamodules.shard_sample import Label, image_member, key_number, label_member, read_label

_COLUMNS = ("shard", "start", "end", "keys", "labels")
_FORMAT = 1  # part of the key: another one makes files of the old format unknown rather than wrong
_BLOCK = 512  # bytes; tar files are made of such blocks, and end with empty ones


@dataclass(frozen=True)
class Index:
    """The usable samples of local shards, in their order.

    Attributes:
        shards: The files.
        shard: int64, (N,): in which of them each sample is.
        start: int64, (N,): where its first header stands in the file.
        end: int64, (N,): where its last member ends.
        keys: uint64, (N,): `key_number` of each.
        labels: int64, (N,): places in `names`.
        names: The different labels.
        faults: A line for every sample that is not usable, and for every shard that ends too early.
    """

    shards: tuple[str, ...]
    shard: Indices
    start: Indices
    end: Indices
    keys: npt.NDArray[np.uint64]
    labels: Indices
    names: tuple[Label, ...]
    faults: tuple[str, ...]


@dataclass
class _Found:
    rows: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    names: dict[Label, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def look_through(self, number: int, shard: str) -> None:
        before = len(self.rows) + len(self.faults)
        with Path(shard).open("rb") as file:
            try:
                for sample in library().tariterators.group_by_keys(_members(file, shard)):
                    self._add(number, shard, sample, file)
                if len(self.rows) + len(self.faults) == before:
                    self.faults.append(f"{shown(shard)}: no samples")
            except (tarfile.TarError, ValueError, OSError) as error:
                self.faults.append(f"{shown(shard)}: damaged, cut off or no tar file ({error.args[0]})")

    def _add(self, number: int, shard: str, sample: dict[str, Any], file: IO[bytes]) -> None:
        places = [place for name, place in sample.items() if not name.startswith("__")]
        try:
            image_member(sample)
            member = label_member(sample)
            _, start, size = sample[member]
            file.seek(start)
            label = read_label(member, file.read(size))
        except ValueError as error:
            self.faults.append(f"{shown(shard)}, {shown(sample['__key__'])}: {error}")
            return
        end = max(start + -(-size // _BLOCK) * _BLOCK for _, start, size in places)
        name = self.names.setdefault(label, len(self.names))
        self.rows.append((number, min(start for start, _, _ in places), end, key_number(sample["__key__"]), name))


def look_through(shards: Sequence[str], progress: Callable[[int, int | None], None] | None = None) -> Index:
    """What is in local shards; the answer is remembered as long as their names, sizes and dates are the same.

    Args:
        shards: The files.
        progress: Called with the number of shards done and of all shards.
    """
    path = cache_folder() / "shards" / f"{fingerprint(shards)}.npz"
    try:
        return _load(path, shards)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        pass  # never looked through, or not remembered whole
    found = _Found()
    for number, shard in enumerate(shards):
        found.look_through(number, shard)
        if progress is not None:
            progress(number + 1, len(shards))
    numbers = np.array(found.rows, dtype=object).reshape(-1, 5)  # keys do not fit into int64
    columns: dict[str, Any] = {
        name: numbers[:, place].astype(np.uint64 if name == "keys" else np.int64) for place, name in enumerate(_COLUMNS)
    }
    texts = {"names": json.dumps(list(found.names)), "faults": json.dumps(found.faults)}
    _save(path, {**columns, **{name: np.frombuffer(text.encode(), np.uint8) for name, text in texts.items()}})
    return Index(tuple(shards), **columns, names=tuple(found.names), faults=tuple(found.faults))


def fingerprint(shards: Sequence[str]) -> str:
    """A hash of the names, sizes and dates of local shards."""
    digest = hashlib.sha256(f"{_FORMAT}".encode())
    for shard in shards:
        status = Path(shard).stat()
        facts = f"{Path(shard).absolute()} {status.st_size} {status.st_mtime_ns}\n"
        digest.update(facts.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:32]


def _members(file: IO[bytes], shard: str) -> Iterator[dict[str, Any]]:
    """Where the members of a tar file are, in the form that the library groups into samples."""
    tar = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115  # it is the file that has to be closed
    while (info := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined]  # millions of them
        if info.isreg() and not re.match(r"__[^/]*__($|/)", info.name):  # what the library passes over
            yield {"fname": info.name, "data": (info.offset, info.offset_data, info.size), "__url__": shard}
    file.seek(tar.offset)
    if file.read(_BLOCK) != bytes(_BLOCK):  # tarfile takes a file that is cut off between two members for a whole one
        raise tarfile.ReadError("no mark at its end")


def _load(path: Path, shards: Sequence[str]) -> Index:
    with np.load(path) as file:
        columns = {name: file[name] for name in _COLUMNS}
        names, faults = (json.loads(file[name].tobytes()) for name in ("names", "faults"))
    return Index(tuple(shards), **columns, names=tuple(names), faults=tuple(faults))


def _save(path: Path, content: dict[str, Any]) -> None:
    """Write the file whole or not at all; a cache that cannot be written is no error."""
    part = path.with_name(f".{path.stem}.{os.getpid()}.part.npz")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(part, **content)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
