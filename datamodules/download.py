"""Fetches a file: https only, several mirrors, and nothing is left in place that fails its checksum."""

import hashlib
import http.client
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

_TIMEOUT_SECONDS = 30
_CHUNK = 1 << 16
_MOST_BYTES = 1 << 26  # 64 MiB, twice the largest archive: a server that never stops cannot fill the disk


@dataclass(frozen=True)
class Archive:
    """A gzip file on a server.

    Attributes:
        name: Its name.
        md5: Its MD5 sum, in hexadecimal.
    """

    name: str
    md5: str

    @property
    def plain_name(self) -> str:
        """The name of the file within."""
        return self.name.removesuffix(".gz")


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        _require_https(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(archive: Archive, mirrors: Sequence[str], folder: Path) -> Path:
    """Put an archive into a folder, from the first mirror that delivers it intact.

    Args:
        archive: What to fetch; if it is there already and intact, nothing is done.
        mirrors: Addresses that the name is appended to, in the order of trying.
        folder: Where it goes; made if need be.

    Raises:
        ValueError: An address is not https.
        ConnectionError: No mirror delivered the file with the right checksum.
        PermissionError: The folder may not be written to.
    """
    for mirror in mirrors:
        _require_https(mirror)
    target = folder / archive.name
    part = target.with_name(target.name + ".part")
    try:
        if target.is_file() and _md5(target) == archive.md5:
            return target
        folder.mkdir(parents=True, exist_ok=True)
        _fetch_first(archive, mirrors, part)
        part.replace(target)
    except PermissionError:
        raise PermissionError(f"{folder}: may not be written to; check its rights or choose another root") from None
    finally:
        part.unlink(missing_ok=True)
    return target


def _fetch_first(archive: Archive, mirrors: Sequence[str], part: Path) -> None:
    failures = []
    for mirror in mirrors:
        try:
            found = _stream(mirror + archive.name, part)
        except (OSError, http.client.HTTPException, _RefusedError) as error:
            if isinstance(error, PermissionError):
                raise
            failures.append(f"{mirror}: {error}")
            continue
        if found == archive.md5:
            return
        failures.append(f"{mirror}: MD5 {found} instead of {archive.md5}")
    raise ConnectionError(f"{archive.name} could not be fetched; tried {'; '.join(failures)}")


class _RefusedError(ValueError):
    """The server asks for something that we do not do."""


def _require_https(url: str) -> None:
    if not url.startswith("https://"):
        raise _RefusedError(f"refused {url}: only https:// addresses are used")


def _stream(url: str, part: Path) -> str:
    """Write what the server sends to a file; return its MD5 sum."""
    digest, size = hashlib.md5(usedforsecurity=False), 0
    opener = urllib.request.build_opener(_HttpsOnly)
    with opener.open(url, timeout=_TIMEOUT_SECONDS) as response, part.open("wb") as file:
        _require_https(response.geturl())
        while chunk := response.read(_CHUNK):
            size += len(chunk)
            if size > _MOST_BYTES:
                raise _RefusedError(f"more than {_MOST_BYTES:,} bytes")
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
