"""Numbers that would be wrong without a word: losses, sizes, counts, images that change, descriptions."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from zoo.datamodules.augment import AlbumentationsAugment
from zoo.datamodules.folder import Folder
from zoo.datamodules.images import image_size_of, read_image
from zoo.divergence import DivergedError, LossWatch
from zoo.recipe import Recipe

ORIENTATION = 0x0112
"""The EXIF tag that says how a picture is to be turned."""


def trainer_of(precision: str) -> Any:
    """As much of a trainer as the watch looks at."""
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.125}])
    return SimpleNamespace(precision=precision, optimizers=[optimizer], current_epoch=0, global_step=0, world_size=1)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true", "64-true"])
def test_without_a_scaler_no_overflow_is_tolerated(precision: str) -> None:
    """REQ-N1: only 16-mixed has a gradient scaler that leaves such steps out; else the first one ends the run."""
    with pytest.raises(DivergedError, match="the training loss is inf"):
        LossWatch().check(torch.tensor(float("inf")), 0, trainer_of(precision))


def test_a_penalty_that_is_infinite_ends_the_run() -> None:
    """REQ-N1: what is looked at is all that is trained on, not the images' part of it."""
    model = zoo.create_model("mlp", hidden=(), image_size=8)
    model.recipe = Recipe(l1=0.1)
    model._trainer = trainer_of("32-true")
    weight = model.output.get_parameter("weight")
    weight.data.fill_(torch.finfo(weight.dtype).max)
    batch = torch.zeros(2, 1, 8, 8), torch.tensor([0, 1])  # black: the weights do not count
    with pytest.raises(DivergedError, match="the training loss is inf"):
        model.training_step(batch, 0)
    weight.data.fill_(1.0)
    assert model.training_step(batch, 0).isfinite()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_of_a_turned_image_is_that_of_its_pixels(orientation: int, tmp_path: Path) -> None:
    """REQ-I2: whatever the camera's mark says, size and pixels agree."""
    path, exif = tmp_path / "turned.jpg", Image.Exif()
    exif[ORIENTATION] = orientation
    Image.new("RGB", (24, 16)).save(path, exif=exif)
    assert image_size_of(path) == read_image(path, 3).shape[:2] == ((16, 24) if orientation < 5 else (24, 16))


@pytest.fixture
def insects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree of images, one of which is a link that points nowhere."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    for name in ("ant", "bee"):
        folder = tmp_path / "insects/train" / name
        folder.mkdir(parents=True)
        for number in range(20):
            Image.new("L", (8, 8), number).save(folder / f"{number:02}.png")
    (tmp_path / "insects/train/ant/gone.png").symlink_to(tmp_path / "gone.png")
    return tmp_path / "insects"


def test_a_link_that_points_nowhere_is_refused(insects: Path) -> None:
    """REQ-I3: an image that was meant to be there is named before training."""
    message = r"^1 of 41 files cannot be used: train/ant/gone\.png: a link that points nowhere \(--data\.on_error skip"
    with pytest.raises(ValueError, match=message):
        Folder(str(insects), image_size=8).setup()


def test_a_link_that_points_nowhere_is_left_out_and_counted(insects: Path) -> None:
    """REQ-I3: with on_error skip, the notice has it in both of its numbers."""
    data = Folder(str(insects), image_size=8, on_error="skip")
    data.setup()
    told = [notice for notice in data.notices if "cannot be used" in notice]
    reason = "train/ant/gone.png: a link that points nowhere"
    assert told == [f"1 of 41 files cannot be used and are left out: {reason}"]
    assert sum(data.sizes.values()) == 40


def test_a_step_that_writes_in_place_does_not_change_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """REQ-A5: the images of a data set stay what they are, whatever a transform does to the one that it gets."""

    def invert(self: object, img: np.ndarray, **_: object) -> np.ndarray:
        return np.subtract(255, img, out=img)

    def make() -> AlbumentationsAugment:
        return AlbumentationsAugment([{"HorizontalFlip": {"p": 1}}], seed=1, image_size=8, in_channels=3)

    monkeypatch.setattr(type(make().compose.transforms[0]), "apply", invert)
    augment = make()  # a transform looks up its methods when it is made
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    given = images.copy()
    assert np.array_equal(augment(images, [(0, 0), (1, 0)]), 255 - given)
    assert np.array_equal(images, given)


def test_the_arguments_in_a_description_are_lists() -> None:
    """REQ-S3: a description that was read from JSON equals the one that was written; there are no tuples in JSON."""
    description = zoo.create_model("mlp", hidden=(7, 5), image_size=8).description()
    assert description["args"]["hidden"] == [7, 5]
    assert json.loads(json.dumps(description)) == description
