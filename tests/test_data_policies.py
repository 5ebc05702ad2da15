"""A user's own augmentation policy: what may be written, what it does, and what each mistake is answered with."""

import inspect
import random
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from zoo.datamodules.augment import AlbumentationsAugment, Augment, build_augment, resolve_policy
from zoo.datamodules.batch import resize_batch
from zoo.datamodules.policies import build_compose, named_steps

POLICY = """
- HorizontalFlip: {p: 1.0}
- RandomBrightnessContrast
- GaussNoise:
- OneOf:
    transforms:
      - GaussianBlur
      - MotionBlur: {blur_limit: [3, 5]}
      - Sequential: {transforms: [MedianBlur, {SomeOf: {transforms: [Sharpen, Emboss], n: 1}}], p: 1}
    p: 0.5
"""


def noise(side: int = 16, channels: int = 3, count: int = 4) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, channels), dtype=np.uint8)


def make(steps: object, side: int = 16, channels: int = 3) -> Augment:
    augment = build_augment(steps, seed=1, image_size=side, in_channels=channels)
    assert augment is not None
    return augment


def keys(count: int) -> list[tuple[int, int]]:
    return [(index, 0) for index in range(count)]


def test_a_policy_needs_its_file_only_once(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(POLICY)
    steps = resolve_policy(str(file))
    augment = make(str(file))
    file.unlink()
    assert augment.policy == steps == yaml.safe_load(POLICY) == resolve_policy(steps)
    assert np.array_equal(augment(noise(), keys(4)), make(steps)(noise(), keys(4)))


def test_steps_do_what_they_say() -> None:
    images = noise()
    steps = [{"HorizontalFlip": {"p": 1}}, {"Sequential": {"transforms": [{"InvertImg": {"p": 1.0}}], "p": 1.0}}]
    assert np.array_equal(make(steps)(images, keys(4)), 255 - images[:, :, ::-1])
    assert np.array_equal(make([{"VerticalFlip": {"p": 0}}])(images, keys(4)), images)
    either = {"OneOf": {"transforms": [{"VerticalFlip": {"p": 1}}, {"HorizontalFlip": {"p": 3 / 9}}], "p": 1}}
    results = make([either])(np.repeat(images[:1], 400, axis=0), keys(400))
    vertical = sum(np.array_equal(result, images[0, ::-1]) for result in results)
    assert sum(np.array_equal(result, images[0, :, ::-1]) for result in results) == 400 - vertical
    assert 250 < vertical < 350  # three of four


@pytest.mark.parametrize("policy", ["flip_crop", "affine", "color", "strong", "imagenet"])
@pytest.mark.parametrize("channels", [1, 3])
def test_named_policies_can_be_written_in_yaml(policy: str, channels: int) -> None:
    steps = named_steps(policy, image_size=16, in_channels=channels, mirror=True)
    written = yaml.safe_load(yaml.safe_dump(steps))
    named = AlbumentationsAugment(policy, seed=1, image_size=16, in_channels=channels)
    assert repr(build_compose(written)) == repr(named.compose)
    images = noise(channels=channels)
    assert np.array_equal(make(written, channels=channels)(images, keys(4)), named(images, keys(4)))


WRONG = {
    "transform": (["HorizontalFlop"], "unknown transform 'HorizontalFlop': did you mean 'HorizontalFlip'? "),
    "empty": ([], "the augmentation policy has no steps: use none to change nothing"),
    "normalize": (["Normalize"], "Normalize cannot be a step: images stay uint8, and are normalised on the device"),
    "tensor": ([{"ToTensorV2": {}}], "ToTensorV2 cannot be a step: images stay uint8"),
    "argument": (
        [{"HorizontalFlip": {"prob": 0.5}}],
        "unknown argument of HorizontalFlip 'prob': did you mean 'p'? choose from p",
    ),
    "old argument": ([{"CoarseDropout": {"num_holes": 2}}], "unknown argument of CoarseDropout 'num_holes': did you"),
    "value": ([{"HorizontalFlip": {"p": 2}}], "HorizontalFlip: p: Input should be less than or equal to 1, not 2"),
    "kind": ([{"RandomCrop": {"height": "a", "width": 3}}], "RandomCrop: height: Input should be a valid integer"),
    "missing": ([{"RandomCrop": {"height": 3}}], "RandomCrop: width: Field required"),
    "indentation": ([{"HorizontalFlip": None, "p": 0.5}], "a step must be a name or 'Name: {argument: value}', not {"),
    "number": ([3], "a step must be a name or 'Name: {argument: value}', not 3"),
    "no mapping": ([{"Rotate": 30}], "a step must be a name or 'Name: {argument: value}', not {'Rotate': 30}"),
    "object": ([{"Rotate": {"limit": np.float64}}], "a policy holds names, numbers, lists and mappings alone, not"),
    "in group": ([{"OneOf": {"transforms": ["Blurr"]}}], "unknown transform 'Blurr': did you mean 'Blur'?"),
    "no group": ([{"OneOf": {"p": 1}}], "OneOf needs a list of transforms, not None"),
    "chance of group": ([{"OneOf": {"transforms": ["Blur"], "p": 7}}], "OneOf: p must lie between 0 and 1, not 7"),
    "too many": ([{"SomeOf": {"transforms": ["Blur"], "n": 2}}], "SomeOf: `n` is greater than number of transforms"),
    "three-dimensional": (["Pad3D"], "unknown transform 'Pad3D': did you mean 'Pad'?"),
}


@pytest.mark.parametrize("case", WRONG)
def test_mistakes_in_a_list_are_one_line_each(case: str) -> None:
    """REQ-A5: an unknown or outdated argument, of which albumentations only warns, is an error."""
    steps, message = WRONG[case]
    with pytest.raises(ValueError) as caught:
        resolve_policy(steps)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


UNFIT = {
    "too large": ([{"RandomCrop": {"height": 20, "width": 20}}], 3, "RandomCrop fails on an image of 16x16x3: "),
    "colour alone": (["PlanckianJitter"], 1, "PlanckianJitter fails on an image of 16x16x1: "),
    "channels": (["ToRGB"], 1, "ToRGB turns uint8 16x16x1 into uint8 16x16x3: the type and the channels must stay"),
    "other images": (["FDA"], 3, "FDA fails on an image of 16x16x3: FDA requires ['fda_metadata']"),
    "boxes": ([{"BBoxSafeRandomCrop": {}}], 3, "BBoxSafeRandomCrop fails on an image of 16x16x3: "),
    "seldom": (
        [{"SomeOf": {"transforms": ["Blur", {"OneOf": {"transforms": ["Blur", {"ToRGB": {"p": 0.01}}]}}], "p": 0.01}}],
        1,
        "ToRGB turns uint8 16x16x1",
    ),
}


@pytest.mark.parametrize("case", UNFIT)
def test_a_policy_is_tried_on_an_image_before_training(case: str) -> None:
    steps, channels, message = UNFIT[case]
    assert resolve_policy(steps) == steps  # in itself it is right
    with pytest.raises(ValueError) as caught:
        make(steps, channels=channels)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_mistakes_in_a_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^augment 'nothing\.yaml': there is no such file$"):
        resolve_policy("nothing.yaml")
    file = tmp_path / "mine.yml"
    for text, message in (
        ("- {HorizontalFlip", f"{file} is not valid YAML: "),
        ("augment: strong", f"{file} must hold a list of transforms, '- HorizontalFlip: {{p: 0.5}}', not {{'augment'"),
        ("", f"{file} must hold a list of transforms"),
        ("[]", f"{file}: the augmentation policy has no steps"),
        ("- HorizontalFlop", f"{file}: unknown transform 'HorizontalFlop'"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError) as caught:
            resolve_policy(str(file))
        assert str(caught.value).startswith(message)
        assert "\n" not in str(caught.value)


def test_results_of_another_size_are_resized_as_images_from_files_are() -> None:
    images = noise()
    results = make([{"Crop": {"x_min": 2, "y_min": 4, "x_max": 12, "y_max": 10, "p": 1.0}}])(images, keys(4))
    expected = resize_batch(torch.from_numpy(images[:, 4:10, 2:12].copy()), 16)
    assert np.array_equal(results, expected.numpy())


@pytest.mark.parametrize(
    "policy",
    [
        "imagenet",
        [{"SmallestMaxSize": {"max_size": 20}}, {"RandomCrop": {"height": 16, "width": 16}}],
        [{"Sequential": {"transforms": [{"Resize": {"height": 16, "width": 16}}], "p": 1.0}}],
    ],
)
def test_policies_that_choose_the_size_take_whole_images(policy: object) -> None:
    generator = np.random.default_rng(0)
    shapes = [(40, 30, 3), (21, 64, 3), (16, 16, 3), (300, 200, 3)]
    images = [generator.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
    augment = make(policy)
    together = augment(images, keys(4))
    assert augment.whole
    assert together.shape == (4, 16, 16, 3)
    assert np.array_equal(augment(images[2:3], [(2, 0)])[0], together[2])
    assert not make(["HorizontalFlip", {"RandomCrop": {"height": 8, "width": 8}}]).whole


def test_every_transform_is_a_function_of_the_key() -> None:
    import albumentations as library

    bases = (library.ImageOnlyTransform, library.DualTransform)
    kinds = [name for name, kind in vars(library).items() if inspect.isclass(kind) and issubclass(kind, bases)]
    images, used = noise(24), 0
    for name in kinds:
        try:
            first, second = (make([{name: {"p": 1.0}}], side=24) for _ in range(2))
        except ValueError:
            continue  # needs arguments, boxes, masks or other images
        used += 1
        states = np.random.get_state()[1].tobytes(), torch.get_rng_state().tolist(), random.getstate()
        together = first(images, keys(4))
        assert (np.random.get_state()[1].tobytes(), torch.get_rng_state().tolist(), random.getstate()) == states, name
        alone = [second(images[index : index + 1], [(index, 0)])[0] for index in (3, 1, 2, 0)]
        assert np.array_equal(together[[3, 1, 2, 0]], alone), name
        assert np.array_equal(images, noise(24)), name
    assert used > 75
