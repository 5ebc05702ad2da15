"""Reading the samples of shards one after the other, from files or over https."""

import http
import http.client
import time
import urllib.error
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from zoo.datamodules.arrays import Indices
from zoo.datamodules.download import open_at
from zoo.datamodules.layout import shown
from zoo.datamodules.shard_index import Index
from zoo.datamodules.shard_names import library
from zoo.datamodules.shard_sample import Sample

Item = Sample | str
"""A sample, or a line that says what is wrong in its place."""
_TRIES = 4
_WAIT_SECONDS = 1.0


def read_rows(index: Index, rows: Indices) -> Iterator[Item]:
    """Samples of local shards; those that follow each other in a file are read in one go.

    Args:
        index: What is in the shards.
        rows: Which samples, in this order.
    """
    if not len(rows):
        return
    before, after = rows[:-1], rows[1:]
    is_next = (index.shard[after] == index.shard[before]) & (index.start[after] == index.end[before])
    for run in np.split(rows, np.flatnonzero(~is_next) + 1):
        yield from _read_run(index, run)


def read_address(address: str) -> Iterator[Item]:
    """All samples of a shard on the network; its end is checked, and a connection that breaks off is taken up again."""
    file = RemoteFile(address)
    is_readable = yield from _samples(file, address)
    if is_readable and file.tail.strip(
        b"\0"
    ):  # tarfile takes a file that is cut off between two members for a whole one
        yield f"{shown(address)}: cut off, no mark at its end"


def _read_run(index: Index, run: Indices) -> Iterator[Item]:
    """Samples that follow each other in a file."""
    shard = index.shards[index.shard[run[0]]]
    start, end = int(index.start[run[0]]), int(index.end[run[-1]])
    found, reason = 0, "it has changed since it was looked through"
    try:
        with Path(shard).open("rb") as file:
            file.seek(start)
            for item in _samples(_Window(file, end - start), shard):
                if isinstance(item, str):
                    reason = item.removeprefix(f"{shown(shard)}: ")
                    break
                if found == len(run) or item.number != index.keys[run[found]]:
                    break
                found += 1
                yield item
    except OSError as error:
        reason = str(error)
    if found < len(run):
        yield f"{shown(shard)}: {reason}"


def _samples(stream: Any, shard: str) -> Generator[Item, None, bool]:
    """What the library finds in a stream of tar members; whether that could be read to its end."""
    tar = library().tariterators
    files = tar.tar_file_expander([{"url": shard, "stream": stream}])
    try:
        for members in tar.group_by_keys(files):
            try:
                yield Sample.of(members, shard)
            except ValueError as error:
                yield str(error)
    except Exception as error:  # the library and what it reads with raise many kinds
        reason = " ".join(str(error.args[0] if error.args else "").split()) or type(error).__name__
        yield f"{shown(shard)}: damaged, cut off or cannot be read ({reason})"
        return False
    return True


class _Window:
    """A part of a file that looks like the whole of one."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._left = size

    def read(self, size: int) -> bytes:
        data = self._file.read(min(size, self._left))
        self._left -= len(data)
        return data


class RemoteFile:
    """A file on the network, read from its beginning to its end.

    Args:
        address: Where it is, https:// alone.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.tail = b""  # the last bytes that were read
        self._done = 0
        self._response: Any = None

    def read(self, size: int) -> bytes:
        """The next bytes, at most so many; none at the end.

        Raises:
            ConnectionError: The server does not deliver them, after several tries.
        """
        for waits in range(_TRIES):
            try:
                data = self._read(size)
            except urllib.error.HTTPError as error:
                if error.code < http.HTTPStatus.INTERNAL_SERVER_ERROR:  # asking again changes nothing
                    raise ConnectionError(f"the server says {error.code} {error.reason}") from None
                failure: Exception = error
            except (OSError, http.client.HTTPException) as error:
                failure = error
            else:
                self.tail = (self.tail + data)[-512:]
                return data
            self._response = None
            time.sleep(_WAIT_SECONDS * waits)
        raise ConnectionError(f"{' '.join(str(failure).split())}, tried {_TRIES} times")

    def _read(self, size: int) -> bytes:
        if self._response is None:
            self._response, at = open_at(self.address, self._done)
            length = self._response.headers.get("Content-Length") or ""
            self._total = at + int(length) if length.isdigit() else None
            while at < self._done:  # a server that cannot start in the middle
                at += len(self._response.read(min(1 << 16, self._done - at)) or _broken_off(at, self._total))
        data: bytes = self._response.read(size)
        if not data and self._total is not None and self._done < self._total:
            _broken_off(self._done, self._total)  # http.client says nothing about it
        self._done += len(data)
        return data


def _broken_off(done: int, total: int | None) -> bytes:
    raise ConnectionError(f"broke off after {done:,} of {'unknown' if total is None else f'{total:,}'} bytes")
