"""Shards that are damaged or lack something, and options that a stream cannot have: one line each, or left out."""

import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.test_data_shards import Members, flat, load, numbers_of, png, sample, shards, write
from zoo.datamodules.shards import WebDataset


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


def broken(tmp_path: Path, key: str, members: Members, count: int = 40) -> str:
    samples = [(f"{number:06}", sample(number)) for number in range(count)]
    write(tmp_path / "bad.tar", [*samples[:13], (key, members), *samples[13:]])
    return f"{tmp_path}/bad.tar"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"png": png(0)}, r"no label: .cls or .json is missing beside png"),
        ({"cls": b"0"}, r"no image among its members cls"),
        ({"cls": b"0", "txt": b"0"}, r"no image among its members cls, txt"),
        ({"png": png(0), "jpg": png(1), "cls": b"0"}, r"several images among its members png, jpg, cls"),
        ({"png": png(0), "json": b"{"}, r"its .json is not valid"),
        ({"png": png(0), "json": b'{"class": 1}'}, r'its .json has no "label" that is a number or a name'),
        ({"png": png(0), "json": b'{"label": true}'}, r'its .json has no "label" that is a number or a name'),
    ],
)
def test_samples_that_lack_something(tmp_path: Path, members: Members, message: str) -> None:
    pattern = broken(tmp_path, "strange", members)
    with pytest.raises(
        ValueError, match=rf"^{tmp_path}/bad.tar, strange: {message}: --data.on_error skip leaves"
    ) as error:
        load(pattern)
    assert "\n" not in str(error.value)
    data = load(pattern, on_error="skip")
    assert sum(data.sizes.values()) == 40
    assert data.notices == [
        f"samples left out because they cannot be used: 1 ({tmp_path}/bad.tar, strange: {message})".replace("\\", "")
    ]


@pytest.mark.parametrize("label", [b"5", b"-1", b"wolf", b"", b"1.5"])
def test_labels_that_are_no_class(tmp_path: Path, label: bytes) -> None:
    pattern = broken(tmp_path, "strange", {"png": png(0), "cls": label})
    with pytest.raises(ValueError, match=r"bad.tar: label .*, but there are 5 classes, numbered from 0: --data"):
        load(pattern)
    assert sum(load(pattern, on_error="skip").sizes.values()) == 40


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_images(tmp_path: Path, workers: int) -> None:
    pattern = broken(tmp_path, "strange", {"png": png(0)[:60], "cls": b"0"})
    options = {"val": pattern, "num_workers": workers, "normalize": "imagenet"}
    train = shards(tmp_path / "a", [30], first=100)
    # Not `as error`: it would keep the loader until its processes are collected as garbage, which takes seconds.
    with pytest.raises(
        ValueError, match=rf"^{tmp_path}/bad.tar, strange: damaged image [^\n]*: --data.on_error skip[^\n]*$"
    ):
        list(load(train, **options).val_dataloader())
    data = load(train, on_error="skip", **options)
    assert sorted(flat(numbers_of(data.val_dataloader()))) == list(range(40))
    assert len(data.notices) == 1 and "bad.tar, strange: damaged image" in data.notices[0]
    data = load(pattern, val=train, on_error="skip", num_workers=workers)
    for _ in range(2):
        batches = numbers_of(data.train_dataloader())
        assert [len(batch) for batch in batches] == [8] * 5  # of 41; another image stands in for the broken one
    assert len(data.notices) == 1 and data.notices[0].startswith("samples left out because they cannot be used: 1 (")


def test_nothing_but_broken_images_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "bad.tar", [(str(n), {"png": b"no", "cls": b"0"}) for n in range(20)])
    data = load(tmp_path / "bad.tar", on_error="skip", normalize="imagenet", val_size=0.5)
    assert list(data.val_dataloader()) == []
    with pytest.raises(ValueError, match=r"^no sample of a batch can be used: .*bad.tar, \d+: not an image"):
        list(data.train_dataloader())


@pytest.mark.parametrize("kept", ["data", "header", "member", "mark"])
def test_truncated_shard(tmp_path: Path, kept: str) -> None:
    path = write(tmp_path / "cut.tar", [(f"{number:06}", sample(number)) for number in range(30)])
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-2]  # the image of sample 29
    end = {
        "data": last.offset_data + 100,
        "header": last.offset + 100,
        "member": last.offset,
        "mark": last.offset_data + 1024,
    }
    path.write_bytes(path.read_bytes()[: end[kept]])
    with pytest.raises(ValueError, match=rf"^{path}: damaged, cut off or no tar file \([^\n]*\): --data.on_error skip"):
        load(path)
    data = load(path, on_error="skip")
    assert 28 <= sum(data.sizes.values()) <= 29
    assert len(data.notices) == 1


@pytest.mark.parametrize("content", [b"", b"no tar file" * 100, b"\0" * 10240])
def test_shard_without_samples(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "empty.tar"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^{path}: (damaged, cut off or no tar file|no samples)[^\n]*$"):
        load(path)
    with pytest.raises(ValueError, match=rf"^{path}: no sample in the shards can be used$"):
        load(path, on_error="skip")
    shards(tmp_path, [30])
    assert sum(load(tmp_path, on_error="skip").sizes.values()) == 30


def test_same_member_twice(tmp_path: Path) -> None:
    write(tmp_path / "twice.tar", [("1", sample(1)), ("1", sample(2)), *((f"{n}", sample(n)) for n in range(3, 30))])
    with pytest.raises(ValueError, match=r"^[^\n]*twice.tar: damaged[^\n]*duplicate file name[^\n]*$"):
        load(tmp_path / "twice.tar")


@pytest.mark.parametrize(
    ("pattern", "error", "message"),
    [
        ("{}/none-{{00..01}}.tar", FileNotFoundError, r"none-00.tar: no such file"),
        ("{}/none-*.tar", FileNotFoundError, r"none-\*.tar: no .tar files there"),
        ("{}", FileNotFoundError, r": no .tar files there"),
        ("{}/a.tgz", ValueError, r"a.tgz: not a .tar file; compressed shards are not read"),
        ("{}/{{00..", ValueError, r"braces that do not match, expected for example {{?000..009}}?"),
        (
            "pipe:curl https://host/a.tar",
            ValueError,
            r"^pipe:curl .*: shards are read from local files and https:// addresses only",
        ),
        (
            "http://host/a.tar",
            ValueError,
            r"^http://host/a.tar: shards are read from local files and https:// addresses only",
        ),
        ("s3://bucket/{{0..1}}.tar", ValueError, r"^s3://bucket/0.tar: shards are read from local files and https"),
        (
            "https://host/{{0..1}}.tar",
            ValueError,
            r"^https://host/0.tar: is on the network: --data.download true allows",
        ),
    ],
)
def test_patterns_that_are_refused(tmp_path: Path, pattern: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        load(pattern.format(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "balanced"}, "sampler is balanced, which a stream of shards cannot do: use shuffle"),
        ({"drop_last": False}, "drop_last is false, but all devices must make as many full batches"),
        ({"in_channels": 2}, r"in_channels must be 1 \(grey\) or 3 \(colour\), not 2"),
        ({"train_samples": 40}, "part-000.tar: how many samples .* leave train_samples out, local ones are counted"),
        ({"val_size": 0.001}, "cannot cut 0.001 off 40 images of 5 classes"),
    ],
)
def test_options_that_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(shards(tmp_path, [40]), **options)


def test_shards_of_two_splits(tmp_path: Path) -> None:
    pattern = shards(tmp_path, [20, 20])
    with pytest.raises(ValueError, match=r"part-001.tar: is among the shards of train and of test$"):
        load(pattern, test=f"{tmp_path}/part-001.tar")
    with pytest.raises(ValueError, match=r"^val_size is 0.2, but there are shards for validation: give one$"):
        load(f"{tmp_path}/part-000.tar", val=f"{tmp_path}/part-001.tar", val_size=0.2)
    with pytest.raises(ValueError, match=r"^webdataset has no test images$"):
        load(pattern).test_dataloader()


def test_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "webdataset", None)
    line = r"^--data webdataset needs the package webdataset: pip install webdataset$"
    with pytest.raises(ModuleNotFoundError, match=line):
        WebDataset("a.tar")
