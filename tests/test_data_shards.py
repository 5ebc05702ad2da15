"""Shards that the tests write with the standard library, read as streams: what comes, and how often."""

import http.client
import io
import itertools
import json
import sys
import tarfile
import urllib.error
from collections.abc import Iterable, Sequence
from email.message import Message
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image

from zoo.datamodules import shard_index, shard_read
from zoo.datamodules.augment import POLICIES
from zoo.datamodules.shards import WebDataset

SIDE = 8
CLASSES = 5
Members = dict[str, bytes]


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


def pixels(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def png(number: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels(number)).save(stream, "PNG")
    return stream.getvalue()


def sample(number: int) -> Members:
    """An image and its label, which is in a .json for every third sample."""
    label = number % CLASSES
    return {
        "png": png(number),
        **({"json": json.dumps({"label": label}).encode()} if number % 3 == 0 else {"cls": b"%d\n" % label}),
    }


def write(path: Path, samples: Iterable[tuple[str, Members]], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for key, members in samples:
            for suffix, content in members.items():
                info = tarfile.TarInfo(f"{key}.{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def shards(folder: Path, sizes: Sequence[int], first: int = 0) -> str:
    """Shards with so many samples; returns their pattern."""
    numbers = itertools.count(first)
    for place, size in enumerate(sizes):
        write(
            folder / f"part-{place:03}.tar",
            [(f"{number:06}", sample(number)) for number in itertools.islice(numbers, size)],
        )
    return f"{folder}/part-{{000..{len(sizes) - 1:03}}}.tar"


def load(train: str | Path, **options: Any) -> WebDataset:
    defaults = {
        "num_classes": CLASSES,
        "image_size": SIDE,
        "augment": "none",
        "num_workers": 0,
        "batch_size": 8,
        "seed": 1,
    }
    if "classes" in options:
        del defaults["num_classes"]
    data = WebDataset(str(train), **{**defaults, **options})
    data.prepare_data()
    data.setup("fit")
    return data


KNOWN = {pixels(number).tobytes(): number for number in range(400)}


def numbers_of(batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> list[list[int]]:
    """Which images are in each batch, told by their pixels; their labels are checked."""
    found = []
    for images, labels in batches:
        assert images.dtype == torch.uint8 and labels.dtype == torch.int64
        found.append([KNOWN[image.tobytes()] for image in images.numpy()])
        assert [number % CLASSES for number in found[-1]] == labels.tolist()
    return found


def flat(batches: Iterable[list[int]]) -> list[int]:
    return [number for batch in batches for number in batch]


def set_place(monkeypatch: pytest.MonkeyPatch, rank: int, world: int) -> None:
    monkeypatch.setattr("zoo.datamodules.shards.place", lambda trainer: (rank, world))


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("world", [1, 2])
def test_evaluation_takes_every_sample_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, world: int
) -> None:
    data = load(shards(tmp_path / "a", [40]), test=shards(tmp_path / "b", [7, 1, 15], first=100), num_workers=workers)
    found = []
    for rank in range(world):
        set_place(monkeypatch, rank, world)
        loader = data.test_dataloader()
        found += numbers_of(loader)
        assert flat(numbers_of(loader)) == flat(numbers_of(data.test_dataloader()))  # a second epoch too
    assert sorted(flat(found)) == list(range(100, 123))
    assert max(map(len, found)) <= 8 // world


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("world", [1, 2])
def test_training_takes_no_sample_twice_and_full_batches_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, world: int
) -> None:
    data = load(shards(tmp_path / "a", [30, 1, 20, 2]), val=shards(tmp_path / "v", [9], first=200), num_workers=workers)
    loaders = []
    for rank in range(world):
        set_place(monkeypatch, rank, world)
        loaders.append(data.train_dataloader())
        assert len(loaders[-1]) == 6  # of 8 of 53 images
    epochs = []
    for _ in range(3):
        batches = [numbers_of(loader) for loader in loaders]
        assert all([len(batch) for batch in found] == [8 // world] * 6 for found in batches)
        epochs.append([number for found in batches for number in flat(found)])
        assert len(set(epochs[-1])) == 48
    assert epochs[0] != epochs[1] != epochs[2]
    assert set().union(*epochs) == set(range(53))  # what is left over differs
    assert data.sizes == {"train": 53, "val": 9}
    assert data.class_counts == [11, 11, 11, 10, 10]


def test_order_is_a_function_of_seed_and_epoch(tmp_path: Path) -> None:
    pattern = shards(tmp_path, [40, 20])
    first, second = (load(pattern, num_workers=2).train_dataloader() for _ in range(2))
    for _ in range(2):
        assert numbers_of(first) == numbers_of(second)
    third = load(pattern, num_workers=2).train_dataloader()
    third.sampler.set_epoch(1)
    second.sampler.set_epoch(1)
    assert numbers_of(third) == numbers_of(second)
    other = load(pattern, num_workers=2, val_size=0.1, seed=2)
    assert flat(numbers_of(other.train_dataloader())) != flat(
        numbers_of(load(pattern, num_workers=2).train_dataloader())
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_epoch_goes_on_where_it_was(tmp_path: Path, workers: int) -> None:
    pattern = shards(tmp_path, [33, 40])
    whole = load(pattern, num_workers=workers).train_dataloader()
    epochs = [numbers_of(whole) for _ in range(2)]
    for done in (0, 1, 3, 4):
        loader = load(pattern, num_workers=workers).train_dataloader()
        asked = iter([(1, done), (2, 0)])
        loader.sampler.position = lambda steps, asked=asked: next(asked)
        assert numbers_of(loader) == epochs[1][done:]
        assert len(numbers_of(loader)) == len(epochs[0])


@pytest.mark.parametrize("policy", ["flip_crop", "imagenet", "randaugment"])
def test_augmentation_of_a_sample_is_the_same_for_any_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    pattern = shards(tmp_path, [24, 16])
    seen: list[dict[int, set[bytes]]] = []
    for workers, world in ((0, 1), (1, 1), (2, 1), (0, 2)):
        data = load(pattern, num_workers=workers, augment=policy, val=shards(tmp_path / "v", [5], first=300))
        found: dict[int, set[bytes]] = {}
        for rank in range(world):
            set_place(monkeypatch, rank, world)
            loader = data.train_dataloader()
            for epoch in range(2):
                for images, labels in loader:
                    for image, label in zip(images.numpy(), labels.tolist(), strict=True):
                        found.setdefault(epoch * CLASSES + label, set()).add(image.tobytes())
        seen.append(found)
    assert seen[0] == seen[1] == seen[2] == seen[3]
    assert seen[0][0] != seen[0][CLASSES]  # another epoch, other pictures


def test_every_policy_takes_the_numbers_of_keys(tmp_path: Path) -> None:
    pattern = shards(tmp_path, [20])
    for policy in POLICIES:
        images, _ = next(iter(load(pattern, augment=policy).train_dataloader()))
        assert images.shape == (8, SIDE, SIDE, 3), policy


def test_validation_is_held_out_by_key(tmp_path: Path) -> None:
    first = load(shards(tmp_path / "a", [100, 50, 50]), val_size=0.25)
    val = flat(numbers_of(first.val_dataloader()))
    train = first.splits["train"]
    assert sorted(val + [KNOWN[image.tobytes()] for image in train.whole(np.arange(len(train)))]) == list(range(200))
    assert 30 < len(val) < 70  # 50 +- 3 standard deviations
    assert first.sizes == {"train": 200 - len(val), "val": len(val)}
    # However the samples are packed and whatever the labels are, the same keys are held out; with another seed others.
    packed = load(shards(tmp_path / "b", [10] * 20), val_size=0.25, num_classes=9)
    assert sorted(flat(numbers_of(packed.val_dataloader()))) == sorted(val)
    assert set(flat(numbers_of(load(f"{tmp_path}/b", val_size=0.25, seed=2).val_dataloader()))) != set(val)
    assert not set(flat(numbers_of(first.train_dataloader()))) & set(val)


def test_train_size_takes_the_same_images_every_epoch(tmp_path: Path) -> None:
    pattern = shards(tmp_path / "a", [60, 40])
    data = load(pattern, train_size=24)
    assert data.sizes["train"] == 24
    loader = data.train_dataloader()
    epochs = [flat(numbers_of(loader)) for _ in range(2)]
    assert set(epochs[0]) == set(epochs[1]) and len(set(epochs[0])) == 24 and epochs[0] != epochs[1]
    assert set(epochs[0]) < set(flat(numbers_of(load(pattern, train_size=40).train_dataloader())))
    with pytest.raises(ValueError, match=r"^train_size is 101, but the training split has \d+ images$"):
        load(pattern, train_size=101)


def test_patterns_name_the_same_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards(tmp_path / "a", [5, 6, 7])
    (tmp_path / "a" / "notes.txt").write_text("no shard")
    monkeypatch.chdir(tmp_path)
    for pattern in (
        tmp_path / "a",
        "a",
        "a/*.tar",
        f"{tmp_path}/a/part-00?.tar",
        "a/part-00{0..2}.tar",
        "a/part-00{0,1,2}.tar",
    ):
        assert sum(load(pattern, val_size=0.5).sizes.values()) == 18, pattern
    assert sum(load("a/part-00{1..2}.tar", val_size=0.5).sizes.values()) == 13


def test_long_names_folders_and_other_members(tmp_path: Path) -> None:
    deep = "x" * 120 + "/" + "y" * 120  # needs an extra header
    for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT):
        keys = [deep + f"/{n:03}" if kind != tarfile.USTAR_FORMAT else f"{n:03}" for n in range(30)]
        path = write(tmp_path / f"{kind}.tar", [(key, sample(n)) for n, key in enumerate(keys)], format=kind)
        with tarfile.open(path, "a") as tar:
            folder = tarfile.TarInfo("folder")
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
            for name in ("__meta__", "no_suffix", "000030.cls", "000030.txt", "000030.PNG"):
                content = {"000030.cls": b"0", "000030.PNG": png(30)}.get(name, b"?")
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        data = load(path, test=shards(tmp_path / "t", [3], first=50), val_size=0.3)
        both = itertools.chain(numbers_of(data.val_dataloader()), [])
        train = data.splits["train"]
        found = [KNOWN[image.tobytes()] for image in train.whole(np.arange(len(train)))]
        assert sorted(flat(both) + found) == list(range(31))


def test_classes(tmp_path: Path) -> None:
    pattern = shards(tmp_path, [20])
    with pytest.raises(
        ValueError, match=r"part-.*: which classes are there\? give num_classes or classes or classes.txt$"
    ):
        load(pattern, num_classes=None)
    (tmp_path / "classes.txt").write_text("a\nb\nc\nd\ne\n\n")
    assert load(pattern, num_classes=None).class_names == ["a", "b", "c", "d", "e"]
    assert load(pattern).class_names == ["0", "1", "2", "3", "4"]
    with pytest.raises(ValueError, match=r"^num_classes is 4, but classes has 5 names: give one of the two$"):
        WebDataset(pattern, classes=list("abcde"), num_classes=4)
    with pytest.raises(ValueError, match=r"^classes must name at least two, each once, not a, a$"):
        WebDataset(pattern, classes=["a", "a"])
    names = [("1", {"png": png(0), "cls": b"ant"}), ("2", {"png": png(1), "json": b'{"label": "bee"}'})]
    for split, numbers in (("train", (5, 6)), ("val", (15, 16))):
        write(tmp_path / f"{split}.tar", [*names, *((str(number), sample(number)) for number in numbers)])
    data = load(tmp_path / "train.tar", classes=["ant", "bee"], val=f"{tmp_path}/val.tar")
    assert data.class_counts == [2, 2]
    assert data.splits["train"].labels.tolist() == [0, 1, 0, 1]


def test_a_checkpoint_rebuilds_the_data(tmp_path: Path) -> None:
    first = load(shards(tmp_path, [40, 20]), val_size=0.2, in_channels=1, on_error="skip", seed=7)
    described = first.describe()
    assert json.loads(json.dumps(described)) == described
    second = WebDataset(**described["args"], num_workers=0)
    for split in ("train", "val"):
        first_batches, second_batches = (
            [images.numpy().tobytes() for images, _ in getattr(data, f"{split}_dataloader")()]
            for data in (first, second)
        )
        assert first_batches == second_batches
    assert (second.in_channels, second.spec.mean) == (1, first.spec.mean)


def test_statistics_are_those_of_the_first_images_and_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.datamodules.shards.HEAD", 20)
    data = load(shards(tmp_path, [15, 15]), val=shards(tmp_path / "v", [5], first=60))
    expected = np.stack([pixels(number) for number in range(20)]) / 255
    assert data.spec.mean == pytest.approx(expected.mean((0, 1, 2)), abs=1e-6)
    assert data.spec.std == pytest.approx(expected.std((0, 1, 2)), abs=1e-6)
    monkeypatch.setattr("zoo.datamodules.shard_source.read_rows", None)
    assert load(tmp_path, val=f"{tmp_path}/v").spec.mean == data.spec.mean


def test_shards_are_looked_through_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pattern = shards(tmp_path, [5, 25])
    seen = []
    look = shard_index._Found.look_through
    monkeypatch.setattr(
        shard_index._Found, "look_through", lambda self, n, shard: (seen.append(shard), look(self, n, shard))[1]
    )
    first, second = load(pattern), load(pattern)
    assert (len(seen), first.sizes) == (2, second.sizes)
    assert flat(numbers_of(first.train_dataloader())) == flat(numbers_of(second.train_dataloader()))
    write(tmp_path / "part-000.tar", [(f"{n}", sample(n)) for n in range(100, 120)])
    assert sum(load(pattern).sizes.values()) == 45
    for file in (tmp_path / "cache" / "shards").glob("*.npz"):
        file.write_bytes(b"PK damaged")
    assert sum(load(pattern).sizes.values()) == 45


def test_shard_that_changes_under_the_run_is_one_line(tmp_path: Path) -> None:
    pattern = shards(tmp_path, [30])
    data = load(pattern)
    write(tmp_path / "part-000.tar", [(f"x{n}", sample(n)) for n in range(30)])
    with pytest.raises(
        ValueError, match=r"part-000.tar: it has changed since it was looked through \(and \d more\): --data"
    ):
        list(data.train_dataloader())
    (tmp_path / "part-000.tar").unlink()
    with pytest.raises(ValueError, match=r"part-000.tar: .*No such file"):
        list(data.val_dataloader())


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
        ({"kfold": 5, "fold": 0}, "kfold is 5, which a stream of shards cannot do: leave it out"),
        ({"train_fraction": 0.5}, "train_fraction is 0.5, which a stream of shards cannot do: leave it out"),
        ({"class_subset": [0, 1]}, r"class_subset is \[0, 1\], which a stream of shards cannot do: leave it out"),
        ({"sampler": "balanced"}, "sampler is balanced, which a stream of shards cannot do: use shuffle"),
        ({"drop_last": False}, "drop_last is false, but all devices must make as many full batches"),
        ({"in_channels": 2}, r"in_channels must be 1 \(grey\) or 3 \(colour\), not 2"),
        ({"train_samples": 40}, "part-000.tar: how many samples .* leave train_samples out, local ones are counted"),
        ({"val_size": 0.001}, "val_size 0.001 of 40 samples leaves none for one part: give shards as val"),
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
    line = r"^--data webdataset needs the package webdataset: pip install 'lightning-zoo\[webdataset\]'$"
    with pytest.raises(ModuleNotFoundError, match=line):
        WebDataset("a.tar")


class Answer:
    """What a server sends; it breaks off after so many bytes."""

    def __init__(self, content: bytes, start: int, breaks_after: int | None) -> None:
        self.headers = {"Content-Length": str(len(content) - start)}
        self._stream = io.BytesIO(content[start:] if breaks_after is None else content[start : start + breaks_after])

    def read(self, size: int) -> bytes:
        return self._stream.read(size)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """https://host/PATH is the file PATH in the temporary folder."""
    state: dict[str, Any] = {"breaks_after": None, "ranges": True, "failures": [], "asked": []}

    def open_at(url: str, start: int) -> tuple[Answer, int]:
        state["asked"].append((url, start))
        if state["failures"]:
            raise state["failures"].pop()
        path = tmp_path / url.removeprefix("https://host/")
        if not path.is_file():
            raise urllib.error.HTTPError(url, 404, "Not Found", Message(), None)
        at = start if state["ranges"] else 0
        return Answer(path.read_bytes(), at, state["breaks_after"]), at

    monkeypatch.setattr(shard_read, "_open_at", open_at)
    monkeypatch.setattr(shard_read, "_WAIT_SECONDS", 0)
    return state


REMOTE = "https://host/a/part-{000..003}.tar"


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world", [1, 2])
def test_remote_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: dict[str, Any], workers: int, world: int
) -> None:
    shards(tmp_path / "a", [20, 4, 12, 17])
    shards(tmp_path / "v", [9, 3, 5], first=100)
    data = load(REMOTE, val="https://host/v/part-{000..002}.tar", download=True, train_samples=53, num_workers=workers)
    assert data.sizes == {"train": 53}
    evaluated, epochs = [], []
    for rank in range(world):
        set_place(monkeypatch, rank, world)
        evaluated += flat(numbers_of(data.val_dataloader()))
        loader = data.train_dataloader()
        assert len(loader) == 6
        batches = [numbers_of(loader) for _ in range(2)]
        assert all([len(batch) for batch in found] == [8 // world] * 6 for found in batches)
        assert batches[0] != batches[1]
        epochs.append(set(flat(batches[0])))
    assert sorted(evaluated) == list(range(100, 117))
    if world == 2:
        assert not epochs[0] & epochs[1]
    with pytest.raises(ValueError, match=r"^how many images each class has is not known of shards on the network$"):
        _ = data.class_counts


def test_remote_validation_by_key_is_that_of_the_same_files(tmp_path: Path, server: dict[str, Any]) -> None:
    local = load(shards(tmp_path / "a", [40, 20, 20, 20]), val_size=0.3)
    remote = load(REMOTE, val_size=0.3, download=True, train_samples=100, normalize="imagenet")
    val = flat(numbers_of(local.val_dataloader()))
    assert flat(numbers_of(remote.val_dataloader())) == val
    assert not set(flat(numbers_of(remote.train_dataloader()))) & set(val)
    assert remote.sizes == {"train": 70}
    assert "download" not in remote.describe()["args"]


def test_remote_statistics(tmp_path: Path, server: dict[str, Any]) -> None:
    local = load(shards(tmp_path / "a", [20, 4, 12, 17]))
    remote = load(REMOTE, download=True, train_samples=53)
    count = round(53 * 0.9)
    kept = [n for n in range(53) if n not in set(flat(numbers_of(local.val_dataloader())))][:count]
    assert remote.spec.mean == pytest.approx((np.stack([pixels(n) for n in kept]) / 255).mean((0, 1, 2)), abs=1e-6)
    asked = len(server["asked"])
    load(REMOTE, download=True, train_samples=53)
    assert len(server["asked"]) == asked


@pytest.mark.parametrize("ranges", [True, False])
def test_connection_that_breaks_off_is_taken_up_again(tmp_path: Path, server: dict[str, Any], ranges: bool) -> None:
    path = write(tmp_path / "a.tar", [(f"{number:06}", sample(number)) for number in range(20)])
    whole = [item.number for item in shard_read.read_address("https://host/a.tar")]
    assert len(whole) == 20
    server |= {"breaks_after": path.stat().st_size * 2 // 3, "ranges": ranges, "asked": []}
    server["failures"] = [http.client.IncompleteRead(b""), urllib.error.HTTPError("", 503, "Busy", Message(), None)]
    items = list(shard_read.read_address("https://host/a.tar"))
    if ranges:
        assert [item.number for item in items] == whole
        assert len(server["asked"]) == 4 and server["asked"][-1][1] > 0
    else:  # every answer ends at the same place
        assert "broke off after" in items[-1] and "tried 4 times" in items[-1]


def test_remote_errors_are_one_line(tmp_path: Path, server: dict[str, Any]) -> None:
    path = write(tmp_path / "a.tar", [(f"{number:06}", sample(number)) for number in range(20)])
    with tarfile.open(path) as tar:
        end = tar.getmembers()[-2].offset
    path.write_bytes(path.read_bytes()[:end])
    options = {"download": True, "train_samples": 20, "normalize": "imagenet", "num_classes": CLASSES}
    with pytest.raises(ValueError, match=r"^https://host/a.tar: cut off, no mark at its end: --data.on_error skip"):
        list(load("https://host/a.tar", **options).train_dataloader())
    with pytest.raises(ValueError, match=r"^https://host/b.tar: .*\(the server says 404 Not Found\): --data.on_error"):
        list(load("https://host/b.tar", **options).train_dataloader())
    with pytest.raises(
        ValueError, match=r"^https://host/a.tar: how many samples do the training shards hold\? give train_samples$"
    ):
        load("https://host/a.tar", download=True)
    with pytest.raises(
        ValueError, match=r"^train_size is 5, but shards on the network cannot be counted: leave it out$"
    ):
        load("https://host/a.tar", train_size=5, **options)


def test_fewer_remote_shards_than_workers_or_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: dict[str, Any]
) -> None:
    shards(tmp_path / "a", [20, 20])
    data = load(
        "https://host/a/part-00{0..1}.tar", download=True, train_samples=40, num_workers=3, normalize="imagenet"
    )
    assert data.train_dataloader().num_workers == 2
    assert data.notices == ["num_workers 3 is more than the shards for training: 2 are used"]
    set_place(monkeypatch, 0, 4)
    with pytest.raises(ValueError, match=r"^2 training shards are too few for 4 devices$"):
        data.train_dataloader()


class Probe(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.trained: list[int] = []
        self.evaluated = 0

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        assert batch[0].shape[1:] == (3, SIDE, SIDE) and batch[0].dtype == torch.float32
        self.trained.append(len(batch[1]))
        return (self.weight * batch[0].mean()).sum()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.evaluated += len(batch[1])

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.evaluated += len(batch[1])

    def predict_step(self, batch: Any, batch_idx: int) -> int:
        return len(batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        assert self.trainer.estimated_stepping_batches == 10
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.parametrize("workers", [0, 2])
def test_lightning_trains_and_evaluates(tmp_path: Path, workers: int) -> None:
    val, test = shards(tmp_path / "v", [11], first=100), shards(tmp_path / "t", [13], first=200)
    data = load(shards(tmp_path / "a", [30, 13]), val=val, test=test, num_workers=workers)
    options = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = L.Trainer(max_epochs=2, accelerator="cpu", num_sanity_val_steps=0, **options)
    model = Probe()
    trainer.fit(model, datamodule=data)
    assert (model.trained, model.evaluated) == ([8] * 10, 22)
    trainer.test(model, datamodule=data, verbose=False)
    assert model.evaluated == 35
    assert sum(trainer.predict(model, datamodule=data)) == 13


def test_resume_with_other_workers_is_noticed(tmp_path: Path) -> None:
    data = load(shards(tmp_path, [30]), num_workers=2)
    assert data.state_dict()["facts"]["num_workers"] == 2
