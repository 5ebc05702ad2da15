"""Shards that the tests write with the standard library, read as streams: what comes, and how often."""

import io
import itertools
import json
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image

from zoo.datamodules import shard_index
from zoo.datamodules.augment import POLICIES
from zoo.datamodules.shard_options import ShardOptions
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


def test_what_tells_shards_from_others(tmp_path: Path) -> None:
    """REQ-R2: images under the same keys, not the place."""

    def content(path: str) -> str:
        data = WebDataset(path, num_classes=CLASSES, num_workers=0)
        data.setup()
        return data.splits["train"].content()

    before = content(shards(tmp_path / "one", [30, 30]))
    assert content(shards(tmp_path / "elsewhere", [30, 30])) == before
    others = [(f"{number:06}", sample(number) | {"png": png(number + 1000)}) for number in range(60)]
    write(tmp_path / "two/part-000.tar", others[:30])
    write(tmp_path / "two/part-001.tar", others[30:])
    assert content(f"{tmp_path}/two/part-{{000..001}}.tar") != before


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
    if not {"val", "kfold"} & options.keys() and "https://" not in str(train):
        defaults["val_size"] = 0.3  # a few samples, of which every class needs its share
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


def test_validation_is_held_out_and_every_class_has_its_share(tmp_path: Path) -> None:
    first = load(shards(tmp_path / "a", [100, 50, 50]), val_size=0.25)
    val = flat(numbers_of(first.val_dataloader()))
    train = first.splits["train"]
    assert sorted(val + [KNOWN[image.tobytes()] for image in train.whole(np.arange(len(train)))]) == list(range(200))
    assert first.sizes == {"train": 150, "val": 50}
    assert np.bincount(first.splits["val"].labels).tolist() == [10] * CLASSES
    # However the samples are packed, the same ones are held out; with another seed others.
    packed = load(shards(tmp_path / "b", [10] * 20), val_size=0.25)
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
    assert sorted(data.class_counts) == [4, 5, 5, 5, 5]
    with pytest.raises(ValueError, match=r"^train_size is 101, but the training split has \d+ images$"):
        load(pattern, train_size=101)


def test_folds_and_parts_of_the_classes(tmp_path: Path) -> None:
    pattern = shards(tmp_path / "a", [60, 40])
    folds = [flat(numbers_of(load(pattern, kfold=4, fold=fold).val_dataloader())) for fold in range(4)]
    assert sorted(itertools.chain.from_iterable(folds)) == list(range(100))
    assert load(pattern, train_fraction=0.5).sizes == {"train": 35, "val": 30}
    data = load(pattern, class_subset=["3", "1"], batch_size=4)
    assert (data.num_classes, data.sizes) == (2, {"train": 28, "val": 12})
    for images, labels in (*data.train_dataloader(), *data.val_dataloader()):
        expected = [{3: 0, 1: 1}[KNOWN[image.numpy().tobytes()] % CLASSES] for image in images]
        assert labels.tolist() == expected


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
    for text, line in (("a\n\nb\nc\nd\ne\n", 2), ("\ufeff\na\nb\nc\nd\ne", 1), ("a\nb\nc\r\n \t\nd\ne", 4)):
        (tmp_path / "classes.txt").write_text(text)
        with pytest.raises(ValueError, match=rf"classes\.txt: line {line} is empty: each line must name a class, in "):
            load(pattern, num_classes=None)
    assert load(pattern).class_names == ["0", "1", "2", "3", "4"]
    with pytest.raises(ValueError, match=r"^num_classes is 4, but classes has 5 names: give one of the two$"):
        WebDataset(pattern, classes=list("abcde"), num_classes=4)
    given: dict[str, Any] = {**dict.fromkeys(ShardOptions.__annotations__), "classes": list("abcde")}
    assert WebDataset(pattern, **given).describe() == WebDataset(pattern, classes=list("abcde")).describe()
    with pytest.raises(ValueError, match=r"^classes must name at least two, each once, not a, a$"):
        WebDataset(pattern, classes=["a", "a"])
    with pytest.raises(ValueError, match=r"^classes must name at least two, each once, not \[\]$"):
        WebDataset(pattern, classes=[])
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
