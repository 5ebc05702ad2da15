"""CIFAR files as Python 2 wrote them, hostile ones among them, against what was put in and torchvision's reader."""

import hashlib
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision.datasets as reference

from zoo.datamodules.cifar import CIFAR10, CIFAR100, read_pickle

NAMES = [b"airplane", b"automobile", b"bird", b"cat", b"deer", b"dog", b"frog", b"horse", b"ship", b"truck"]
BATCHES = [f"data_batch_{number}" for number in range(1, 6)]


def opcodes(value: Any) -> bytes:
    """What cPickle of Python 2, which wrote CIFAR, makes of bytes, whole numbers, lists, dicts and arrays of bytes."""
    if isinstance(value, bytes):
        return b"U" + bytes([len(value)]) + value if len(value) < 256 else b"T" + struct.pack("<i", len(value)) + value
    if isinstance(value, list):
        return b"](" + b"".join(map(opcodes, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(opcodes(key) + opcodes(item) for key, item in value.items()) + b"u"
    if isinstance(value, np.ndarray):
        kind = (
            b"cnumpy\ndtype\n"
            + opcodes(value.dtype.str[1:].encode())
            + b"K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ"
        )
        state = b"(K\x01" + b"".join(map(opcodes, value.shape)) + b"\x86" + kind + b"\xff\xff\xff\xffK\x00tb\x89"
        return (
            b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
            + state
            + opcodes(value.tobytes())
            + b"tb"
        )
    return b"J" + struct.pack("<i", value)


def python2(content: Any) -> bytes:
    return b"\x80\x02" + opcodes(content) + b"."


def python3(content: Any) -> bytes:
    return pickle.dumps(content, protocol=2)


def batch(random: np.random.Generator, count: int, classes: int = 10, key: bytes = b"labels") -> dict[bytes, Any]:
    pixels = random.integers(0, 200, (count, 3072), dtype=np.uint8)
    pixels[:, 1024:2048] //= 2  # the channels differ
    return {b"data": pixels, key: [(number * 7) % classes for number in range(count)], b"batch_label": b"of the test"}


def write_cifar10(root: Path, write: Callable[[Any], bytes] = python2, count: int = 20) -> list[dict[bytes, Any]]:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    contents = [batch(random, count + number) for number in range(6)]
    for name, content in zip([*BATCHES, "test_batch"], contents, strict=True):
        (folder / name).write_bytes(write(content))
    (folder / "batches.meta").write_bytes(write({b"label_names": NAMES, b"num_vis": 3072}))
    return contents


def one_line(error: pytest.ExceptionInfo[Exception], path: Path) -> None:
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("write", [python2, python3])
def test_cifar10_from_files(tmp_path: Path, write: Callable[[Any], bytes]) -> None:
    contents = write_cifar10(tmp_path, write)
    data = CIFAR10(str(tmp_path))
    data.prepare_data()
    train, test = data.load_arrays()
    assert (train.images.shape, test.images.shape) == ((110, 32, 32, 3), (25, 32, 32, 3))
    assert (train.images.dtype, train.labels.dtype) == (np.uint8, np.int64)
    assert train.labels.tolist() == [label for content in contents[:5] for label in content[b"labels"]]
    row = contents[1][b"data"][3]  # red, green and blue planes, each in rows
    for x, y in ((0, 0), (31, 0), (5, 17)):
        assert train.images[20 + 3, y, x].tolist() == [row[plane * 1024 + y * 32 + x] for plane in range(3)]
    planes = np.concatenate([content[b"data"] for content in contents[:5]]).reshape(-1, 3, 1024) / 255
    assert (train.images / 255).mean((0, 1, 2)) == pytest.approx(planes.mean((0, 2)))
    assert (train.images / 255).std((0, 1, 2)) == pytest.approx(planes.std((0, 2)))
    assert [name.encode() for name in data.class_names] == NAMES


@pytest.mark.filterwarnings("ignore:dtype")  # numpy's own reader warns of what Python 2 wrote
def test_cifar10_equals_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar10(tmp_path)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    for arrays, train in zip(CIFAR10(str(tmp_path)).load_arrays(), (True, False), strict=True):
        theirs = reference.CIFAR10(tmp_path, train=train)
        assert np.array_equal(arrays.images, theirs.data)
        assert arrays.labels.tolist() == theirs.targets


def test_cifar100_has_fine_labels(tmp_path: Path) -> None:
    data = CIFAR100(str(tmp_path))
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name, count in (("train", 150), ("test", 100)):
        content = batch(random, count, 100, b"fine_labels") | {b"coarse_labels": [19] * count}
        (folder / name).write_bytes(python2(content))
    (folder / "meta").write_bytes(python2({b"fine_label_names": [name.encode() for name in data.class_names]}))
    train, test = data.load_arrays()
    assert (len(train), len(test), data.num_classes) == (150, 100, 100)
    assert test.labels.tolist() == [(number * 7) % 100 for number in range(100)]
    assert len(set(data.class_names)) == 100


def test_other_files_than_the_official_ones_are_noticed_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REQ-I1: files are hashed again at every load, and those that are not the official ones are named."""
    write_cifar10(tmp_path)
    data = CIFAR10(str(tmp_path))
    data.load_arrays()
    assert data.notices == [
        f"cifar10: not the official files, by their MD5 sums: {', '.join(BATCHES)}, test_batch, batches.meta"
    ]
    for table in ("train_files", "test_files", "name_files"):
        sums = {name: hashlib.md5((data._path(name)).read_bytes()).hexdigest() for name in getattr(CIFAR10, table)}
        monkeypatch.setattr(CIFAR10, table, sums)
    official = CIFAR10(str(tmp_path))
    official.load_arrays()
    assert official.notices == []


def test_fortran_order_is_understood(tmp_path: Path) -> None:
    path = tmp_path / "batch"
    pixels = batch(np.random.default_rng(0), 3)[b"data"]
    path.write_bytes(pickle.dumps({b"data": np.asfortranarray(pixels)}, protocol=2))
    assert np.array_equal(read_pickle(path)["data"].bytes_of(path, 3072), pixels)


class Order:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_hostile_pickle_does_nothing(tmp_path: Path, protocol: int) -> None:
    """REQ-I1: a CIFAR file can only hold bytes, numbers, texts and arrays; orders to run anything are refused."""
    path, marker = tmp_path / "batch", tmp_path / "marker"
    for order in (
        Order(Path.touch, marker),
        Order(eval, f"open({str(marker)!r}, 'w').close()"),
        Order(np.save, marker, 1),
    ):
        path.write_bytes(pickle.dumps({b"data": order}, protocol=protocol))
        pickle.loads(path.read_bytes())
        assert [file.unlink() for file in tmp_path.glob("marker*")], "the pickle should be able to do harm"
        with pytest.raises(ValueError, match=r"damaged or no CIFAR file \(refused, it asks for '.*'\)") as error:
            read_pickle(path)
        one_line(error, path)
        assert not list(tmp_path.glob("marker*"))


@pytest.mark.parametrize("name", [b"numpy\nndarray", b"numpy\ndtype", b"_codecs\nencode"])
def test_hostile_pickle_cannot_change_what_reads_it(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / "batch"
    path.write_bytes(b"\x80\x02c" + name + b"\n}(U\x08bytes_ofU\x04evilub.")
    with pytest.raises(ValueError, match=r"damaged or no CIFAR file \(\w+\); delete it and fetch it again$"):
        read_pickle(path)
    write_cifar10(tmp_path, python3)
    assert len(CIFAR10(str(tmp_path)).load_arrays()[0]) == 110


GOOD = {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 9]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"damaged or no CIFAR file \(pickle exhausted before seeing STOP\)"),
        (b"<html>not found</html>", r"damaged or no CIFAR file \(at position 0, opcode b'<' unknown\)"),
        (python2(GOOD)[:-100], r"damaged or no CIFAR file \(expected 6144 bytes in a string4, but only \d+ remain\)"),
        (b"\x80\x02\x8e" + b"\x7f" * 8 + b".", "damaged or no CIFAR file"),
        (b"\x80\x02Pelsewhere\n.", r"damaged or no CIFAR file \(A load persistent id instruction was enc.* but no"),
        (b"\x80\x02}r\xff\xff\xff\x7f.", r"\(refused, it gives an object the number 2147483647\)"),
        (b"\x80\x02}p999999999\n.", r"\(refused, it gives an object the number 999999999\)"),
        (python2([1, 2]), "must hold a dict, not a list"),
        (b"\x80\x02S'\\y'\n}.", "has no 'data' as a CIFAR file has"),  # of its escape, Python warns
        (python2({b"images": []}), "has no 'data' as a CIFAR file has"),
        (python2({b"data": GOOD[b"data"]}), "has no 'labels' as a CIFAR file has"),
        (python2({**GOOD, b"data": [1, 2]}), "has no 'data' as a CIFAR file has"),
        (python2({**GOOD, b"data": np.zeros((2, 3071), np.uint8)}), r"must be bytes of the shape \(N, 3072\)"),
        (python2({**GOOD, b"data": np.zeros((0, 3072), np.uint8)}), r"must be bytes of the shape \(N, 3072\)"),
        (python2({**GOOD, b"data": np.zeros((2, 3072), np.float32)}), r"must be bytes of the shape \(N, 3072\)"),
        (python2({**GOOD, b"labels": [0]}), "has 2 images but 1 labels"),
        (python2({**GOOD, b"labels": [0, 10]}), "label 10 is out of range, labels must be 0 to 9$"),
        (python2({**GOOD, b"labels": [-1, 0]}), "label -1 is out of range"),
        (python2({**GOOD, b"labels": [0, b"1"]}), "label <bytes> is out of range"),
        (python3({**GOOD, b"labels": [0, 10**5000]}), "label <int> is out of range"),
    ],
)
def test_damaged_cifar_file_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    write_cifar10(tmp_path)
    path = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        CIFAR10(str(tmp_path)).load_arrays()
    one_line(error, path)


def test_other_class_names_are_refused(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    path = tmp_path / "cifar-10-batches-py" / "batches.meta"
    path.write_bytes(python2({b"label_names": NAMES[::-1]}))
    with pytest.raises(ValueError, match=r"must name the classes of cifar10, not \['truck', 'ship', ") as error:
        CIFAR10(str(tmp_path)).load_arrays()
    one_line(error, path)
