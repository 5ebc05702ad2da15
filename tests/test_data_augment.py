"""Augmentation: documented limits, one random stream per image, and numbers computed another way."""

import warnings

import numpy as np
import pytest

from zoo.datamodules.augment import POLICIES, Augment, _build, build_augment

CHANGING = [name for name in POLICIES if name != "none"]


def noise(side: int = 16, channels: int = 3, count: int = 4) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, channels), dtype=np.uint8)


def make(policy: str, side: int = 16, channels: int = 3, **options: object) -> Augment:
    return Augment(policy, seed=1, image_size=side, in_channels=channels, **options)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 33])
@pytest.mark.parametrize("policy", CHANGING)
def test_every_policy_keeps_shape_and_type_and_input(policy: str, side: int, channels: int) -> None:
    images = noise(side, channels)
    before = images.copy()
    result = make(policy, side, channels)(images, [(index, 0) for index in range(4)])
    assert (result.shape, result.dtype) == (images.shape, np.uint8)
    assert np.array_equal(images, before)
    assert not np.array_equal(result, before)


@pytest.mark.parametrize("policy", CHANGING)
def test_result_depends_on_seed_epoch_and_index_alone(policy: str) -> None:
    image = noise(count=1)

    def stream(seed: int, epoch: int) -> list[bytes]:
        augment = Augment(policy, seed=seed, image_size=16, in_channels=3)
        return [augment(image, [(index, epoch)]).tobytes() for index in range(9)]

    first = stream(seed=1, epoch=0)
    together = make(policy)(np.repeat(image, 9, axis=0), [(index, 0) for index in reversed(range(9))])
    assert [one.tobytes() for one in together[::-1]] == first == stream(seed=1, epoch=0)
    assert len({*first}) > 5
    for other in (stream(seed=1, epoch=1), stream(seed=2, epoch=0)):
        assert sum(one != two for one, two in zip(first, other, strict=True)) > 5


def test_none_is_no_callable() -> None:
    assert build_augment("none", seed=0, image_size=8, in_channels=1) is None


def test_flip_crop_is_a_shifted_and_perhaps_mirrored_window_on_black() -> None:
    image = noise(16)[0]
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)))
    windows = {padded[y : y + 16, x : x + 16].tobytes(): (y, x, 0) for y in range(5) for x in range(5)}
    mirrored = {padded[y : y + 16, x : x + 16][:, ::-1].tobytes(): (y, x, 1) for y in range(5) for x in range(5)}
    results = make("flip_crop")(np.repeat(image[None], 200, axis=0), [(index, 0) for index in range(200)])
    seen = {(windows | mirrored)[result.tobytes()] for result in results}
    assert len(seen) > 40


@pytest.mark.parametrize("policy", ["flip_crop", "strong", "imagenet"])
def test_digits_are_never_mirrored(policy: str) -> None:
    kinds = [type(step).__name__ for step in _build(policy, 16, 1, mirror=False).transforms]
    assert "HorizontalFlip" not in kinds
    assert "HorizontalFlip" in [type(step).__name__ for step in _build(policy, 16, 1, mirror=True).transforms]


def test_affine_is_mild_and_fills_with_black() -> None:
    images = np.zeros((100, 32, 32, 1), np.uint8)
    images[:, 12:20, 12:20] = 255
    results = make("affine", 32, 1)(images, [(index, 0) for index in range(100)])
    ink = results.reshape(100, -1).sum(1) / images[0].sum()
    assert 0.75 < ink.min() < 1 < ink.max() < 1.3
    assert results[:, :4].max() == results[:, -4:].max() == 0
    white = np.full((20, 16, 16, 1), 255, np.uint8)
    assert make("affine", 16, 1)(white, [(index, 0) for index in range(20)]).min() == 0


def test_color_on_grey_keeps_the_order_of_values() -> None:
    ramp = np.arange(64, 192, 2, dtype=np.uint8).reshape(1, 8, 8, 1)
    for index in range(20):
        result = make("color", 8, 1)(ramp, [(index, 0)])[0].ravel().astype(int)
        assert (np.diff(result) >= 0).all()


def test_unknown_argument_of_a_transform_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import albumentations

    monkeypatch.setattr(
        albumentations, "HorizontalFlip", lambda p: warnings.warn("Argument(s) not valid", stacklevel=1)
    )
    with pytest.raises(UserWarning, match="not valid"):
        _build("flip_crop", 16, 3, mirror=True)
