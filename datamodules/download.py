"""Fetches a file: https only, several mirrors, resumed where it broke off, and never used unless its hash is right."""

import errno
import hashlib
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from zoo.datamodules.cache import one_at_a_time

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are there so far, and with how many there will be, or None if the server does not say."""

_TIMEOUT_SECONDS = 30
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Archive:
    """A file on a server, and the hash that proves it to be the right one.

    Attributes:
        name: Its name.
        md5: Its MD5 sum in hexadecimal; the older datasets publish nothing else.
        sha256: Its SHA-256 in hexadecimal; checked in the place of an MD5 sum where it is given.
        plain_sha256: SHA-256 of the file that it unpacks to, where that is known.
        most_bytes: A server that sends more is cut off: it cannot fill the disk.
    """

    name: str
    md5: str = ""
    sha256: str = ""
    plain_sha256: str = ""
    most_bytes: int = 1 << 26  # 64 MiB, twice the largest file of the MNIST family

    def __post_init__(self) -> None:
        assert self.md5 or self.sha256, self.name

    @property
    def plain_name(self) -> str:
        """The name of the file within a .gz."""
        return self.name.removesuffix(".gz")

    def fault(self, path: Path) -> str:
        """What is wrong with a file that should be this one, or what it unpacks to; nothing if its hash is right."""
        kind, expected = ("sha256", self.sha256) if self.sha256 else ("md5", self.md5)
        if path.name == self.plain_name != self.name:
            kind, expected = "sha256", self.plain_sha256
            if not expected:
                return ""
        with path.open("rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()
        return "" if found == expected else f"{kind.upper()} {found} instead of {expected}"


def fetch(archive: Archive, mirrors: Sequence[str], folder: Path, progress: Progress | None = None) -> Path:
    """Put a file into a folder, from the first mirror that delivers it intact.

    What an interrupted download leaves is NAME.part; the next call goes on from there if the server can do that.

    Args:
        archive: What to fetch; if it is there already and intact, nothing is done.
        mirrors: Addresses that the name is appended to, in the order of trying.
        folder: Where it goes; made if need be.
        progress: Told how far the download is.

    Raises:
        ValueError: An address is not https.
        ConnectionError: No mirror delivered the file with the right hash.
        PermissionError: The folder may not be written to.
        OSError: The disk is full.
    """
    for mirror in mirrors:
        _require_https(mirror)
    target = folder / archive.name
    with one_at_a_time(target):
        return _fetch(archive, mirrors, target, progress)


def _fetch(archive: Archive, mirrors: Sequence[str], target: Path, progress: Progress | None) -> Path:
    part = target.with_name(target.name + ".part")
    folder = target.parent
    try:
        if target.is_file() and not archive.fault(target):
            return target
        folder.mkdir(parents=True, exist_ok=True)
        if not part.is_file() or archive.fault(part):  # it may have been complete but for its name
            _fetch_first(archive, mirrors, part, progress)
        part.replace(target)
    except PermissionError:
        raise PermissionError(f"{folder}: may not be written to; check its rights or choose another root") from None
    finally:
        if part.is_file() and not part.stat().st_size:
            part.unlink()
    return target


def _fetch_first(archive: Archive, mirrors: Sequence[str], part: Path, progress: Progress | None) -> None:
    failures = []
    for mirror in mirrors:
        try:
            fault = _fetch_from(mirror + archive.name, archive, part, progress)
        except (OSError, http.client.HTTPException, _RefusedError) as error:
            if isinstance(error, PermissionError):
                raise
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise OSError(f"{part.parent}: the disk is full; free some space or choose another root") from None
            fault = " ".join(str(error).split()) or type(error).__name__
        if not fault:
            return
        failures.append(f"{mirror}: {fault}")
    size = part.stat().st_size if part.is_file() else 0
    remedy = f"; {size:,} bytes are kept, run it again to go on" if size else ""
    raise ConnectionError(f"{archive.name} could not be fetched; tried {'; '.join(failures)}{remedy}")


def _fetch_from(url: str, archive: Archive, part: Path, progress: Progress | None) -> str:
    """Complete the part from one address; what is wrong with the result, which is then deleted, or nothing."""
    is_continued = True
    while is_continued:
        is_continued = _download(url, archive, part, progress)
        fault = archive.fault(part)
        if not fault:
            return ""
        part.unlink()  # if it was continued, its beginning may have been at fault: try once more from the start
    return fault


def _download(url: str, archive: Archive, part: Path, progress: Progress | None) -> bool:
    """Write what the server sends; whether it continued what was there."""
    there = part.stat().st_size if part.is_file() else 0
    response, done = open_at(url, there if there < archive.most_bytes else 0)
    with response:
        _require_https(response.geturl())
        length = response.headers.get("Content-Length") or ""
        total = done + int(length) if length.isdigit() else None
        with part.open("ab" if done else "wb") as file:
            is_continued = done > 0
            while chunk := response.read(_CHUNK):
                done += len(chunk)
                if done > archive.most_bytes:
                    file.truncate(0)
                    raise _RefusedError(f"more than {archive.most_bytes:,} bytes")
                file.write(chunk)
                if progress is not None:
                    progress(done, total)
    if total is not None and done < total:
        raise ConnectionError(f"broke off after {done:,} of {total:,} bytes")
    return is_continued


def open_at(url: str, start: int) -> tuple[Any, int]:
    """The server's answer, and the position in the file at which it begins: `start`, or 0 if it does not do that."""
    try:
        response = _open(url, start)
    except urllib.error.HTTPError as error:
        if not start or error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        error.close()
        return _open(url, 0), 0
    if not start or response.status != http.HTTPStatus.PARTIAL_CONTENT:
        return response, 0
    if re.match(rf"bytes {start}-", response.headers.get("Content-Range") or ""):
        return response, start
    response.close()
    return _open(url, 0), 0


def _open(url: str, start: int) -> Any:
    opener = urllib.request.build_opener(_HttpsOnly)
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    return opener.open(request, timeout=_TIMEOUT_SECONDS)


class _RefusedError(ValueError):
    """The server asks for something that we do not do."""


def _require_https(url: str) -> None:
    if not url.startswith("https://"):
        raise _RefusedError(f"refused {url}: only https:// addresses are used")


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        _require_https(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)
