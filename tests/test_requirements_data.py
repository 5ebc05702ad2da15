"""Requirements on data that no other test holds whole: each names its REQ, as the tests of the others do."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional

from tests.conftest import ROOT
from tests.test_data_base import digest
from zoo.datamodules import Digits, Fake, Folder
from zoo.datamodules.arrays import Arrays, Split
from zoo.datamodules.augment import AlbumentationsAugment, build_augment, resolve_policy
from zoo.datamodules.batch import Sizing
from zoo.datamodules.dataset import ImageDataset
from zoo.datamodules.files import FileSource
from zoo.datamodules.loader import build_loader
from zoo.datamodules.policies import build_compose, named_steps
from zoo.datamodules.sampler import TrainSampler

IMAGE = np.random.default_rng(0).integers(1, 256, (16, 16, 3), dtype=np.uint8)
# A ramp with two slopes, on which interpolation is exact up to rounding.
RAMP = np.repeat((4 * np.add.outer(np.arange(17), 2 * np.arange(17)))[..., None], 3, 2).astype(np.uint8)
SAME = {"brightness": [1, 1], "contrast": [1, 1], "saturation": [1, 1], "hue": [0, 0], "p": 1}


def shifted() -> np.ndarray:
    result = np.zeros_like(IMAGE)
    result[:-2, 3:] = IMAGE[2:, :-3]
    return result


def by_torchvision(change: Callable[[Tensor], Tensor], image: np.ndarray = IMAGE) -> np.ndarray:
    return change(torch.from_numpy(image).permute(2, 0, 1)).permute(1, 2, 0).numpy()


def warped(**change: Any) -> np.ndarray:
    usual = {"angle": 0, "translate": [0, 0], "scale": 1, "shear": [0, 0]}
    bilinear = functional.InterpolationMode.BILINEAR
    return by_torchvision(lambda image: functional.affine(image, **(usual | change), interpolation=bilinear), RAMP)


def affine(**change: Any) -> dict[str, Any]:
    return {"Affine": {**change, "fill": 0, "p": 1}}


def jitter(name: str, value: float) -> dict[str, Any]:
    return {"ColorJitter": {**SAME, name: [value, value]}}


# A step, the image, what must come out by another implementation, and by how many of 255 steps rounding may differ.
REFERENCES: dict[str, tuple[dict[str, Any], np.ndarray, np.ndarray, float]] = {
    "pad": ({"Pad": {"padding": 2, "fill": 0}}, IMAGE, np.pad(IMAGE, ((2, 2), (2, 2), (0, 0))), 0),
    "crop": ({"RandomCrop": {"height": 16, "width": 16}}, IMAGE, IMAGE, 0),
    "flip": ({"HorizontalFlip": {"p": 1}}, IMAGE, IMAGE[:, ::-1], 0),
    "rotate": (affine(rotate=[90, 90]), IMAGE, np.rot90(IMAGE), 0),
    "shift": (affine(translate_px={"x": [3, 3], "y": [-2, -2]}), IMAGE, shifted(), 0),
    "zoom": (affine(scale=[2, 2]), RAMP, warped(scale=2), 1),
    "shear": (affine(shear={"x": [5, 5], "y": [0, 0]}), RAMP, warped(shear=[5, 0]), 1),
    "brightness": (jitter("brightness", 1.2), IMAGE, by_torchvision(lambda x: functional.adjust_brightness(x, 1.2)), 1),
    "contrast": (jitter("contrast", 0.8), IMAGE, by_torchvision(lambda x: functional.adjust_contrast(x, 0.8)), 1),
    "saturation": (jitter("saturation", 1.2), IMAGE, by_torchvision(lambda x: functional.adjust_saturation(x, 1.2)), 1),
    # OpenCV has 180 hues, torchvision as many as floats.
    "hue": (jitter("hue", 0.05), IMAGE, by_torchvision(lambda x: functional.adjust_hue(x, 0.05)), 6),
    "grey": (
        {"RandomBrightnessContrast": {"brightness_limit": [0.1, 0.1], "contrast_limit": [0.2, 0.2], "p": 1}},
        IMAGE,
        np.clip(IMAGE * 1.2 + 0.1 * 255, 0, 255),
        1,
    ),
    "resize": (
        {"RandomResizedCrop": {"size": [8, 8], "scale": [1, 1], "ratio": [1, 1], "p": 1}},
        IMAGE,
        IMAGE.reshape(8, 2, 8, 2, 3).mean((1, 3)),
        1,
    ),
}


@pytest.mark.parametrize("case", REFERENCES)
def test_transforms_of_our_policies_do_what_other_implementations_do(case: str) -> None:
    """REQ-A1: every albumentations transform that a policy uses gives the numbers of an independent reference."""
    step, image, expected, tolerance = REFERENCES[case]
    result = build_compose([step])(image=image)["image"]
    assert result.dtype == np.uint8
    assert np.abs(result.astype(float) - expected).max() <= tolerance


def test_patches_are_black_rectangles_of_the_sizes_asked_for() -> None:
    """REQ-A1: CoarseDropout, whose place is random, blackens one rectangle and changes nothing else."""
    [step] = [
        step for step in named_steps("strong", image_size=16, in_channels=3, mirror=True) if "CoarseDropout" in step
    ]
    compose = build_compose([{"CoarseDropout": {**step["CoarseDropout"], "p": 1}}])
    for seed in range(20):
        compose.set_random_seed(seed)
        result = compose(image=IMAGE)["image"]
        rows, columns = np.nonzero((result == 0).all(2))
        window = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        expected = IMAGE.copy()
        expected[window] = 0
        assert np.array_equal(result, expected)
        assert all(3 <= side <= 6 for side in result[window].shape[:2])  # 0.2 to 0.4 of 16


def test_no_transform_of_our_policies_lacks_a_reference() -> None:
    """REQ-A1: a transform that a policy begins to use needs a reference above."""
    policies = [
        named_steps(policy, image_size=16, in_channels=channels, mirror=True)
        for policy in ("flip_crop", "affine", "color", "strong", "imagenet")
        for channels in (1, 3)
    ]
    used = {name for steps in policies for step in steps for name in step}
    assert used == {name for step, *_ in REFERENCES.values() for name in step} | {"CoarseDropout"}


def test_no_two_images_share_a_stream() -> None:
    """REQ-A3: two workers never draw the same changes, and no epoch repeats another."""
    equal = Arrays(np.repeat(IMAGE[None], 48, axis=0), np.zeros(48, np.int64))
    augment = build_augment("strong", seed=3, image_size=16, in_channels=3)
    dataset = ImageDataset(Split.of(equal), Sizing(16), augment)
    loader = build_loader(dataset, TrainSampler(dataset, 8, seed=3), num_workers=2)
    epochs = [{image.tobytes() for images, _ in loader for image in images.numpy()} for _ in range(2)]
    assert [len(epoch) for epoch in epochs] == [48, 48]
    assert not epochs[0] & epochs[1]


def test_two_processes_make_the_same_batches() -> None:
    """REQ-A3: the same seed gives the same batches in another process, whatever its global random state."""
    make = {"augment": "strong", "num_samples": 100, "image_size": 16, "batch_size": 16, "seed": 2, "num_workers": 0}
    code = f"""
import random, numpy, torch
random.seed(1); numpy.random.seed(2); torch.manual_seed(3)
from tests.test_data_base import digest
from zoo.datamodules import Fake
print(*digest(Fake(**{make}).train_dataloader(), epochs=2))
"""
    environment = os.environ | {"PYTHONHASHSEED": "5"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == digest(Fake(**make).train_dataloader(), epochs=2), done.stderr


def test_what_albumentations_only_warns_of_is_an_error() -> None:
    """REQ-A5: a value that albumentations would replace by another after a warning is refused."""
    with pytest.raises(ValueError, match=r"^MedianBlur: blur_limit: Non-zero kernel sizes must be odd"):
        resolve_policy([{"MedianBlur": {"blur_limit": [4, 4]}}])


@pytest.mark.parametrize("images", [IMAGE[None] / 255, IMAGE[None].astype(np.uint16), IMAGE[None, ..., 0]])
def test_only_bytes_with_channels_reach_albumentations(images: np.ndarray) -> None:
    """REQ-A5: images are uint8 (H, W, C) before the pipeline; floats and 16 bits would come out wrong in silence."""
    augment = AlbumentationsAugment("color", seed=0, image_size=16, in_channels=3)
    with pytest.raises(AssertionError):
        augment(images, [(0, 0)])


@pytest.mark.parametrize("cache", [True, False])
def test_decoded_images_are_never_changed(cache: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """REQ-A5: neither augmentation nor whoever gets a batch can change the cached images."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    for number in range(24):
        path = tmp_path / "tree" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.roll(IMAGE, number, 0)).save(path)
    options = {"image_size": 16, "augment": "strong", "cache": cache, "num_workers": 0, "drop_last": False}
    data = Folder(str(tmp_path / "tree"), **options)
    data.setup()
    before = {path: path.read_bytes() for path in (tmp_path / "cache").rglob("*.bin")}
    first = [batch for name in data.splits for batch in data.ordered_loader(name)]
    copies = [images.clone() for images, _ in first]
    for images, _ in [*first, *data.train_dataloader()]:
        images.zero_()
    again = [images for name in data.splits for images, _ in data.ordered_loader(name)]
    assert all(torch.equal(one, other) for one, other in zip(copies, again, strict=True))
    assert before == {path: path.read_bytes() for path in before}
    source = data.splits["train"].source
    assert isinstance(source, FileSource)
    assert source.decoded.has_pixels is cache


class Threads(Dataset[Any]):
    """Tells how many threads the process that asks may start."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, _: Any) -> tuple[int, int, int]:
        import cv2

        return os.getpid(), cv2.getNumThreads(), torch.get_num_threads()


@pytest.fixture
def several_threads() -> Iterator[None]:
    import cv2

    before = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(2), torch.set_num_threads(2)
    yield
    cv2.setNumThreads(before[0]), torch.set_num_threads(before[1])


@pytest.mark.usefixtures("several_threads")
def test_workers_have_one_thread() -> None:
    """REQ-A6: neither OpenCV nor torch starts threads in a worker, whatever the process had that started it."""
    dataset = Threads()
    [*answers] = build_loader(dataset, TrainSampler(dataset, 1, seed=0), num_workers=2)
    assert {pid for pid, _, _ in answers}.isdisjoint({os.getpid()})
    assert {threads for _, *threads in map(tuple, answers) for threads in threads} == {1}


@pytest.mark.usefixtures("several_threads")
def test_augmentation_in_this_process_has_one_thread_too() -> None:
    """REQ-A6: building a policy of albumentations keeps OpenCV from starting threads where there are no workers."""
    import cv2

    Digits(augment="color").make_augment()
    assert cv2.getNumThreads() == 1
