"""Corrupted images: the published strengths, against OpenCV, scipy and the definitions."""

import itertools
from math import sqrt
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from zoo.benchmarks import distort
from zoo.benchmarks.corruptions import CORRUPTIONS, SEVERITIES, corrupt

Images = npt.NDArray[Any]


@pytest.fixture(scope="module")
def photographs() -> npt.NDArray[np.uint8]:
    """Smooth colour images with an edge: (8, 32, 32, 3)."""
    random = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(random.normal(size=(8, 32, 32, 3)), (0, 3, 3, 0))
    smooth[:, 8:20, 10:25] += 0.15
    low, high = smooth.min(), smooth.max()
    return np.rint(255 * (smooth - low) / (high - low)).astype(np.uint8)


GROW = sorted(set(CORRUPTIONS) - {"glass_blur", "elastic"})  # the published severities of these two change in kind


@pytest.mark.parametrize("name", GROW)
def test_severities_grow(name: str, photographs: npt.NDArray[np.uint8]) -> None:
    before = photographs.astype(float)
    changed = [corrupt(photographs, name, severity, np.random.default_rng(3)) for severity in SEVERITIES]
    changes = [float(np.abs(after - before).mean()) for after in changed]
    # A trail that ImageMagick cuts off later, at the same deviation, is no longer for it.
    assert all(more > less * 0.97 for less, more in itertools.pairwise(changes))
    assert changes[4] > 1.5 * changes[0] > 0


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize(("side", "channels"), [(8, 1), (28, 1), (33, 3)])
def test_images_of_other_sizes(name: str, side: int, channels: int) -> None:
    images = np.random.default_rng(1).integers(0, 256, (3, side, side, channels), dtype=np.uint8)
    original = images.copy()
    changed = corrupt(images, name, 5, np.random.default_rng(2))
    assert (changed.shape, changed.dtype) == (images.shape, np.uint8)
    assert (images == original).all()
    assert (changed != images).any()
    assert (changed == corrupt(images, name, 5, np.random.default_rng(2))).all()


def test_noise_has_its_published_size() -> None:
    grey = np.full((20, 32, 32, 3), 128, dtype=np.uint8)
    random = np.random.default_rng(0)
    assert corrupt(grey, "gaussian_noise", 3, random).std() / 255 == pytest.approx(0.08, rel=0.02)
    # n photons on average have a deviation of sqrt(n)
    assert corrupt(grey, "shot_noise", 5, random).std() / 255 == pytest.approx(sqrt(128 / 255 / 50), rel=0.02)
    speckled = corrupt(grey, "impulse_noise", 5, random)
    assert [(speckled == value).mean() for value in (0, 255)] == pytest.approx([0.035, 0.035], rel=0.1)
    assert set(np.unique(speckled)) == {0, 128, 255}


def as_floats(images: Images) -> npt.NDArray[np.float32]:
    return images.astype(np.float32) / np.float32(255)


@pytest.mark.parametrize(("radius", "sigma"), CORRUPTIONS["defocus_blur"].levels)
def test_defocus_equals_opencv(photographs: Images, radius: float, sigma: float) -> None:
    reach = np.arange(-8, 9)
    disk = ((reach[:, None] ** 2 + reach**2) <= radius**2).astype(np.float32)
    kernel = cv2.GaussianBlur(disk / disk.sum(), (3, 3), sigmaX=sigma)
    images = as_floats(photographs)
    expected = np.stack([cv2.filter2D(image, -1, kernel) for image in images])
    np.testing.assert_allclose(distort.blur_disk(images, radius, sigma), expected, atol=2e-5)


@pytest.mark.parametrize("factor", [1.0, 1.03, 1.11, 1.2, 1.25])
def test_zoom_equals_scipy(photographs: Images, factor: float) -> None:
    images = as_floats(photographs)
    kept = int(np.ceil(32 / factor))
    start = (32 - kept) // 2
    cut = images[:, start : start + kept, start : start + kept]
    grown = ndimage.zoom(cut, (1, factor, factor, 1), order=1)
    trim = (grown.shape[1] - 32) // 2
    expected = grown[:, trim : trim + 32, trim : trim + 32]
    np.testing.assert_allclose(distort.both_ways(images, distort.enlarging(32, factor)), expected, atol=1e-5)


def test_sampling_equals_scipy(photographs: Images) -> None:
    image = as_floats(photographs)[:1, :, :, :1]
    rows, columns = np.random.default_rng(0).uniform(-12, 44, size=(2, 1, 32, 32))
    expected = ndimage.map_coordinates(image[0, ..., 0], [rows[0], columns[0]], order=1, mode="mirror")
    np.testing.assert_allclose(distort.sample(image, rows, columns)[0, ..., 0], expected, atol=1e-5)


def test_motion_is_a_trail_to_one_side() -> None:
    dot = np.zeros((3, 21, 21, 1), dtype=np.float32)
    dot[:, 10, 10] = 1
    trail = distort.blur_motion(dot, 6, 2.0, np.array([0.0, 45.0, -45.0]))[..., 0]
    weights = np.exp(-(np.arange(13.0) ** 2) / 8)
    weights /= weights.sum()
    np.testing.assert_allclose(trail[0, 10, 10::-1], weights[:11], atol=1e-6)
    assert trail[0].sum() == pytest.approx(weights[:11].sum())  # nothing beside the line
    assert (np.nonzero(trail[1])[0] == np.nonzero(trail[1])[1]).all()  # down to the right
    assert (np.nonzero(trail[2])[0] + np.nonzero(trail[2])[1] == 20).all()


def test_brightness_and_contrast_by_definition(photographs: Images) -> None:
    random = np.random.default_rng(0)
    hsv = cv2.cvtColor(as_floats(photographs)[0], cv2.COLOR_RGB2HSV)
    hsv[..., 2] = np.minimum(hsv[..., 2] + 0.15, 1)
    expected = 255 * cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    assert np.abs(corrupt(photographs, "brightness", 3, random)[0] - expected).max() < 1
    assert (corrupt(np.zeros((1, 4, 4, 3), np.uint8), "brightness", 2, random) == 26).all()  # black becomes grey
    faint = corrupt(photographs, "contrast", 5, random)
    assert faint.std(axis=(1, 2)) == pytest.approx(0.15 * photographs.std(axis=(1, 2)), rel=0.1)
    assert faint.mean(axis=(1, 2)) == pytest.approx(photographs.mean(axis=(1, 2)), abs=0.1)


def test_clouds_are_smooth_and_differ() -> None:
    clouds = distort.plasma(5, 28, 3.0, np.random.default_rng(0))
    assert clouds.shape == (5, 28, 28, 1)
    assert 0 <= clouds.min() < clouds.max() <= 1
    assert np.abs(np.diff(clouds, axis=1)).mean() < 0.1 < np.abs(clouds[0] - clouds[1]).mean()


def test_glass_only_moves_pixels() -> None:
    places = np.arange(16 * 16, dtype=np.float32).reshape(1, 16, 16, 1)
    moved = distort.shuffle_glass(places, 1, np.random.default_rng(0))[0, ..., 0].astype(int)
    rows, columns = np.indices((16, 16))
    assert set(zip((rows - moved // 16).flat, (columns - moved % 16).flat, strict=True)) == {
        (down, right) for down in (0, 1) for right in (0, 1)
    }


def test_without_strength_elastic_moves_nothing(photographs: Images) -> None:
    images = as_floats(photographs)
    random = np.random.default_rng(0)
    still = distort.warp_elastic(distort.warp_affine(images, 0.0, random), 0.0, 0.0, random)
    np.testing.assert_allclose(still, images, atol=1e-5)


def test_affine_brings_three_points_where_they_were_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Images] = []
    monkeypatch.setattr(distort, "sample", lambda images, rows, columns: asked.extend([rows, columns]))
    distort.warp_affine(np.zeros((2, 30, 30, 1), np.float32), 4.0, np.random.default_rng(5))
    points = np.array([[25, 25], [25, 5], [5, 5]])
    moved = points + np.random.default_rng(5).uniform(-4, 4, size=(2, 3, 2))
    # An affine map is known everywhere by three of its values.
    rows, columns = asked
    for image in range(2):
        origin = np.array([rows[image, 0, 0], columns[image, 0, 0]])
        down = np.array([rows[image, 1, 0], columns[image, 1, 0]]) - origin
        right = np.array([rows[image, 0, 1], columns[image, 0, 1]]) - origin
        fetched = [origin + point[0] * down + point[1] * right for point in moved[image]]
        np.testing.assert_allclose(fetched, points, atol=1e-9)
