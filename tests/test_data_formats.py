"""Files of the real formats, written by the tests, against what was put in and against torchvision's readers."""

import gzip
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torchvision.datasets as reference

from tests.conftest import write_idx
from tests.test_data_cifar import one_line, write_cifar10
from zoo.datamodules.cifar import CIFAR10, CIFAR100
from zoo.datamodules.mnist import EMNIST, KMNIST
from zoo.datamodules.svhn import SVHN


def write_svhn(root: Path, count: int = 40, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    digits = np.arange(count) % 10
    labels = np.where(digits == 0, 10, digits).astype(np.uint8)[:, np.newaxis]
    for name, number in (("train_32x32.mat", count), ("test_32x32.mat", count // 2)):
        content = {"X": images[:number].transpose(1, 2, 3, 0), "y": labels[:number]} | options
        scipy.io.savemat(root / name, content, do_compression=True)
    return images, digits


def test_svhn_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, digits = write_svhn(tmp_path, count=1100)  # more than one piece
    data = SVHN(str(tmp_path))
    data.prepare_data()
    train, test = data.load_arrays()
    assert np.array_equal(train.images, images)
    assert np.array_equal(train.labels, digits)
    assert (train.labels.dtype, len(test), data.class_names[0]) == (np.int64, 550, "0")
    assert (train.images / 255).mean((0, 1, 2)) == pytest.approx((images / 255).mean((0, 1, 2)))
    monkeypatch.setattr(reference.SVHN, "_check_integrity", lambda self: True)
    theirs = reference.SVHN(tmp_path, split="test")
    assert np.array_equal(test.images, theirs.data.transpose(0, 2, 3, 1))
    assert np.array_equal(test.labels, theirs.labels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"y": np.full((40, 1), 0, np.uint8)},
            "label 0 is out of range, labels must be 1 to 10, where 10 is the digit 0",
        ),
        ({"y": np.full((40, 1), 11, np.uint8)}, "label 11 is out of range"),
        ({"y": np.full((40, 1), np.nan)}, "label nan is out of range"),
        ({"y": np.ones((39, 1), np.uint8)}, "must hold y, the 40 numbers of the digits"),
        ({"y": "digits"}, "must hold y, the 40 numbers of the digits"),
        ({"X": np.zeros((32, 32, 3, 40))}, r"must hold X, images as bytes of the shape \(32, 32, 3, N\)"),
        ({"X": np.zeros((40, 32, 32, 3), np.uint8)}, r"must have the shape \(32, 32, 3, N\), not \(40, 32, 32, 3\)"),
    ],
)
def test_wrong_svhn_file_is_one_line(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    write_svhn(tmp_path, **options)
    with pytest.raises(ValueError, match=message) as error:
        SVHN(str(tmp_path)).load_arrays()
    one_line(error, tmp_path / "train_32x32.mat")


def test_damaged_svhn_file_is_one_line(tmp_path: Path) -> None:
    write_svhn(tmp_path)
    path = tmp_path / "train_32x32.mat"
    whole = path.read_bytes()
    for content in (b"", b"<html>", whole[:100], whole[:200], whole[:-1000], whole[:128] + b"\xff" * 500):
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"damaged or no MATLAB 5 file \(\w+\); delete it and fetch it again|must hold"
        ) as error:
            SVHN(str(tmp_path)).load_arrays()
        one_line(error, path)


SPLITS = {"byclass": 62, "bymerge": 47, "balanced": 47, "letters": 26, "digits": 10, "mnist": 10}


def write_emnist(raw: Path, split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Upright images with a bright first row each, stored as the originals are: transposed, letters from 1."""
    images = np.random.default_rng(0).integers(0, 99, (count, 28, 28), dtype=np.uint8)
    images[:, 0] = 255
    labels = np.arange(count) % SPLITS[split]
    for part in ("train", "test"):
        write_idx(raw / f"emnist-{split}-{part}-images-idx3-ubyte", images.transpose(0, 2, 1))
        write_idx(raw / f"emnist-{split}-{part}-labels-idx1-ubyte", labels + (split == "letters"))
    return images, labels


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize("split", SPLITS)
def test_emnist_from_files(tmp_path: Path, split: str, gz: bool) -> None:
    raw = tmp_path / "EMNIST" / "raw"
    images, labels = write_emnist(raw, split, 5000 if split == "balanced" else 70)  # more than one piece
    for path in list(raw.iterdir()) if gz else []:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), 1))
        path.unlink()
    data = EMNIST(str(tmp_path), split=split, image_size=32)
    data.prepare_data()
    for arrays in data.load_arrays():
        assert np.array_equal(arrays.images[..., 0], images)
        assert np.array_equal(arrays.labels, labels)
    assert (data.num_classes, data.spec.name, data.border) == (SPLITS[split], "emnist", 2)
    theirs = [name for name in reference.EMNIST.classes_split_dict[split] if name != "N/A"]
    assert data.class_names == theirs
    assert data.arguments()["split"] == split


def test_emnist_split_and_its_labels_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^unknown split 'letter': did you mean 'letters'\?"):
        EMNIST(str(tmp_path), split="letter")
    raw = tmp_path / "EMNIST" / "raw"
    write_emnist(raw, "letters", 60)
    path = raw / "emnist-letters-test-labels-idx1-ubyte"
    write_idx(path, np.arange(60) % 26)
    with pytest.raises(ValueError, match=r"label 0 is out of range, labels must be 1 to 26$") as error:
        EMNIST(str(tmp_path), split="letters").load_arrays()
    one_line(error, path)


def test_kmnist_from_files(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for part, count in (("train", 60), ("t10k", 30)):
        write_idx(tmp_path / f"KMNIST/raw/{part}-images-idx3-ubyte", random.integers(0, 256, (count, 28, 28)))
        write_idx(tmp_path / f"KMNIST/raw/{part}-labels-idx1-ubyte", np.arange(count) % 10)
    data = KMNIST(str(tmp_path))
    data.prepare_data()
    for arrays, train in zip(data.load_arrays(), (True, False), strict=True):
        theirs = reference.KMNIST(tmp_path, train=train)
        assert np.array_equal(arrays.images[..., 0], theirs.data.numpy())
        assert arrays.labels.tolist() == theirs.targets.tolist()
    assert data.class_names == reference.KMNIST.classes


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (CIFAR10, "cifar10: no data_batch_1 in {root}/cifar-10-batches-py"),
        (CIFAR100, "cifar100: no train in {root}/cifar-100-python"),
        (SVHN, "svhn: no train_32x32.mat in {root}"),
        (KMNIST, "kmnist: no train-images-idx3-ubyte (or .gz) in {root}/KMNIST/raw"),
        (EMNIST, "emnist: no emnist-balanced-train-images-idx3-ubyte (or .gz) in {root}/EMNIST/raw"),
    ],
)
def test_missing_files_are_one_line(tmp_path: Path, build: type[Any], message: str) -> None:
    expected = re.escape(message.format(root=tmp_path) + "; --data.download true fetches it")
    with pytest.raises(FileNotFoundError, match=f"^{expected}$"):
        build(str(tmp_path)).prepare_data()
    with pytest.raises(ValueError, match="is read from a folder: give its path as root"):
        build()


def test_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> io.BytesIO:
        raise PermissionError(13, "Permission denied")

    write_cifar10(tmp_path)
    write_svhn(tmp_path)
    monkeypatch.setattr(Path, "open", refuse)
    for build in (CIFAR10, SVHN):
        with pytest.raises(PermissionError, match=r"may not be read; check the rights of the file$"):
            build(str(tmp_path)).load_arrays()


def test_sums_are_those_of_torchvision() -> None:
    for ours, theirs in ((CIFAR10, reference.CIFAR10), (CIFAR100, reference.CIFAR100)):
        assert (ours.archive.name, ours.archive.md5) == (theirs.filename, theirs.tgz_md5)
        assert [list(item) for item in ours.train_files.items()] == theirs.train_list
        assert [list(item) for item in ours.test_files.items()] == theirs.test_list
        assert ours.name_files == {theirs.meta["filename"]: theirs.meta["md5"]}
    assert [(archive.name, archive.md5) for archive in KMNIST.archives] == reference.KMNIST.resources
    assert [archive.md5 for archive in EMNIST.archives] == [reference.EMNIST.md5]
    parts = [reference.SVHN.split_list[part][1:] for part in ("train", "test")]
    assert [[archive.name, archive.md5] for archive in SVHN.archives] == parts
