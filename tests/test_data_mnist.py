"""IDX files written by the tests."""

import gzip
import hashlib
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from zoo.datamodules import MNIST, FashionMNIST
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
    assert np.array_equal(
        images[:, 2:30, 2:30].numpy(), np.stack(data.splits["test"].whole(np.arange(len(data.splits["test"]))))
    )


@pytest.mark.parametrize("gz", [False, True])
def test_other_files_than_the_official_ones_are_noticed(
    gz: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REQ-I1: files are hashed again at every load, packed or not, and those that are not the official ones named."""
    raw, end = tmp_path / "MNIST/raw", ".gz" if gz else ""
    write_mnist(raw, gz=gz)
    data = MNIST(str(tmp_path))
    data.load_arrays()
    names = [f"{archive.plain_name}{end}" for archive in MNIST.archives]
    assert data.notices == [f"mnist: not the official files, by their hashes: {', '.join(names)}"]
    hashes = {path.name.removesuffix(".gz"): path.read_bytes() for path in raw.iterdir()}
    official = tuple(
        replace(
            archive,
            md5=hashlib.md5(hashes[archive.plain_name]).hexdigest(),
            plain_sha256=hashlib.sha256(hashes[archive.plain_name]).hexdigest(),
        )
        for archive in MNIST.archives
    )
    monkeypatch.setattr(MNIST, "archives", official)
    data = MNIST(str(tmp_path))
    data.load_arrays()
    assert data.notices == []


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
        "normalize": "spec",
        "sampler": "shuffle",
        "drop_last": True,
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


def test_header_that_claims_too_much_is_refused(tmp_path: Path) -> None:
    claim = idx(np.zeros((2, 28, 28), np.uint8))[:4] + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1)
    for path, content in ((tmp_path / "images", claim), (tmp_path / "images.gz", gzip.compress(claim))):
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"need 79,228,162,458,924,105,385,300,197,375 bytes, more than the file has"
        ):
            read_images(path, 28)


def test_labels_may_start_at_one(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_bytes(idx(np.array([1, 26], np.uint8)))
    assert read_labels(path, 26, first=1).tolist() == [0, 25]
    path.write_bytes(idx(np.array([3, 0], np.uint8)))
    with pytest.raises(ValueError, match=r"label 0 is out of range, labels must be 1 to 26$"):
        read_labels(path, 26, first=1)
