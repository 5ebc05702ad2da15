"""Downloads from a server that exists only here."""

import errno
import gzip
import hashlib
import io
import tarfile
import urllib.request
import zipfile
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import numpy as np
import pytest

from tests.test_data_cifar import write_cifar10
from tests.test_data_formats import write_emnist
from tests.test_data_mnist import write_mnist
from zoo.datamodules.cifar import CIFAR10, CIFAR100
from zoo.datamodules.download import Archive, _HttpsOnly, fetch
from zoo.datamodules.mnist import EMNIST, KMNIST, MNIST, FashionMNIST
from zoo.datamodules.svhn import SVHN


class Response(io.BytesIO):
    """What a server answers; `length` is what it announces."""

    def __init__(self, content: bytes, url: str = "", status: int = 200, length: int | None = None, **headers: str):
        super().__init__(content)
        self.url, self.status = url, status
        announced = {} if length is None else {"Content-Length": str(length)}
        self.headers = announced | {name.replace("_", "-"): value for name, value in headers.items()}

    def geturl(self) -> str:
        return self.url


class Server:
    """Answers by a table from address to content, exception or function; notes what was asked for, and from where."""

    def __init__(self, answers: dict[str, Any], *, ranges: bool) -> None:
        self.answers = answers
        self.ranges = ranges
        self.asked: list[tuple[str, int]] = []

    def open(self, request: urllib.request.Request, timeout: float) -> Any:
        url = request.full_url
        start = int((request.get_header("Range") or "bytes=0-")[len("bytes=") : -1])
        self.asked.append((url, start))
        answer = self.answers[url]
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            return answer(start)
        content, final = answer if isinstance(answer, tuple) else (answer, url)
        if not start or not self.ranges:
            return Response(content, final, length=len(content))
        return partial(content, start, final)


def partial(content: bytes, start: int, url: str) -> Response:
    if start >= len(content):
        raise HTTPError(url, 416, "Range Not Satisfiable", Message(), None)
    span = f"bytes {start}-{len(content) - 1}/{len(content)}"
    return Response(content[start:], url, 206, len(content) - start, Content_Range=span)


Serve = Callable[..., Server]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    def start(answers: dict[str, Any], *, ranges: bool = True) -> Server:
        server = Server(answers, ranges=ranges)
        monkeypatch.setattr(urllib.request, "build_opener", lambda *handlers: server)
        return server

    return start


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


CONTENT = b"the right content"
ARCHIVE = Archive("file.gz", md5(CONTENT))
MIRRORS = ("https://one/", "https://two/")
ONE, TWO = (mirror + ARCHIVE.name for mirror in MIRRORS)


def test_second_mirror_helps(tmp_path: Path, serve: Serve) -> None:
    server = serve({ONE: OSError("unreachable"), TWO: CONTENT})
    path = fetch(ARCHIVE, MIRRORS, tmp_path / "deep" / "down")
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == ["file.gz"]
    assert server.asked == [(ONE, 0), (TWO, 0)]
    fetch(ARCHIVE, MIRRORS, path.parent)
    assert len(server.asked) == 2


def test_wrong_checksum_leaves_nothing_behind(tmp_path: Path, serve: Serve) -> None:
    """REQ-I1: a file whose hash is wrong is never used."""
    serve({ONE: b"<html>", TWO: TimeoutError("timed out")})
    message = r"^file.gz could not be fetched; tried https://one/: MD5 \w+ instead of \w+; https://two/: timed out$"
    with pytest.raises(ConnectionError, match=message):
        fetch(ARCHIVE, MIRRORS, tmp_path)
    assert names(tmp_path) == []


def test_sha256_is_checked_where_it_is_given(tmp_path: Path, serve: Serve) -> None:
    """REQ-I1: the hash is a SHA-256 where there is one."""
    right = hashlib.sha256(CONTENT).hexdigest()
    serve({ONE: CONTENT})
    assert fetch(Archive("file.gz", sha256=right), MIRRORS[:1], tmp_path).read_bytes() == CONTENT
    with pytest.raises(ConnectionError, match=f"SHA256 {right} instead of 00$"):
        fetch(Archive("file.gz", md5(CONTENT), sha256="00"), MIRRORS[:1], tmp_path)


def test_damaged_file_is_replaced(tmp_path: Path, serve: Serve) -> None:
    (tmp_path / "file.gz").write_bytes(b"half")
    serve({ONE: CONTENT})
    assert fetch(ARCHIVE, MIRRORS, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("ranges", [True, False])
def test_broken_download_goes_on_where_the_server_can(tmp_path: Path, serve: Serve, ranges: bool) -> None:
    serve({ONE: lambda start: Response(CONTENT[:5], ONE, length=len(CONTENT))})
    message = r"tried https://one/: broke off after 5 of 17 bytes; 5 bytes are kept, run it again to go on$"
    with pytest.raises(ConnectionError, match=message):
        fetch(ARCHIVE, MIRRORS[:1], tmp_path)
    assert names(tmp_path) == ["file.gz.part"]
    server = serve({ONE: CONTENT}, ranges=ranges)
    seen: list[tuple[int, int | None]] = []
    path = fetch(ARCHIVE, MIRRORS[:1], tmp_path, lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert names(tmp_path) == ["file.gz"]
    assert server.asked == [(ONE, 5)]
    assert seen == [(17, 17)]


def test_progress_counts_what_was_there(tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.datamodules.download._CHUNK", 6)
    (tmp_path / "file.gz.part").write_bytes(CONTENT[:4])
    seen: list[tuple[int, int | None]] = []
    serve({ONE: CONTENT})
    fetch(ARCHIVE, MIRRORS, tmp_path, lambda done, total: seen.append((done, total)))
    assert seen == [(10, 17), (16, 17), (17, 17)]
    (tmp_path / "file.gz").unlink()
    seen.clear()
    serve({ONE: lambda start: Response(CONTENT, ONE)})
    fetch(ARCHIVE, MIRRORS, tmp_path, lambda done, total: seen.append((done, total)))
    assert seen == [(6, None), (12, None), (17, None)]


def test_second_mirror_continues_what_the_first_began(tmp_path: Path, serve: Serve) -> None:
    server = serve({ONE: lambda start: Response(CONTENT[:5], ONE, length=17), TWO: CONTENT})
    assert fetch(ARCHIVE, MIRRORS, tmp_path).read_bytes() == CONTENT
    assert server.asked == [(ONE, 0), (TWO, 5)]


@pytest.mark.parametrize("there", [b"another beginning"[:7], b"x" * 17, b"x" * 30])
def test_wrong_beginning_is_thrown_away(tmp_path: Path, serve: Serve, there: bytes) -> None:
    (tmp_path / "file.gz.part").write_bytes(there)
    server = serve({ONE: CONTENT})
    assert fetch(ARCHIVE, MIRRORS, tmp_path).read_bytes() == CONTENT
    assert server.asked == [(ONE, len(there)), (ONE, 0)]
    assert names(tmp_path) == ["file.gz"]


def test_part_of_another_place_is_not_used(tmp_path: Path, serve: Serve) -> None:
    def answer(start: int) -> Response:
        return partial(CONTENT, start + 1, ONE) if start else Response(CONTENT, ONE)

    (tmp_path / "file.gz.part").write_bytes(CONTENT[:5])
    server = serve({ONE: answer})
    assert fetch(ARCHIVE, MIRRORS, tmp_path).read_bytes() == CONTENT
    assert server.asked == [(ONE, 5), (ONE, 0)]


def test_complete_part_needs_no_server(tmp_path: Path, serve: Serve) -> None:
    (tmp_path / "file.gz.part").write_bytes(CONTENT)
    server = serve({})
    assert fetch(ARCHIVE, MIRRORS, tmp_path).read_bytes() == CONTENT
    assert (server.asked, names(tmp_path)) == ([], ["file.gz"])


def test_interrupted_download_leaves_the_part(tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """REQ-I1: a file has its name only when it is whole and its hash is right; before, it is a .part."""

    def interrupt(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("zoo.datamodules.download._CHUNK", 6)
    serve({ONE: CONTENT})
    with pytest.raises(KeyboardInterrupt):
        fetch(ARCHIVE, MIRRORS, tmp_path, interrupt)
    assert names(tmp_path) == ["file.gz.part"]
    assert (tmp_path / "file.gz.part").read_bytes() == CONTENT[:6]


def test_plain_http_is_refused(tmp_path: Path, serve: Serve) -> None:
    """REQ-I1: downloads are https only."""
    server = serve({})
    with pytest.raises(ValueError, match=r"^refused http://one/: only https:// addresses are used$"):
        fetch(ARCHIVE, ("http://one/",), tmp_path)
    assert server.asked == []


def test_redirect_to_plain_http_is_refused(tmp_path: Path, serve: Serve) -> None:
    """REQ-I1: a redirection does not lead away from https."""
    request = urllib.request.Request(ONE)
    with pytest.raises(ValueError, match=r"^refused http://evil/"):
        _HttpsOnly().redirect_request(request, io.BytesIO(), 302, "Found", {}, "http://evil/file.gz")
    assert _HttpsOnly().redirect_request(request, io.BytesIO(), 302, "Found", {}, "https://good/file.gz") is not None
    serve({ONE: (CONTENT, "http://evil/file.gz")})
    with pytest.raises(ConnectionError, match=r"refused http://evil/file.gz"):
        fetch(ARCHIVE, ("https://one/",), tmp_path)
    assert names(tmp_path) == []


def test_endless_answer_is_cut(tmp_path: Path, serve: Serve) -> None:
    """REQ-I1: a server that sends more than the file can have is cut off."""
    serve({ONE: CONTENT})
    with pytest.raises(ConnectionError, match="more than 10 bytes"):
        fetch(Archive("file.gz", ARCHIVE.md5, most_bytes=10), ("https://one/",), tmp_path)
    assert names(tmp_path) == []


def test_folder_that_cannot_be_written(tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    serve({ONE: CONTENT})
    monkeypatch.setattr(Path, "mkdir", lambda *a, **k: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(PermissionError, match=r"may not be written to; check its rights or choose another root$"):
        fetch(ARCHIVE, MIRRORS, tmp_path / "new")


def test_full_disk_is_said_at_once(tmp_path: Path, serve: Serve) -> None:
    server = serve({ONE: OSError(errno.ENOSPC, "No space left on device"), TWO: CONTENT})
    with pytest.raises(OSError, match=r"^.*: the disk is full; free some space or choose another root$"):
        fetch(ARCHIVE, MIRRORS, tmp_path)
    assert (server.asked, names(tmp_path)) == ([(ONE, 0)], [])


def test_download_only_when_asked(tmp_path: Path, serve: Serve) -> None:
    server = serve({})
    with pytest.raises(FileNotFoundError):
        MNIST(str(tmp_path)).prepare_data()
    write_mnist(tmp_path / "MNIST" / "raw")
    MNIST(str(tmp_path), download=True).prepare_data()
    assert server.asked == []


def test_every_mirror_is_https() -> None:
    """REQ-I1: every address that we ship is https."""
    for build in (MNIST, FashionMNIST, KMNIST, EMNIST, CIFAR10, CIFAR100, SVHN):
        assert all(mirror.startswith("https://") and mirror.endswith("/") for mirror in build.mirrors)
    for build in (MNIST, FashionMNIST, CIFAR10, CIFAR100, SVHN):
        assert len(build.mirrors) >= 2


def test_cifar10_is_fetched_and_unpacked(tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar10(tmp_path / "made")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(tmp_path / "made" / CIFAR10.folder, CIFAR10.folder)
    archive = Archive(CIFAR10.archive.name, md5(buffer.getvalue()))
    monkeypatch.setattr(CIFAR10, "archive", archive)
    server = serve({CIFAR10.mirrors[0] + archive.name: buffer.getvalue()})
    root = tmp_path / "root"
    (root / CIFAR10.folder).mkdir(parents=True)
    (root / CIFAR10.folder / "test_batch").write_bytes(b"of an earlier attempt")
    data = CIFAR10(str(root), download=True)
    data.prepare_data()
    assert len(data.load_arrays()[0]) == 110
    assert names(root) == sorted([archive.name, *names(tmp_path / "made")])
    data.prepare_data()
    assert len(server.asked) == 1


def test_a_wrong_archive_is_never_opened(tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """REQ-I1: an archive whose hash is wrong is not unpacked, and no pickle in it is read."""
    write_cifar10(tmp_path / "made")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(tmp_path / "made" / CIFAR10.folder, CIFAR10.folder)
    serve(dict.fromkeys((mirror + CIFAR10.archive.name for mirror in CIFAR10.mirrors), buffer.getvalue()))
    monkeypatch.setattr("zoo.datamodules.cifar.read_pickle", lambda path: pytest.fail(f"{path} was opened"))
    data = CIFAR10(str(tmp_path / "root"), download=True)
    with pytest.raises(ConnectionError, match=r"MD5 \w+ instead of c58f30108f718f92721af3b95e74349a"):
        data.prepare_data()
    assert names(tmp_path / "root") == []


def test_emnist_takes_its_split_out_of_the_archive(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        for split in ("letters", "digits"):
            images, _ = write_emnist(tmp_path / "made", split, 60)
        for path in (tmp_path / "made").iterdir():
            zipped.writestr(f"gzip/{path.name}.gz", gzip.compress(path.read_bytes()))
    archive = Archive("gzip.zip", md5(buffer.getvalue()))
    monkeypatch.setattr(EMNIST, "archives", (archive,))
    server = serve({EMNIST.mirrors[0] + "gzip.zip": buffer.getvalue()})
    for split, files in (("letters", 5), ("digits", 9)):
        data = EMNIST(str(tmp_path), download=True, split=split)
        data.prepare_data()
        assert np.array_equal(data.load_arrays()[1].images[..., 0], images)
        assert len(names(tmp_path / "EMNIST" / "raw")) == files
    assert len(server.asked) == 1
