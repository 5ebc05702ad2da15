"""IDX files written by the tests, and downloads from a server that exists only here."""

import gzip
import hashlib
import io
import struct
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoo.datamodules import MNIST, FashionMNIST
from zoo.datamodules.download import Archive, _HttpsOnly, fetch
from zoo.datamodules.idx import read_images, read_labels


def idx(array: np.ndarray, code: int = 8) -> bytes:
    return bytes((0, 0, code, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_mnist(raw: Path, train: int = 200, test: int = 20, *, gz: bool = False) -> None:
    raw.mkdir(parents=True)
    random = np.random.default_rng(0)
    for part, count in (("train", train), ("t10k", test)):
        images = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        for kind, array in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
            (raw / f"{kind}.gz").write_bytes(gzip.compress(idx(array))) if gz else (raw / kind).write_bytes(idx(array))


@pytest.mark.parametrize("gz", [False, True])
def test_mnist_from_files(tmp_path: Path, gz: bool) -> None:
    write_mnist(tmp_path / "MNIST" / "raw", gz=gz)
    data = MNIST(str(tmp_path), image_size=32, batch_size=50)
    data.prepare_data()
    data.setup("fit")
    assert data.sizes == {"train": 180, "val": 20, "test": 20}
    images, labels = next(iter(data.test_dataloader()))
    assert images.shape == (20, 32, 32, 1)
    assert labels.tolist() == list(range(10)) * 2
    assert images[:, :2].max() == images[:, :, -2:].max() == 0
    assert np.array_equal(images[:, 2:30, 2:30].numpy(), data.splits["test"].images)


def test_fashion_mnist_has_its_own_folder(tmp_path: Path) -> None:
    write_mnist(tmp_path / "FashionMNIST" / "raw")
    data = FashionMNIST(str(tmp_path))
    data.setup()
    assert data.class_names[9] == "Ankle boot"
    assert data.augment == "flip_crop"


def test_root_is_part_of_the_description(tmp_path: Path) -> None:
    data = MNIST(tmp_path, download=True, num_workers=3, seed=6)
    assert data.describe()["args"] == {
        "root": str(tmp_path),
        "batch_size": 128,
        "image_size": 28,
        "augment": "affine",
        "val_size": 0.1,
        "seed": 6,
    }
    assert data.describe()["preprocessing"]["border"] == 0
    data.image_size = 32
    assert data.describe()["preprocessing"]["border"] == 2
    other = MNIST(tmp_path, image_size=64)
    other.use_preprocessing(data.describe()["preprocessing"])
    assert (other.image_size, other.border) == (32, 2)


def test_no_root() -> None:
    with pytest.raises(ValueError, match=r"^mnist is read from a folder: give its path as root \(--data.root DIR\)$"):
        MNIST()


def test_missing_or_empty_root(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "absent"):
        data = MNIST(str(root))
        message = r"^mnist: no train-images-idx3-ubyte \(or \.gz\) in .*MNIST/raw; --data.download true fetches it$"
        for look in (data.prepare_data, data.setup):
            with pytest.raises(FileNotFoundError, match=message):
                look()
    assert list(tmp_path.iterdir()) == []


def test_counts_that_differ(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    write_mnist(raw)
    (raw / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(19, np.uint8)))
    with pytest.raises(ValueError, match="has 20 images but t10k-labels-idx1-ubyte has 19 labels"):
        MNIST(str(tmp_path)).setup()


GOOD = idx(np.zeros((2, 28, 28), np.uint8))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"must start with the bytes 00000803 \(IDX\), not nothing"),
        (b"<html>not found</html>", r"must start with the bytes 00000803 \(IDX\), not 3c68746d"),
        (idx(np.zeros((2, 28, 28), np.float32), code=0x0D), "not 00000d03"),
        (idx(np.zeros(5, np.uint8)), "not 00000801"),
        (GOOD[:9], "ends within its header"),
        (GOOD[:-1], r"dimensions \(2, 28, 28\) need 1,568 bytes, but only 1,567 follow"),
        (GOOD + b"x", "need 1,568 bytes, but more follow"),
        (idx(np.zeros((0, 28, 28), np.uint8)), r"holds no data, its dimensions are \(0, 28, 28\)"),
        (idx(np.zeros((2, 32, 32), np.uint8)), "the images must be 28x28, not 32x32"),
    ],
)
def test_damaged_images_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    for path, data in ((tmp_path / "images", content), (tmp_path / "images.gz", gzip.compress(content))):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=message) as error:
            read_images(path, 28)
        assert str(error.value).startswith(f"{path}: ")
        assert "\n" not in str(error.value)


def test_damaged_gzip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    whole = gzip.compress(GOOD)
    for content in (whole[:-9], b"plain", whole[:10] + b"\xff" + whole[11:]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not a complete gzip file"):
            read_images(path, 28)


def test_label_out_of_range(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_bytes(idx(np.array([0, 9, 10], np.uint8)))
    with pytest.raises(ValueError, match=r"label 10 is out of range, labels must be 0 to 9$"):
        read_labels(path, 10)
    assert read_labels(path, 11).tolist() == [0, 9, 10]


class Server:
    """Answers by a table from address to content or exception; notes what was asked for."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def open(self, url: str, timeout: float) -> Any:
        self.asked.append(url)
        answer = self.answers[url]
        if isinstance(answer, Exception):
            raise answer
        content, final = answer if isinstance(answer, tuple) else (answer, url)
        response = io.BytesIO(content)
        response.geturl = lambda: final  # type: ignore[attr-defined]
        return response


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Any:
    def start(answers: dict[str, Any]) -> Server:
        server = Server(answers)
        monkeypatch.setattr(urllib.request, "build_opener", lambda *handlers: server)
        return server

    return start


CONTENT = b"the right content"
ARCHIVE = Archive("file.gz", hashlib.md5(CONTENT, usedforsecurity=False).hexdigest())
MIRRORS = ("https://one/", "https://two/")


def test_second_mirror_helps(tmp_path: Path, serve: Any) -> None:
    server = serve({"https://one/file.gz": OSError("unreachable"), "https://two/file.gz": CONTENT})
    path = fetch(ARCHIVE, MIRRORS, tmp_path / "deep" / "down")
    assert path.read_bytes() == CONTENT
    assert [entry.name for entry in path.parent.iterdir()] == ["file.gz"]
    assert len(server.asked) == 2
    fetch(ARCHIVE, MIRRORS, path.parent)
    assert len(server.asked) == 2


def test_wrong_checksum_leaves_nothing_behind(tmp_path: Path, serve: Any) -> None:
    serve({"https://one/file.gz": b"<html>", "https://two/file.gz": TimeoutError("timed out")})
    message = r"^file.gz could not be fetched; tried https://one/: MD5 \w+ instead of \w+; https://two/: timed out$"
    with pytest.raises(ConnectionError, match=message):
        fetch(ARCHIVE, MIRRORS, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_damaged_file_is_replaced(tmp_path: Path, serve: Any) -> None:
    (tmp_path / "file.gz").write_bytes(b"half")
    serve({"https://one/file.gz": CONTENT})
    assert fetch(ARCHIVE, MIRRORS, tmp_path).read_bytes() == CONTENT


def test_plain_http_is_refused(tmp_path: Path, serve: Any) -> None:
    server = serve({})
    with pytest.raises(ValueError, match=r"^refused http://one/: only https:// addresses are used$"):
        fetch(ARCHIVE, ("http://one/",), tmp_path)
    assert server.asked == []


def test_redirect_to_plain_http_is_refused(tmp_path: Path, serve: Any) -> None:
    request = urllib.request.Request("https://one/file.gz")
    with pytest.raises(ValueError, match=r"^refused http://evil/"):
        _HttpsOnly().redirect_request(request, io.BytesIO(), 302, "Found", {}, "http://evil/file.gz")
    assert _HttpsOnly().redirect_request(request, io.BytesIO(), 302, "Found", {}, "https://good/file.gz") is not None
    serve({"https://one/file.gz": (CONTENT, "http://evil/file.gz")})
    with pytest.raises(ConnectionError, match=r"refused http://evil/file.gz"):
        fetch(ARCHIVE, ("https://one/",), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_endless_answer_is_cut(tmp_path: Path, serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.datamodules.download._MOST_BYTES", 10)
    serve({"https://one/file.gz": CONTENT})
    with pytest.raises(ConnectionError, match="more than 10 bytes"):
        fetch(ARCHIVE, ("https://one/",), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_written(tmp_path: Path, serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    serve({"https://one/file.gz": CONTENT})
    monkeypatch.setattr(Path, "mkdir", lambda *a, **k: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(PermissionError, match=r"may not be written to; check its rights or choose another root$"):
        fetch(ARCHIVE, MIRRORS, tmp_path / "new")


def test_download_only_when_asked(tmp_path: Path, serve: Any) -> None:
    server = serve({})
    with pytest.raises(FileNotFoundError):
        MNIST(str(tmp_path)).prepare_data()
    write_mnist(tmp_path / "MNIST" / "raw")
    MNIST(str(tmp_path), download=True).prepare_data()
    assert server.asked == []


def test_every_mirror_is_https() -> None:
    for build in (MNIST, FashionMNIST):
        assert len(build.mirrors) >= 2
        assert all(mirror.startswith("https://") and mirror.endswith("/") for mirror in build.mirrors)
        assert all(len(archive.md5) == 32 for archive in build.archives)
