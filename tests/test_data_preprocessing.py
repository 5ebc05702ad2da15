"""Preprocessing that follows a model's weights: what is said about it, what is taken over, and what images it makes."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from zoo.datamodules import Digits, Fake, Folder, HuggingFace, ImageDataModule, WebDataset, create_datamodule
from zoo.datamodules.augment import build_augment
from zoo.datamodules.batch import Sizing, squares
from zoo.datamodules.decode import read_image

Pixels = npt.NDArray[np.uint8]
CUBIC: dict[str, Any] = {"image_size": 14, "crop": 0.7, "interpolation": "bicubic"}  # 14 of 20 pixels
WEIGHTS = {
    "image_size": 20, "in_channels": 3, "border": 2, "mean": [0.1, 0.2, 0.6], "std": [0.3, 0.3, 0.9],
    "crop": 0.875, "interpolation": "bicubic",
}  # fmt: skip


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """ROOT/SPLIT/CLASS/*.png: larger and smaller pictures than are asked for, upright, oblong and square."""
    random, shapes = np.random.default_rng(0), [(30, 41), (45, 32), (26, 26), (12, 17)]
    for split, count in (("train", 12), ("val", 4), ("test", 4)):
        for name in ("ant", "bee"):
            (tmp_path / "tree" / split / name).mkdir(parents=True)
            for number in range(count):
                image = random.integers(0, 256, (*shapes[number % 4], 3), dtype=np.uint8)
                Image.fromarray(image).save(tmp_path / "tree" / split / name / f"{number:02}.png")
    return tmp_path / "tree"


def files(folder: Path, split: str) -> list[Path]:
    return sorted((folder / split).rglob("*.png"))


def expected(folder: Path, split: str, sizing: Sizing) -> Pixels:
    """The images of a split, each resized alone, the centre cut out."""
    images = [squares([read_image(path, 3)], sizing.side, sizing.interpolation) for path in files(folder, split)]
    start = (sizing.side - sizing.image_size) // 2
    return np.concatenate(images)[:, start : start + sizing.image_size, start : start + sizing.image_size]


def evaluated(data: ImageDataModule, split: str = "test") -> Pixels:
    images: Pixels = torch.cat([images for images, _ in data.ordered_loader(split)]).numpy()
    return images


def test_only_what_is_unusual_is_said() -> None:
    plain = Digits(crop=1, interpolation="bilinear")
    assert plain.preprocessing().keys() == {"image_size", "in_channels", "border", "mean", "std"}
    assert not {"crop", "interpolation"} & plain.arguments().keys()
    data = Digits(**CUBIC)
    assert data.preprocessing()["crop"] == data.arguments()["crop"] == 0.7
    assert data.preprocessing()["interpolation"] == data.arguments()["interpolation"] == "bicubic"
    again = create_datamodule("digits", **data.describe()["args"])
    assert again.describe() == data.describe()
    assert np.array_equal(evaluated(again), evaluated(data))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"crop": 0.0}, r"^crop must be above 0 and at most 1, for example 0\.875, not 0\.0$"),
        ({"crop": 1.5}, r"^crop must be above 0 and at most 1, for example 0\.875, not 1\.5$"),
        ({"crop": True}, r"not True$"),
        ({"crop": float("nan")}, r"not nan$"),
        ({"crop": "0.9"}, r"not '0\.9'$"),
        ({"interpolation": "cubic"}, r"^unknown interpolation 'cubic': did you mean 'bicubic'\?"),
    ],
)
def test_wrong_choices(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Digits(**options)
    with pytest.raises(ValueError, match=reason):
        Digits().use_preprocessing({**WEIGHTS, **options})


def test_a_resumed_run_notices_another_crop() -> None:
    facts = Digits(crop=0.9).state_dict()["facts"]
    assert facts["crop"] == 0.9
    assert Digits().state_dict()["facts"]["crop"] is None


def webdataset(folder: Path, **options: Any) -> WebDataset:
    """The same files as shards."""
    for split in ("train", "val", "test"):
        with tarfile.open(folder / f"{split}.tar", "w") as tar:
            for number, path in enumerate(files(folder, split)):
                label = b"%d" % (path.parent.name == "bee")
                for suffix, content in (("png", path.read_bytes()), ("cls", label)):
                    info = tarfile.TarInfo(f"{number:03}.{suffix}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    shards = {split: str(folder / f"{split}.tar") for split in ("train", "val", "test")}
    return WebDataset(**shards, classes=["ant", "bee"], num_workers=0, **options)


def huggingface(folder: Path, **options: Any) -> HuggingFace:
    """The same files as the library `datasets` reads a folder of images."""
    return HuggingFace(str(folder), num_workers=0, **options)


def kept(folder: Path, **options: Any) -> Folder:
    return Folder(str(folder), cache=True, num_workers=0, **options)


def not_kept(folder: Path, **options: Any) -> Folder:
    return Folder(str(folder), cache=False, num_workers=0, **options)


@pytest.mark.parametrize("build", [kept, not_kept, webdataset, huggingface])
def test_every_source_cuts_evaluation_images_alike(folder: Path, build: Callable[..., ImageDataModule]) -> None:
    usual = build(folder, image_size=14, augment="none", batch_size=5)
    assert np.array_equal(evaluated(usual), expected(folder, "test", Sizing(14)))
    # What the first one left in the cache must not be used.
    for interpolation in ("bilinear", "bicubic"):
        sizing = Sizing(14, crop=0.7, interpolation=interpolation)
        data = build(folder, image_size=14, crop=0.7, interpolation=interpolation, augment="none", batch_size=5)
        assert np.array_equal(evaluated(data), expected(folder, "test", sizing))
        assert np.array_equal(
            torch.cat([images for images, _ in data.val_dataloader()]).numpy(), evaluated(data, "val")
        )


def test_images_in_memory_are_cut_too() -> None:
    data = Digits(**CUBIC)
    data.setup()
    whole = np.stack(data.splits["test"].whole(np.arange(360)))
    assert np.array_equal(evaluated(data), squares([*whole], 20, "bicubic")[:, 3:17, 3:17])


@pytest.mark.parametrize("build", [kept, not_kept, webdataset])
def test_training_starts_from_the_evaluation_image(folder: Path, build: Callable[..., ImageDataModule]) -> None:
    data = build(folder, augment="flip_crop", **CUBIC)
    found = data.make_dataset("train", is_training=True)[np.arange(24), 5][0].numpy()
    change = build_augment("flip_crop", seed=data.seed, image_size=14, in_channels=3)
    assert change is not None
    start = expected(folder, "train", Sizing(14, crop=0.7, interpolation="bicubic"))
    assert np.array_equal(found, change(start, [(row, 5) for row in range(24)]))


def test_policies_that_cut_images_themselves_do_so_as_before(folder: Path) -> None:
    pictures = [
        kept(folder, augment="imagenet", image_size=14, **options).make_dataset("train", is_training=True)
        for options in ({}, {"crop": 0.7, "interpolation": "bicubic"})
    ]
    assert torch.equal(*(dataset[np.arange(24), 1][0] for dataset in pictures))


def test_mean_and_deviation_are_those_of_the_resized_images(folder: Path) -> None:
    found = []
    for interpolation in ("bilinear", "bicubic"):
        data = not_kept(folder, image_size=14, crop=0.7, interpolation=interpolation, normalize="auto", augment="none")
        data.setup()
        larger = squares([read_image(path, 3) for path in files(folder, "train")], 20, interpolation) / 255
        assert data.spec.mean == pytest.approx(larger.mean((0, 1, 2)), abs=1e-6)
        assert data.spec.std == pytest.approx(larger.std((0, 1, 2)), abs=1e-6)
        found.append(data.spec.std)
    assert abs(found[0][0] - found[1][0]) > 1e-3, "they differ"


def test_what_weights_say_is_taken_over() -> None:
    data = Fake(num_samples=100, image_size=16, crop=0.5)
    data.use_preprocessing(WEIGHTS)
    assert data.preprocessing() == WEIGHTS
    assert data.sizing == Sizing(20, 2, 0.875, "bicubic")
    assert evaluated(data).shape[1:] == (20, 20, 3)
    usual = {name: value for name, value in WEIGHTS.items() if name not in ("crop", "interpolation")}
    data.use_preprocessing({**usual, "permute_pixels": 4})
    assert data.preprocessing() == {**usual, "permute_pixels": 4}
    data.use_preprocessing(usual)
    assert data.preprocessing() == usual


@pytest.mark.parametrize(
    ("typed", "facts"),
    [
        ("crop", {"crop": 0.5}),
        ("interpolation", {"interpolation": "bilinear"}),
        ("image_size", {"image_size": 16, "border": 0}),
        ("normalize", {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}),
        ("permute_pixels", {"permute_pixels": 3}),
        ("batch_size", {}),
    ],
)
def test_what_the_user_typed_is_kept(typed: str, facts: dict[str, Any]) -> None:
    options: dict[str, Any] = {"crop": 0.5, "interpolation": "bilinear", "image_size": 16, "normalize": "imagenet"}
    data = Fake(num_samples=100, permute_pixels=3, **options)
    data.use_preprocessing({**WEIGHTS, "permute_pixels": 9}, keep=[typed])
    data.setup()
    found = {"permute_pixels": None, "interpolation": "bilinear", **data.preprocessing()}
    assert found == {**WEIGHTS, "permute_pixels": 9, **facts}


def test_the_size_of_the_weights_keeps_their_border_whoever_said_it() -> None:
    data = Fake(num_samples=100, image_size=20)
    data.use_preprocessing(WEIGHTS, keep=["image_size"])
    assert data.border == 2


def test_weights_for_other_channels() -> None:
    grey = Digits()
    grey.use_preprocessing(WEIGHTS)
    facts = grey.preprocessing()
    assert (facts["in_channels"], facts["mean"], facts["std"]) == (1, pytest.approx([0.3]), pytest.approx([0.5]))
    colour = Fake(num_samples=100)
    colour.use_preprocessing({**WEIGHTS, "in_channels": 1, "mean": [0.25], "std": [0.5]})
    facts = colour.preprocessing()
    assert (facts["in_channels"], facts["mean"], facts["std"]) == (3, [0.25] * 3, [0.5] * 3)
    for data in (grey, colour):
        images, _ = data.on_after_batch_transfer(next(iter(data.ordered_loader("test"))), 0)
        assert images.shape[1:] == (data.in_channels, 20, 20)


@pytest.mark.parametrize("cache", [True, False])
def test_files_are_read_anew_for_other_preprocessing(folder: Path, cache: bool) -> None:
    data = Folder(str(folder), image_size=14, cache=cache, num_workers=0)
    data.setup()
    before = evaluated(data)
    assert np.array_equal(before, expected(folder, "test", Sizing(14)))
    facts = {"image_size": 14, "border": 0, "mean": [0.5] * 3, "std": [0.5] * 3}
    for sizing in (Sizing(14, interpolation="bicubic"), Sizing(14, crop=0.7), Sizing(20, crop=0.8)):
        data.use_preprocessing({**facts, "image_size": sizing.image_size, **sizing.unusual()})
        assert np.array_equal(evaluated(data), expected(folder, "test", sizing))
