"""Datasets of the Hugging Face library: folders that the tests write, and a cache that looks like one of the hub."""

import io
import logging
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from zoo.datamodules.augment import POLICIES
from zoo.datamodules.hub import HuggingFace, RowsJob

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CLASSES = ["zebra", "ant"]  # not in alphabetical order


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Own caches, and no way to the network."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "zoo"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    connect = socket.socket.connect

    def refuse(self: Any, address: Any, *rest: Any) -> None:
        family = getattr(self, "family", None)
        assert family == socket.AF_UNIX, f"network: {address}"  # loader processes talk to each other
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def pixels(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (10, 12, 3), dtype=np.uint8)


def encoded(array: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind, **options)
    return stream.getvalue()


def rows(
    numbers: Sequence[int], labels: Sequence[Any] | None = None, kind: Any = None, **columns: Any
) -> datasets.Dataset:
    """Images of these numbers; the label of an even one is 0, of an odd one 1."""
    kind = datasets.ClassLabel(names=CLASSES) if kind is None else kind
    labels = [number % 2 for number in numbers] if labels is None else labels
    content = {"picture": [{"bytes": encoded(pixels(n)), "path": None} for n in numbers], "label": labels}
    extra = {name: datasets.Features({name: feature})[name] for name, (_, feature) in columns.items()}
    features = datasets.Features({"picture": datasets.Image(), "label": kind, **extra})
    return datasets.Dataset.from_dict({**content, **{name: c for name, (c, _) in columns.items()}}, features=features)


def save(folder: Path, **splits: datasets.Dataset) -> str:
    datasets.DatasetDict(splits).save_to_disk(str(folder))
    return str(folder)


def load(path: str | Path, **options: Any) -> HuggingFace:
    data = HuggingFace(str(path), **{"image_size": 10, "augment": "none", "num_workers": 0, **options})
    data.prepare_data()
    data.setup()
    return data


def numbers_in(data: HuggingFace, split: str) -> list[int]:
    """Which images a split has, told by their pixels."""
    known = {pixels(number).tobytes(): number for number in range(200)}
    part = data.splits[split]
    return [known[image.tobytes()] for image in part.whole(np.arange(len(part)))]


def test_splits_pixels_and_labels(tmp_path: Path) -> None:
    path = save(tmp_path / "saved", train=rows(range(40)), validation=rows(range(40, 50)), test=rows(range(50, 60)))
    data = load(path)
    assert (data.sizes, data.class_names, data.spec.name) == (
        {"train": 40, "val": 10, "test": 10},
        CLASSES,
        "huggingface",
    )
    for split, numbers in (("train", range(40)), ("val", range(40, 50)), ("test", range(50, 60))):
        assert numbers_in(data, split) == list(numbers)
        assert data.splits[split].labels.tolist() == [number % 2 for number in numbers]
    assert data.class_counts == [20, 20]
    assert data.notices == []


def test_single_split_is_cut_the_same_for_every_seed(tmp_path: Path) -> None:
    rows(range(50)).save_to_disk(str(tmp_path / "single"))
    first, second = load(tmp_path / "single", seed=1), load(tmp_path / "single", seed=2)
    assert first.sizes == {"train": 36, "val": 4, "test": 10}
    assert numbers_in(first, "test") == numbers_in(second, "test")
    assert numbers_in(first, "val") != numbers_in(second, "val")
    everything = [number for split in first.splits for number in numbers_in(first, split)]
    assert sorted(everything) == list(range(50))
    assert load(tmp_path / "single", test_size=0.5).sizes["test"] == 25


def test_parquet_files_and_two_workers(tmp_path: Path) -> None:
    (tmp_path / "json").mkdir()  # the name of one of the library's readers
    rows(range(30)).to_parquet(tmp_path / "json" / "train-00000-of-00001.parquet")
    rows(range(30, 40)).to_parquet(tmp_path / "json" / "test-00000-of-00001.parquet")
    data = load(tmp_path / "json", batch_size=9, num_workers=2, val_size=0.2)
    assert data.sizes == {"train": 24, "val": 6, "test": 10}
    assert numbers_in(data, "test") == list(range(30, 40))
    batches = list(data.test_dataloader())
    assert [len(labels) for _, labels in batches] == [9, 1]
    expected = [pixels(number)[:, 1:11] for number in range(30, 40)]  # the centre
    assert np.array_equal(np.concatenate([images.numpy() for images, _ in batches]), np.stack(expected))


def test_relative_path_and_image_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        file = tmp_path / "mine" / "files" / "train" / ("even", "odd")[number % 2] / f"{number:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(pixels(number)))
    monkeypatch.chdir(tmp_path)
    data = load("mine/files")  # has the form of a name on the hub
    assert data.class_names == ["even", "odd"]
    assert sorted(number for split in data.splits for number in numbers_in(data, split)) == list(range(20))
    changed = tmp_path / "mine/files/train/even/00.png"
    changed.write_bytes(encoded(pixels(100)))
    data = load("mine/files")
    assert sorted(number for split in data.splits for number in numbers_in(data, split)) == [*range(1, 20), 100]


def test_what_tells_rows_from_others(tmp_path: Path) -> None:
    """REQ-R2: the images, not the place."""

    def content(path: str) -> str:
        data = load(path)
        data.setup()
        return data.splits["train"].content()

    before = content(save(tmp_path / "one", train=rows(range(40))))
    assert content(save(tmp_path / "elsewhere", train=rows(range(40)))) == before
    assert content(save(tmp_path / "two", train=rows(range(40, 80)))) != before


def test_images_are_read_by_our_rules(tmp_path: Path) -> None:
    deep = np.full((10, 12), 127 * 257, np.uint16)
    clear = np.zeros((10, 12, 4), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    pictures = [encoded(deep), encoded(clear), encoded(pixels(0), "JPEG", exif=exif)]
    content = {"picture": [{"bytes": b, "path": None} for b in pictures * 8], "label": [0, 1, 0] * 8}
    features = datasets.Features({"picture": datasets.Image(), "label": datasets.ClassLabel(names=CLASSES)})
    whole = datasets.Dataset.from_dict(content, features=features)
    data = load(save(tmp_path / "kinds", train=whole, test=whole))
    images = data.splits["test"].whole(np.arange(3))
    assert (images[0] == 127).all()
    assert (images[1] == 255).all()
    assert images[2].shape == (12, 10, 3)
    assert load(tmp_path / "kinds", in_channels=1).splits["test"].whole(np.arange(1))[0].shape == (10, 12, 1)


def test_broken_images_raise_or_are_left_out(tmp_path: Path) -> None:
    good = rows(range(40))
    broken = [{"bytes": b"\x89PNG\r\n", "path": None}, None]
    bad = datasets.Dataset.from_dict({"picture": broken, "label": [0, 1]}, features=good.features)
    path = save(tmp_path / "saved", train=datasets.concatenate_datasets([good, bad]), test=rows(range(40, 50)))
    with pytest.raises(
        ValueError, match=r"^2 of 52 files cannot be used: .*train, row 40: .*; .*train, row 41: no image "
    ) as e:
        load(path)
    assert "\n" not in str(e.value)
    data = load(path, on_error="skip", val_size=0.5)
    assert data.sizes == {"train": 20, "val": 20, "test": 10}
    assert sorted(numbers_in(data, "train") + numbers_in(data, "val")) == list(range(40))
    assert len(data.notices) == 1 and "2 of 52" in data.notices[0]


def test_image_whose_file_is_gone() -> None:
    stored = datasets.Features({"image": datasets.Image(decode=False)})
    gone = datasets.Dataset.from_dict({"image": [{"bytes": None, "path": "gone.png"}]}, features=stored)
    with pytest.raises(FileNotFoundError, match=r"^gone.png: no such file$"):
        RowsJob(np.array([b"row 0"]), 3, 0, gone).read(0)


def test_second_run_reads_the_decoded_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "saved", train=rows(range(40)), test=rows(range(40, 50)))
    first = load(path)
    monkeypatch.setattr("zoo.datamodules.hub.read_image_bytes", None)
    second = load(path, cache=True)
    assert second.cached == first.cached is not None
    assert numbers_in(second, "test") == list(range(40, 50))


def test_decoded_images_of_one_column_are_not_those_of_another(tmp_path: Path) -> None:
    dark = [{"bytes": encoded(pixels(number)), "path": None} for number in range(40, 80)]
    path = save(tmp_path / "both", train=rows(range(40), dark=(dark, datasets.Image())))
    found = {column: load(path, image_column=column, cache=True) for column in ("picture", "dark")}
    numbers = {column: {n for split in data.splits for n in numbers_in(data, split)} for column, data in found.items()}
    assert numbers == {"picture": set(range(40)), "dark": set(range(40, 80))}


def test_changed_files_of_images_that_a_table_names_are_decoded_again(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.png" for number in range(40)]
    (tmp_path / "table").mkdir()
    content = {"picture": [{"bytes": None, "path": str(file)} for file in files], "label": [0, 1] * 20}
    named = datasets.Dataset.from_dict(content, features=rows(range(2)).features)
    parquet.write_table(named.data.table, tmp_path / "table" / "train.parquet")  # the library itself would hold them
    for first in (0, 40):
        for number, file in enumerate(files, start=first):
            file.write_bytes(encoded(pixels(number)))
        data = load(tmp_path / "table", cache=True)
        assert {n for split in data.splits for n in numbers_in(data, split)} == set(range(first, first + 40))


def test_a_checkpoint_rebuilds_the_data(tmp_path: Path) -> None:
    path = save(tmp_path / "saved", train=rows(range(40), other=(["x"] * 40, datasets.Value("string"))))
    first = load(path, label_column="label", seed=5)
    arguments = first.describe()["args"]
    assert (arguments["path"], arguments["label_column"], arguments["classes"]) == (path, "label", CLASSES)
    assert "config" not in arguments and "download" not in arguments
    second = load(**arguments)
    assert [numbers_in(second, split) for split in second.splits] == [
        numbers_in(first, split) for split in first.splits
    ]
    third = load(**{**arguments, "classes": CLASSES[::-1]})
    assert third.splits["test"].labels.tolist() == [1 - number % 2 for number in numbers_in(third, "test")]


def test_labels_without_names(tmp_path: Path) -> None:
    numbers = [number % 3 * 5 for number in range(60)]  # 0, 5, 10: not in the order of their text
    data = load(save(tmp_path / "numbers", train=rows(range(60), numbers, datasets.Value("int64"))))
    assert data.class_names == ["0", "5", "10"]
    assert data.splits["test"].labels.tolist() == [number % 3 for number in numbers_in(data, "test")]
    words = ["b", "a"] * 30
    data = load(save(tmp_path / "words", train=rows(range(60), words, datasets.Value("string"))))
    assert data.class_names == ["a", "b"]
    assert data.splits["test"].labels.tolist() == [1 - number % 2 for number in numbers_in(data, "test")]


def test_hidden_labels(tmp_path: Path) -> None:
    hidden = rows(range(40, 50), [-1] * 10)
    data = load(save(tmp_path / "hidden", train=rows(range(30)), valid=rows(range(30, 40)), test=hidden))
    assert data.sizes == {"train": 30, "val": 10}
    assert data.notices == [f"{tmp_path}/hidden: the images of test have no labels and are left out"]
    with pytest.raises(ValueError, match=r"^huggingface has no test images$"):
        data.test_dataloader()
    some = rows(range(30), [None, *[0, 1] * 14, 0])
    with pytest.raises(ValueError, match=r"1 of 30 images of train have no label in column 'label'$"):
        load(save(tmp_path / "some", train=some))


def test_columns_that_cannot_be_told_apart(tmp_path: Path) -> None:
    coarse = ([0] * 40, datasets.ClassLabel(names=["x", "y"]))
    two = save(tmp_path / "two", train=rows(range(40), coarse_label=coarse))
    with pytest.raises(
        ValueError, match=r"two: which of label, coarse_label holds the labels\? name it: --data.label_column"
    ):
        load(two)
    assert load(two, label_column="label").class_names == CLASSES
    with pytest.raises(ValueError, match=r"two: unknown label column 'labl': did you mean 'label'\?"):
        load(two, label_column="labl")
    with pytest.raises(ValueError, match=r"two: column 'label' does not hold images"):
        load(two, label_column="coarse_label", image_column="label")
    plain = rows(range(40)).remove_columns("label")
    with pytest.raises(ValueError, match=r"none of the columns picture looks like the labels\?"):
        load(save(tmp_path / "none", train=plain))
    with pytest.raises(ValueError, match=r"column 'score' holds .*float64.*, not whole numbers or text$"):
        load(
            save(tmp_path / "score", train=rows(range(40), score=([0.5] * 40, datasets.Value("float64")))),
            label_column="score",
        )


def test_splits_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no images in a split called train, only test$"):
        load(save(tmp_path / "test", test=rows(range(10))))
    with pytest.raises(ValueError, match=r"has two splits for val, train, val, validation$"):
        load(save(tmp_path / "val", train=rows(range(10)), val=rows(range(4)), validation=rows(range(4))))
    other = rows(range(40, 50), ["c"] * 10, datasets.Value("string"))
    with pytest.raises(ValueError, match=r", test: class 'c' is not among the 2 training classes"):
        load(save(tmp_path / "c", train=rows(range(40), ["a", "b"] * 20, datasets.Value("string")), test=other))
    data = load(save(tmp_path / "extra", train=rows(range(40)), extra=rows(range(9))))
    assert data.notices == [f"{tmp_path}/extra: not used: split extra"]
    assert sum(data.sizes.values()) == 40


def cached(tmp_path: Path) -> Path:
    """A cache as the library leaves it when it has fetched someone/pictures."""
    source = tmp_path / "pictures"
    source.mkdir()
    rows(range(40)).to_parquet(source / "train.parquet")
    datasets.load_dataset(str(source))
    place = (tmp_path / "cache" / "pictures").rename(tmp_path / "cache" / "someone___pictures")
    [version] = [path for path in place.glob("*/*/*") if path.is_dir()]
    return version.rename(version.with_name(COMMIT))


def test_hub_names_are_read_from_the_cache_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cached(tmp_path)
    with caplog.at_level(logging.WARNING):
        data = load("someone/pictures")
    assert caplog.records == []
    assert (data.class_names, sum(data.sizes.values())) == (CLASSES, 40)
    with pytest.raises(
        FileNotFoundError, match=rf"^someone/else is not in {tmp_path}/cache: --data.download true fetches it$"
    ):
        load("someone/else")
    with pytest.raises(
        ValueError, match=r"^someone/pictures in .*/cache: .*config 'large'.* \(--data.download true fetches"
    ):
        load("someone/pictures", config="large")
    for wrong in ("pictures", "a/b/c", "/no/where", "https://host/name"):
        with pytest.raises(FileNotFoundError, match=rf"^{wrong}( is not in|: no such folder)"):
            load(wrong)


def test_revision_is_the_one_asked_for(tmp_path: Path) -> None:
    cached(tmp_path)
    assert sum(load("someone/pictures", revision=COMMIT).sizes.values()) == 40
    with pytest.raises(
        FileNotFoundError, match=r"^someone/pictures: revision v1 is not the one in .*: --data.download true"
    ):
        load("someone/pictures", revision="v1")
    reference = tmp_path / "hub" / "datasets--someone--pictures" / "refs" / "v1"
    reference.parent.mkdir(parents=True)
    reference.write_text(COMMIT)
    data = load("someone/pictures", revision="v1")
    assert data.describe()["args"]["revision"] == "v1"


def test_offline_ends_with_the_loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    seen = []

    def load_dataset(*arguments: object, **options: object) -> None:
        seen.append((datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE))
        raise ConnectionError("first\nsecond")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(FileNotFoundError):
        load("someone/pictures")
    with pytest.raises(ValueError, match=r"^someone/pictures could not be fetched: first second$"):
        load("someone/pictures", download=True)
    assert seen == [(True, True), (False, False)]
    assert (datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE) == (False, False)


@pytest.mark.parametrize("file", ["README.md", ".huggingface.yaml"])
def test_folder_may_not_name_addresses(tmp_path: Path, file: str) -> None:
    rows(range(20)).to_parquet(tmp_path / "train.parquet")
    settings = "configs:\n- config_name: default\n  data_files: https://host/train.parquet\n"
    (tmp_path / file).write_text(f"---\n{settings}---\ntext ://\n" if file.endswith("md") else settings)
    with pytest.raises(
        ValueError, match=rf"{re.escape(file)}: names files on the network: --data.download true fetches"
    ):
        load(tmp_path)
    (tmp_path / file).write_text("---\nlicense: mit\n---\nhttps://host\n" if file.endswith("md") else "license: mit\n")
    assert sum(load(tmp_path).sizes.values()) == 20


def test_folders_that_are_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        load(tmp_path)
    (tmp_path / "train.parquet").write_bytes(b"no parquet")
    with pytest.raises(ValueError, match=r"^[^\n]*[Pp]arquet[^\n]*$"):
        load(tmp_path)
    script = tmp_path / "scripted"
    script.mkdir()
    (script / "scripted.py").write_text("raise SystemExit('was run')")
    with pytest.raises(ValueError, match=r"^[^\n]*scripts are no longer supported[^\n]*$"):
        load(script)


def test_damaged_parquet_is_one_line_that_can_be_printed(tmp_path: Path) -> None:
    rows(range(24)).to_parquet(tmp_path / "train.parquet")
    content = bytearray((tmp_path / "train.parquet").read_bytes())
    content[4] = 0x1E  # the first byte of the first page's header: a type that there is not
    (tmp_path / "train.parquet").write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path}: ")) as error:
        load(tmp_path)
    assert str(error.value).isprintable()


def test_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    line = r"^--data huggingface needs the package datasets: pip install datasets$"
    with pytest.raises(ModuleNotFoundError, match=line):
        HuggingFace("someone/pictures")


def test_every_policy_gets_images_that_it_can_use(tmp_path: Path) -> None:
    path = save(tmp_path / "saved", train=rows(range(40)), test=rows(range(40, 50)))
    for policy in POLICIES:
        data = load(path, augment=policy, batch_size=6)
        images, _ = next(iter(data.train_dataloader()))
        assert images.shape == (6, 10, 10, 3), policy


def test_library_is_loaded_by_its_own_data_only() -> None:
    code = (
        "import sys, zoo.datamodules, zoo.datamodules.names, zoo.datamodules.hub, zoo.datamodules.shards\n"
        "from zoo.datamodules import Digits\nnext(iter(Digits(num_workers=0).train_dataloader()))\n"
        "print([name for name in ('datasets', 'webdataset', 'huggingface_hub') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr
