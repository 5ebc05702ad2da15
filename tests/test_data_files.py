"""Image trees as DataModules: decoded once, broken files known before training, cached or not the same pixels."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.datamodules import create_datamodule
from zoo.datamodules.batch import resize_batch
from zoo.datamodules.cache import cache_folder
from zoo.datamodules.csv_file import CSV
from zoo.datamodules.files import FileOptions, FileSource
from zoo.datamodules.folder import Folder, ImageNet
from zoo.datamodules.images import read_image
from zoo.datamodules.statistics import channel_statistics


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(path: Path, seed: int, size: tuple[int, int] = (20, 24)) -> Path:
    """An image of noise, its own for every seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_tree(root: Path, counts: dict[str, int], sizes: tuple[tuple[int, int], ...] = ((20, 24),)) -> Path:
    seed = 0
    for folder, count in counts.items():
        for number in range(count):
            write(root / folder / f"{number:03}.png", seed, sizes[seed % len(sizes)])
            seed += 1
    return root


@pytest.fixture
def divided(tmp_path: Path) -> Path:
    counts = {"train/ant": 20, "train/bee": 20, "val/ant": 3, "val/bee": 4, "test/bee": 5}
    return write_tree(tmp_path / "insects", counts)


@pytest.fixture
def single(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "pets", {"cat": 30, "dog": 20}, sizes=((20, 24), (9, 40), (30, 30)))


def names(data: Folder | CSV, split: str) -> list[str]:
    part = data.splits[split]
    assert isinstance(part.source, FileSource)
    return [Path(path.decode()).as_posix() for path in part.source.job.paths[part.positions]]


def test_a_divided_tree_keeps_its_splits_and_its_labels(divided: Path) -> None:
    data = Folder(str(divided), image_size=16)
    data.setup()
    assert (data.sizes, data.class_names) == ({"train": 40, "val": 7, "test": 5}, ["ant", "bee"])
    for split in ("train", "val", "test"):
        for name, label in zip(names(data, split), data.splits[split].labels, strict=True):
            assert f"/{split}/{data.class_names[label]}/" in name
    assert set(data.splits["test"].labels) == {1}, "a class that test lacks does not shift the labels"


def test_a_single_tree_is_divided_the_same_way_for_every_seed(single: Path) -> None:
    first, second = Folder(str(single), image_size=16, seed=0), Folder(str(single), image_size=16, seed=1)
    for data in (first, second):
        data.setup()
        assert data.sizes == {"train": 36, "val": 4, "test": 10}
        assert np.bincount(data.splits["test"].labels).tolist() == [6, 4]
    assert names(first, "test") == names(second, "test")
    assert sorted(names(first, "val")) != sorted(names(second, "val"))
    assert not {*names(first, "test")} & {*names(first, "train"), *names(first, "val")}
    larger = Folder(str(single), image_size=16, test_size=0.5)
    larger.setup()
    assert larger.sizes["test"] == 25


@pytest.mark.parametrize("policy", ["none", "flip_crop", "imagenet"])
@pytest.mark.parametrize("size", [16, 28])
def test_the_cache_changes_no_pixel(single: Path, policy: str, size: int) -> None:
    batches = []
    for cache in (True, False):
        data = Folder(str(single), image_size=size, augment=policy, cache=cache, num_workers=0, batch_size=7)
        data.setup()
        assert (data.cached is not None) == cache
        loaders = (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
        batches.append([batch for loader in loaders for batch in loader])
    assert len(batches[0]) == len(batches[1]) == 5 + 1 + 2
    for (images, labels), (others, same) in zip(*batches, strict=True):
        assert images.shape[1:] == (size, size, 3)
        assert torch.equal(images, others)
        assert torch.equal(labels, same)


def test_pixels_are_those_of_the_files(divided: Path) -> None:
    data = Folder(str(divided), image_size=20)
    data.setup()
    for name, image in zip(names(data, "val"), data.splits["val"].square(np.arange(7), 20), strict=True):
        assert np.array_equal(image, read_image(name, 3)[:, 2:22])


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # on two processors
@pytest.mark.parametrize("cached", [True, False])
def test_workers_change_nothing(single: Path, cached: bool) -> None:
    expected = None
    for workers in (0, 2):
        data = Folder(str(single), image_size=16, cache=cached, num_workers=workers, augment="strong", batch_size=9)
        found = [(images.numpy().tobytes(), labels.tolist()) for images, labels in data.train_dataloader()]
        expected = expected or found
        assert found == expected


def test_a_second_run_decodes_nothing(single: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Folder(str(single), image_size=16).setup()
    calls: list[object] = []
    monkeypatch.setattr("zoo.datamodules.decoded.read_image", lambda *_: calls.append(_))
    data = Folder(str(single), image_size=16)
    assert sum(len(labels) for _, labels in data.train_dataloader()) == 36
    assert not calls


def test_what_tells_a_tree_from_another(single: Path, tmp_path: Path) -> None:
    """REQ-R2: names below the folder, sizes, what is in the files; not where they lie, nor whether they still do."""

    def content(root: Path) -> str:
        data = Folder(str(root), cache=True)
        data.setup()
        return data.splits["train"].content()

    before = content(single)
    moved = tmp_path / "elsewhere/pets"
    shutil.copytree(single, moved)
    assert content(moved) == before
    file = sorted((moved / "cat").iterdir())[0]
    pixels = np.asarray(Image.open(file))
    Image.fromarray(255 - pixels).save(file)
    other = content(moved)
    assert other != before
    file.rename(file.with_name("another.png"))
    assert content(moved) not in (before, other)
    data = Folder(str(single), cache=True)
    data.setup()
    shutil.rmtree(single)
    assert data.state_dict()["facts"]["content"], "what is kept decoded suffices to train"


def test_a_changed_file_is_decoded_again(single: Path) -> None:
    first = Folder(str(single), image_size=16)
    first.setup()
    write(single / "cat/000.png", seed=999, size=(21, 21))
    second = Folder(str(single), image_size=16)
    second.setup()
    pictures = [split.source.square(np.array([0]), 16) for data in (first, second) for split in [data.splits["train"]]]
    assert not np.array_equal(*pictures)
    resized = resize_batch(torch.from_numpy(read_image(single / "cat/000.png", 3)[None]), 16).numpy()
    assert np.array_equal(pictures[1], resized)


def test_the_same_relative_path_in_another_folder_is_another_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = []
    for value in (50, 200):
        folder = tmp_path / str(value)
        folder.mkdir()
        monkeypatch.chdir(folder)
        for name in ("cat", "dog"):
            for number in range(20):
                file = Path("pets", name, f"{number}.png")
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(file, compress_level=0)  # equal sizes
                os.utime(file, (0, 0))  # and dates, as reproducible archives have them
        data = Folder("pets", image_size=8, cache=True, normalize="imagenet")
        data.setup()
        pictures.append(data.splits["train"].whole(np.array([0]))[0])
    assert [picture.max() for picture in pictures] == [50, 200]


def test_another_image_size_after_setup_reads_the_files_anew(single: Path) -> None:
    data = Folder(str(single), image_size=8)
    data.setup()
    data.image_size = 20
    fresh = Folder(str(single), image_size=20)
    for one, other in zip(data.test_dataloader(), fresh.test_dataloader(), strict=True):
        assert torch.equal(one[0], other[0])


def test_broken_files_are_named_before_training_or_left_out(divided: Path) -> None:
    """REQ-I3: broken files are named before training, or left out and counted."""
    whole = (divided / "train/ant/003.png").read_bytes()
    (divided / "train/ant/003.png").write_bytes(whole[: len(whole) // 2])
    (divided / "val/bee/001.png").write_text("<html>")
    with pytest.raises(
        ValueError, match=r"^2 of 52 files cannot be used: .*train/ant/003\.png: damaged image.*;"
    ) as error:
        Folder(str(divided), image_size=16).setup()
    assert str(error.value).endswith("(--data.on_error skip leaves them out)")
    for cache in (True, False):
        data = Folder(str(divided), image_size=16, on_error="skip", cache=cache)
        data.setup()
        assert data.sizes == {"train": 39, "val": 6, "test": 5}
        assert not [
            name for name in names(data, "train") + names(data, "val") if "ant/003" in name or "val/bee/001" in name
        ]
        assert data.notices[0].startswith("2 of 52 files cannot be used and are left out: ")
        assert sum(len(labels) for _, labels in data.val_dataloader()) == 6


def test_mean_and_deviation_of_the_training_images(divided: Path, cache: Path) -> None:
    data = Folder(str(divided), image_size=16, normalize="auto")
    data.setup()
    train = np.concatenate([data.splits["train"].square(np.arange(40), 16)]) / 255
    assert data.spec.mean == pytest.approx(train.mean((0, 1, 2)), abs=1e-6)
    assert data.spec.std == pytest.approx(train.std((0, 1, 2)), abs=1e-6)
    (file,) = (cache / "statistics").iterdir()
    file.write_text('{"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}')
    assert channel_statistics(data.splits["train"], 16) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)), "computed once"


def test_published_and_pretrained_normalisation(divided: Path) -> None:
    data = Folder(str(divided), image_size=16, normalize="imagenet")
    data.setup()
    assert data.spec.mean == (0.485, 0.456, 0.406)
    data = Folder(str(divided), image_size=16)
    data.use_normalization([0.5, 0.5, 0.5], [0.25, 0.25, 0.25])
    data.setup()
    assert data.preprocessing()["std"] == [0.25, 0.25, 0.25]
    with pytest.raises(
        ValueError, match=r"^normalize is imagenet, which is for colour: images of folder have 1 channel$"
    ):
        Folder(str(divided), image_size=16, in_channels=1, normalize="imagenet").setup()


def test_grey(divided: Path) -> None:
    data = Folder(str(divided), image_size=16, in_channels=1, batch_size=8)
    images, _ = next(iter(data.train_dataloader()))
    assert images.shape == (8, 16, 16, 1)
    assert (data.in_channels, len(data.spec.mean)) == (1, 1)


def test_a_checkpoint_keeps_the_order_of_the_classes(divided: Path, tmp_path: Path) -> None:
    """REQ-I3: what a checkpoint stores holds the classes, which other data are read with."""
    facts = Folder(str(divided), image_size=16).describe()
    assert facts["class_names"] == facts["args"]["classes"] == ["ant", "bee"]
    other = write_tree(tmp_path / "other", {"train/bee": 20, "train/ant": 20, "test/bee": 3})
    again = create_datamodule("folder", **{**facts["args"], "root": str(other), "classes": ["bee", "ant"]})
    again.setup()
    assert set(again.splits["test"].labels) == {0}
    assert again.class_names == ["bee", "ant"]


def test_table_of_files(single: Path) -> None:
    rows = [
        f"{folder}/{n:03}.png,{folder},{'test' if n < 3 else 'train'}" for folder in ("cat", "dog") for n in range(20)
    ]
    (single / "labels.csv").write_text("\n".join(["path,label,split", *rows]))
    data = CSV(str(single / "labels.csv"), image_size=16)
    data.setup()
    assert (data.sizes, data.class_names) == ({"train": 30, "val": 4, "test": 6}, ["cat", "dog"])
    for name, label in zip(names(data, "test"), data.splits["test"].labels, strict=True):
        assert f"/{data.class_names[label]}/" in name
    again = create_datamodule("csv", **data.describe()["args"])
    again.setup()
    assert again.describe() == data.describe()


def test_imagenet(tmp_path: Path) -> None:
    root = tmp_path / "imagenet"
    counts = {
        f"{part}/n{number:08}": 2 if part == "train" else 1 for part in ("train", "val") for number in range(1000)
    }
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True)
        for number in range(count):
            (root / folder / f"{number}.JPEG").symlink_to(write(tmp_path / "one.png", 0, (4, 4)))
    data = ImageNet(str(root), image_size=4, val_size=0.5)
    data.setup()
    assert data.sizes == {"train": 1000, "val": 1000, "test": 1000}
    assert (data.class_names[0], data.num_classes, len(set(data.class_names))) == ("tench", 1000, 1000)
    assert data.splits["test"].labels.tolist() == list(range(1000))
    assert data.preprocessing()["mean"] == [0.485, 0.456, 0.406]
    shutil.rmtree(root / "train")  # many have the validation images alone
    alone = ImageNet(str(root), image_size=4)
    alone.setup("test")
    assert alone.sizes == {"test": 1000}
    with pytest.raises(ValueError, match="has 2 class folders, ImageNet has 1000: --data folder reads any number"):
        ImageNet(str(write_tree(tmp_path / "few", {"train/a": 2, "train/b": 2, "val/a": 1})), image_size=4).setup()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_channels": 2}, "in_channels must be 1 (grey) or 3 (colour), not 2"),
        ({"test_size": 0}, "test_size must lie between 0 and 1"),
        ({"on_error": "ignore"}, "unknown on_error 'ignore'"),
        ({"val_size": 0.3}, "val_size is 0.3, but the dataset has validation images of its own"),
        ({"classes": ["ant", "wasp"]}, "wasp"),
        ({"classes": []}, "classes must name at least two, each once, not []"),
        ({"test_size": 0.5}, "test_size is 0.5, but the dataset has splits of its own"),
    ],
)
def test_wrong_options_are_one_line(divided: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        Folder(str(divided), image_size=16, **options).setup()
    assert "\n" not in str(error.value)


def test_a_size_from_a_checkpoint_does_not_keep_other_data_from_being_tested(divided: Path) -> None:
    data = create_datamodule("folder", **Folder(str(divided), image_size=16, test_size=0.3).describe()["args"])
    data.use_normalization([0.5] * 3, [0.25] * 3)
    data.setup("test")
    assert data.sizes == {"test": 5}
    usual = create_datamodule("folder", **Folder(str(divided)).describe()["args"])
    usual.setup()
    assert usual.sizes == {"train": 40, "val": 7, "test": 5}, "they hold the usual size whatever the data"


def test_none_means_not_given(divided: Path) -> None:
    given: dict[str, Any] = dict.fromkeys(FileOptions.__annotations__)
    assert Folder(str(divided), **given).describe() == Folder(str(divided)).describe()


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("ZOO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg/lightning-zoo"
    monkeypatch.setattr("os.access", lambda path, mode: False)  # a disk that may only be read
    folder = cache_folder()
    assert folder.parent == Path(tempfile.gettempdir())
    assert cache_folder() == folder
    monkeypatch.setenv("ZOO_CACHE", "")  # so that what was set goes with the test
    folder.rmdir()


def test_what_may_pass_is_tried_again(single: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo.datamodules import decoded

    def refuse(path: str, in_channels: int) -> np.ndarray:
        if path.endswith("cat/001.png"):
            raise PermissionError(f"{path}: may not be read; check the rights of the file")
        return read_image(path, in_channels)

    with monkeypatch.context() as patch:
        patch.setattr(decoded, "read_image", refuse)
        data = Folder(str(single), image_size=16, on_error="skip")
        data.setup()
        assert sum(data.sizes.values()) == 49
    again = Folder(str(single), image_size=16)
    again.setup()
    assert sum(again.sizes.values()) == 50


def test_to_test_no_other_files_are_needed(divided: Path, tmp_path: Path) -> None:
    whole = Folder(str(divided), image_size=16)
    shutil.rmtree(divided / "train")
    shutil.rmtree(divided / "val")
    data = Folder(str(divided), image_size=16, classes=["ant", "bee"])
    data.use_preprocessing({"image_size": 16, "mean": [0.5] * 3, "std": [0.2] * 3, "border": 0})
    data.setup("test")
    assert data.sizes == {"test": 5}
    assert sum(len(labels) for _, labels in data.test_dataloader()) == 5
    assert whole.class_names == data.class_names
    with pytest.raises(ValueError, match=r"^folder has no training images$"):
        data.setup("fit")


def test_testing_looks_at_the_test_files_alone(divided: Path) -> None:
    (divided / "train/ant/000.png").write_text("broken")
    data = Folder(str(divided), image_size=16)
    data.use_normalization([0.5] * 3, [0.2] * 3)
    data.setup("test")
    assert data.sizes == {"test": 5}
    with pytest.raises(ValueError, match=r"^1 of 52 files cannot be used"):
        data.setup("fit")


def test_a_class_that_loses_all_its_images_is_an_error(divided: Path) -> None:
    for path in (divided / "train/bee").iterdir():
        path.write_text("broken")
    with pytest.raises(ValueError, match=r"^class 'bee' has no training image that can be used: "):
        Folder(str(divided), image_size=16, on_error="skip").setup()


def test_files_that_are_not_read_are_counted(divided: Path) -> None:
    for number in range(3):
        (divided / f"train/ant/{number}.heic").touch()
    data = Folder(str(divided), image_size=16)
    data.setup()
    assert len(data.notices) == 1
    assert data.notices[0].startswith("3 files are not read: ")


def test_a_process_that_ends_while_it_is_handed_pixels_leaves_no_traceback() -> None:
    """After Ctrl-C, a worker's thread of `multiprocessing` may find that nobody reads what it offers."""
    code = """
import socket
from multiprocessing import resource_sharer
from zoo.datamodules.decoded import _start_worker
_start_worker(0)
client = socket.socket(socket.AF_UNIX)
client.connect(resource_sharer.DupFd(0)._id[0])
client.close()
resource_sharer.stop(5)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
