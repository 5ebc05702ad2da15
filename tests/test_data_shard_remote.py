"""Shards behind addresses, with a server that is a function."""

import http.client
import io
import json
import tarfile
import urllib.error
from email.message import Message
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Zoo
from tests.test_data_shards import CLASSES, SIDE, flat, load, numbers_of, pixels, sample, set_place, shards, write
from zoo.datamodules import shard_read
from zoo.datamodules.shard_sample import key_number
from zoo.datamodules.shard_stream import HeldOut


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


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

    monkeypatch.setattr(shard_read, "open_at", open_at)
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


def held_out(count: int, size: float) -> set[int]:
    """The samples whose keys put them into validation."""
    return {number for number in range(count) if HeldOut(size, seed=1)(key_number(f"{number:06}"))}


def test_remote_validation_is_held_out_by_key(tmp_path: Path, server: dict[str, Any]) -> None:
    shards(tmp_path / "a", [40, 20, 20, 20])
    remote = load(REMOTE, val_size=0.3, download=True, train_samples=100, normalize="imagenet")
    val = flat(numbers_of(remote.val_dataloader()))
    assert set(val) == held_out(100, 0.3) and len(set(val)) == len(val)
    assert 15 < len(val) < 45  # 30 +- 3 standard deviations
    assert not set(flat(numbers_of(remote.train_dataloader()))) & set(val)
    assert held_out(40, 0.3) == held_out(100, 0.3) & set(range(40)), "whatever else is there"
    assert remote.sizes == {"train": 70}
    assert "download" not in remote.describe()["args"]


def test_remote_statistics(tmp_path: Path, server: dict[str, Any]) -> None:
    shards(tmp_path / "a", [20, 4, 12, 17])
    remote = load(REMOTE, download=True, train_samples=53)
    count = round(53 * 0.9)
    kept = [n for n in range(53) if n not in held_out(53, 0.1)][:count]
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
    with pytest.raises(ValueError, match=r"^kfold is 5, but shards on the network cannot be counted: leave it out$"):
        load("https://host/a.tar", kfold=5, fold=0, **options)


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


def test_the_command_trains_and_tests_on_remote_shards(tmp_path: Path, server: dict[str, Any], zoo_main: Zoo) -> None:
    shards(tmp_path / "a", [40, 20, 20, 20])
    shards(tmp_path / "t", [9, 8], first=100)
    fit = zoo_main(
        "fit", "--model", "mlp", "--data", "webdataset", "--data.train", REMOTE, "--data.download", "true",
        "--data.test", "https://host/t/part-{000..001}.tar", "--data.train_samples", 100, "--data.num_classes", CLASSES,
        "--data.image_size", SIDE, "--data.normalize", "imagenet", "--data.num_workers", 0, "--recipe.epochs", 1,
        "--recipe.batch_size", 10, "--run_dir", "run",
    )  # fmt: skip
    assert fit.status == 0, fit.err
    assert "webdataset: 90 train images of 3 x 8 x 8" in fit.out
    test = zoo_main("test", "--ckpt_path", "run/checkpoints/best.ckpt", "--data.download", "true")
    assert test.status == 0, test.err
    metrics = json.loads((tmp_path / "run/run.json").read_text())["metrics"]
    assert f"test/acc  {metrics['test/acc']!r}" in test.out
    show = zoo_main("data", "show", "--data", "webdataset", "--data.train", REMOTE, "--data.download", "true",
                    "--data.train_samples", 100, "--data.num_classes", CLASSES)  # fmt: skip
    assert (show.status, "read as a stream only" in show.err) == (2, True)
