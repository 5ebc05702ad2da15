"""The images of a run: data sets as class folders, and fingerprints that follow what images show."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.benchmarks.data import CLASS_FOLDERS, build_data, read_data
from zoo.benchmarks.networks import build_model
from zoo.benchmarks.settings import Settings
from zoo.datamodules.registry import dataset_spec


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """CIFAR-10 as class folders: four training images and one test image of each class."""
    generator = np.random.default_rng(0)
    for part, number in (("train", 4), ("test", 1)):
        for name in dataset_spec("cifar10").class_names:
            folder = tmp_path / "here" / "cifar10" / part / name
            folder.mkdir(parents=True)
            for index in range(number):
                pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    return tmp_path / "here"


def settings(**changes: object) -> Settings:
    given = {"model": "vgg11", "data": "cifar10", "data.val_size": 0.25, "recipe.batch_size": 10}
    return Settings.of(given | {name.replace("__", "."): value for name, value in changes.items()})


def test_class_folders_serve_as_cifar10_with_its_size_and_normalisation(tree: Path) -> None:
    spec = dataset_spec("cifar10")
    data = build_data(settings(), 3, str(tree))
    model = build_model(settings(), data)
    data.setup("fit")
    assert (model.image_size, data.image_size, data.num_classes, data.augment) == (32, 32, 10, "flip_crop")
    assert data.class_names == list(spec.class_names)
    assert (data.spec.mean, data.spec.std) == (spec.mean, spec.std)
    assert data.sizes == {"train": 30, "val": 10, "test": 10}
    assert data.seed == 3
    assert build_model(settings(data__image_size=48), build_data(settings(), 0, str(tree))).image_size == 48


def test_a_fingerprint_follows_the_images_and_not_their_place(tree: Path, tmp_path: Path) -> None:
    (facts,) = read_data([settings()], str(tree))
    assert facts.source == CLASS_FOLDERS
    moved = tmp_path / "there"
    shutil.copytree(tree, moved)
    os.utime(moved / "cifar10/train/cat/0.png", (1, 1))
    assert read_data([settings()], str(moved)) == [facts]
    assert read_data([settings()], os.path.relpath(moved)) == [facts]
    image = Image.open(moved / "cifar10/test/cat/0.png")
    image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(moved / "cifar10/test/cat/0.png")
    assert read_data([settings()], str(moved)) != [facts]
    (moved / "cifar10/train/cat/0.png").unlink()
    assert read_data([settings()], str(moved)) != [facts]


def test_data_are_read_once_for_runs_that_share_them(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo.benchmarks import data

    built: list[Settings] = []
    original = data.build_data
    monkeypatch.setattr(
        data, "build_data", lambda one, *rest, **more: (built.append(one), original(one, *rest, **more))[1]
    )
    all_settings = [settings(), settings(data__augment="none"), settings(recipe__lr=1.0), settings(data="fake")]
    facts = read_data(all_settings, str(tree))
    assert len(built) == 2
    assert facts[0] == facts[1] == facts[2] != facts[3]


def test_what_is_wrong_with_the_data_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"cifar10: no data_batch_1"):
        read_data([settings()], str(tmp_path))
    with pytest.raises(ValueError, match="is read from a folder"):
        read_data([settings()], None)
    with pytest.raises(ValueError, match=r"unknown setting 'data.trainsize'. Did you mean 'train_size'"):
        read_data([settings(data__trainsize=10)], None)


def test_nothing_is_chosen_on_test_images() -> None:
    with pytest.raises(ValueError, match="nothing may be chosen on test images"):
        settings(curve="test", select="best")


def test_a_new_field_that_is_off_changes_no_digest() -> None:
    one = settings()
    older = dict(one.recipe)
    del older["max_norm"], older["l1"]
    protocol = dict(one.protocol)
    del protocol["members"]
    assert Settings(**{**one.as_dict(), "recipe": older, "protocol": protocol}).digest() == one.digest()
    assert settings(recipe__max_norm=3.0).digest() != one.digest()
    assert settings(model__norm="batch").digest() != one.digest()
    assert one.key(0, "a") != one.key(1, "a") != one.key(1, "b")


def test_numbers_that_yaml_takes_for_text_are_numbers() -> None:
    assert settings(recipe__lr="1e-3").recipe["lr"] == 1e-3
