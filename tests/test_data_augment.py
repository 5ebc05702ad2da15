"""Augmentation: documented limits, one random stream per image, and numbers computed another way."""

import itertools
import pickle
import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from zoo.datamodules import fast
from zoo.datamodules.augment import POLICIES, AlbumentationsAugment, Augment, TorchvisionAugment, build_augment
from zoo.datamodules.random_keys import bits, open_streams, uniform

CHANGING = [name for name in POLICIES if name != "none"]
TORCHVISION = ["randaugment", "trivialaugment", "autoaugment", "augmix"]


def noise(side: int = 16, channels: int = 3, count: int = 4) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, channels), dtype=np.uint8)


def make(policy: str, side: int = 16, channels: int = 3, *, seed: int = 1, mirror: bool = True) -> Augment:
    augment = build_augment(policy, seed=seed, image_size=side, in_channels=channels, mirror=mirror)
    assert augment is not None
    return augment


def make_slow(policy: str, side: int = 16, channels: int = 3, **options: Any) -> Augment:
    return AlbumentationsAugment(policy, image_size=side, in_channels=channels, **{"seed": 1, **options})


def keys(count: int, epoch: int = 0) -> list[tuple[int, int]]:
    return [(index, epoch) for index in range(count)]


def global_states() -> tuple[Any, ...]:
    name, words, *rest = np.random.get_state()
    return torch.get_rng_state().numpy().tobytes(), name, words.tobytes(), rest, random.getstate()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 33])
@pytest.mark.parametrize("policy", CHANGING)
def test_every_policy_keeps_shape_type_input_and_global_random_state(policy: str, side: int, channels: int) -> None:
    augment = make(policy, side, channels)
    images = noise(side, channels)
    before, states = images.copy(), global_states()
    result = augment(images, keys(4))
    assert global_states() == states
    assert (result.shape, result.dtype) == (images.shape, np.uint8)
    assert np.array_equal(images, before)
    assert not np.array_equal(result, before)
    assert augment.policy == policy
    assert augment.whole is (policy == "imagenet")


@pytest.mark.parametrize(
    ("build", "policy"), [*((make, name) for name in CHANGING), (make_slow, "flip_crop"), (make_slow, "affine")]
)
def test_result_depends_on_seed_epoch_and_index_alone(build: Any, policy: str) -> None:
    image = noise(count=1)

    def stream(augment: Augment, epoch: int) -> list[bytes]:
        return [augment(image, [(index, epoch)]).tobytes() for index in range(9)]

    augment = build(policy)
    first = stream(augment, epoch=0)
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    together = augment(np.repeat(image, 9, axis=0), keys(9)[::-1])
    assert [one.tobytes() for one in together[::-1]] == first
    assert stream(pickle.loads(pickle.dumps(augment)), epoch=0) == first == stream(build(policy), epoch=0)
    assert len({*first}) > 5
    for other in (stream(augment, epoch=1), stream(build(policy, seed=2), epoch=0)):
        assert sum(one != two for one, two in zip(first, other, strict=True)) > 5


@pytest.mark.parametrize("policy", ["flip_crop", "affine"])
def test_no_rounding_depends_on_the_size_of_the_batch(policy: str) -> None:
    images = noise(28, 1, count=500)
    augment = make(policy, 28, 1)
    together = augment(images, keys(500))
    assert all(np.array_equal(augment(images[i : i + 1], [(i, 0)])[0], together[i]) for i in range(500))


def test_none_is_no_callable_and_unknown_names_are_errors() -> None:
    assert build_augment("none", seed=0, image_size=8, in_channels=1) is None
    with pytest.raises(ValueError, match=r"^unknown augment 'randaug': did you mean 'randaugment'\?.*\.yaml file"):
        make("randaug")


def test_importing_is_cheap() -> None:
    heavy = "[m for m in ('torch', 'torchvision', 'albumentations', 'cv2', 'yaml', 'scipy') if m in sys.modules]"
    code = f"import sys; from zoo.datamodules.augment import resolve_policy; resolve_policy('strong'); print({heavy})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_streams_are_all_different() -> None:
    seeds, epochs, indices = (0, 1, 2, 2**32 - 1), range(50), range(100)
    starts = [open_streams(seed, list(itertools.product(indices, epochs))) for seed in seeds]
    assert len(np.unique(np.concatenate(starts))) == 4 * 50 * 100
    assert len(np.unique(bits(starts[0], 8))) == 50 * 100 * 8


def test_numbers_are_those_of_splitmix64() -> None:
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]  # from 0; widely published
    assert bits(np.zeros(1, np.uint64), 3)[0].tolist() == expected


@pytest.mark.parametrize("along", ["index", "epoch", "seed", "place"])
def test_random_numbers_are_uniform_and_neighbours_independent(along: str) -> None:
    count = 20_000
    if along == "index":
        numbers = uniform(open_streams(3, keys(count)), 1)[:, 0]
    elif along == "epoch":
        numbers = uniform(open_streams(3, [(7, epoch) for epoch in range(count)]), 1)[:, 0]
    elif along == "seed":
        numbers = np.concatenate([uniform(open_streams(seed, [(7, 0)]), 1)[0] for seed in range(count)])
    else:
        numbers = uniform(open_streams(3, [(7, 0)]), count)[0]
    assert 0 <= numbers.min() < numbers.max() < 1
    cells = (numbers * 16).astype(int)
    assert stats.chisquare(np.bincount(cells, minlength=16)).pvalue > 0.001
    assert stats.chisquare(np.bincount(cells[:-1] * 16 + cells[1:], minlength=256)).pvalue > 0.001


@pytest.mark.parametrize("build", [make, make_slow])
def test_flip_crop_is_each_window_equally_often_and_half_mirrored(build: Any) -> None:
    image = noise(16)[0]
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)))
    windows = {}
    for y, x in itertools.product(range(5), range(5)):
        window = padded[y : y + 16, x : x + 16]
        windows[window.tobytes()], windows[window[:, ::-1].tobytes()] = (y, x, 0), (y, x, 1)
    results = build("flip_crop")(np.repeat(image[None], 5000, axis=0), keys(5000))
    seen = [windows[result.tobytes()] for result in results]
    counts = [seen.count(place) for place in windows.values()]
    assert stats.chisquare(counts).pvalue > 0.001
    unmirrored = build("flip_crop", mirror=False)(np.repeat(image[None], 500, axis=0), keys(500))
    assert {windows[result.tobytes()][2] for result in unmirrored} == {0}


@pytest.mark.parametrize("mirror", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 17, 32])
def test_fast_flip_crop_equals_albumentations_with_the_same_draws(side: int, channels: int, mirror: bool) -> None:
    """REQ-A2: the policy can do without albumentations, and gives the same pixels."""
    import albumentations as A

    images = noise(side, channels, count=60)
    crops = fast.draw_crops(open_streams(1, keys(60)), side, mirror=mirror)
    assert crops.mirrored.any() == mirror
    results = make("flip_crop", side, channels, mirror=mirror)(images, keys(60))
    places = zip(crops.top, crops.left, crops.mirrored, strict=True)
    for image, result, (top, left, mirrored) in zip(images, results, places, strict=True):
        window = A.Crop(int(left), int(top), int(left) + side, int(top) + side, p=1)
        steps = [A.Pad(padding=max(1, side // 8), fill=0, p=1), window, A.HorizontalFlip(p=float(mirrored))]
        assert np.array_equal(result, A.Compose(steps)(image=image)["image"])


@pytest.mark.parametrize(("side", "channels"), [(8, 1), (28, 1), (33, 3)])
def test_fast_affine_equals_albumentations_with_the_same_draws(side: int, channels: int) -> None:
    import albumentations as A

    images = noise(side, channels, count=60)
    warps = fast.draw_warps(open_streams(1, keys(60)), side)
    expected = []
    for i, image in enumerate(images):
        both = {
            name: {"x": (float(x), float(x)), "y": (float(y), float(y))}
            for name, (x, y) in (("scale", warps.zoom[i]), ("shear", warps.shear[i]), ("translate_px", warps.shift[i]))
        }
        rotate = float(warps.rotation[i])
        expected.append(A.Affine(rotate=(rotate, rotate), **both, fill=0, p=1)(image=image)["image"])
    difference = np.abs(make("affine", side, channels)(images, keys(60)).astype(int) - np.stack(expected))
    assert difference.max() <= 3  # OpenCV before 5 rounds positions to 1/32 pixel
    assert difference.mean() < 0.5


def test_draws_of_affine_fill_their_ranges_evenly() -> None:
    warps = fast.draw_warps(open_streams(1, keys(20_000)), 28)
    for values, low, high in ((warps.rotation, -10, 10), (warps.zoom, 0.9, 1.1), (warps.shear, -5, 5)):
        for column in values.reshape(20_000, -1).T:
            counts, _ = np.histogram(column, bins=20, range=(low, high))
            assert counts.sum() == 20_000  # nothing lies outside
            assert stats.chisquare(counts).pvalue > 0.001
    # 8 % of 28 pixels is 2.24, and int() cuts towards zero.
    chances = np.array([0.24, 1, 2, 1, 0.24]) / 4.48
    for column in warps.shift.T:
        assert stats.chisquare(np.bincount(column.astype(int) + 2), 20_000 * chances).pvalue > 0.001
    assert (
        np.abs(np.corrcoef(np.column_stack([warps.rotation, warps.shift, warps.zoom, warps.shear]).T) - np.eye(7)).max()
        < 0.03
    )


@pytest.mark.parametrize("build", [make, make_slow])
def test_affine_is_mild_and_fills_with_black(build: Any) -> None:
    images = np.zeros((100, 32, 32, 1), np.uint8)
    images[:, 12:20, 12:20] = 255
    results = build("affine", 32, 1)(images, keys(100))
    ink = results.reshape(100, -1).sum(1) / images[0].sum()
    assert 0.75 < ink.min() < 1 < ink.max() < 1.3
    assert results[:, :4].max() == results[:, -4:].max() == 0
    assert build("affine", 16, 1)(np.full((20, 16, 16, 1), 255, np.uint8), keys(20)).min() == 0


@pytest.mark.parametrize("policy", ["strong", "imagenet"])
def test_digits_are_never_mirrored(policy: str) -> None:
    for mirror in (True, False):
        kinds = [type(step).__name__ for step in make(policy, 16, 1, mirror=mirror).compose.transforms]
        assert ("HorizontalFlip" in kinds) is mirror


def test_color_on_grey_keeps_the_order_of_values() -> None:
    ramp = np.arange(64, 192, 2, dtype=np.uint8).reshape(1, 8, 8, 1)
    for index in range(20):
        result = make("color", 8, 1)(ramp, [(index, 0)])[0].ravel().astype(int)
        assert (np.diff(result) >= 0).all()


@pytest.mark.parametrize("policy", TORCHVISION)
@pytest.mark.parametrize("mirror", [True, False])
def test_torchvision_policies_come_after_flip_crop(policy: str, mirror: bool) -> None:
    augment = make(policy, mirror=mirror)
    images = noise(count=50)
    assert isinstance(augment, TorchvisionAugment)
    augment.transform = lambda image: image
    assert np.array_equal(augment(images, keys(50)), make("flip_crop", mirror=mirror)(images, keys(50)))


def test_torchvision_policies_have_the_settings_of_the_papers() -> None:
    randaugment, augmix = make("randaugment").transform, make("augmix").transform
    assert (randaugment.num_ops, randaugment.magnitude, randaugment.num_magnitude_bins) == (2, 9, 31)
    assert (augmix.mixture_width, augmix.chain_depth, augmix.alpha) == (3, -1, 1.0)
    assert type(make("trivialaugment").transform).__name__ == "TrivialAugmentWide"
    for side, name in ((32, "CIFAR10"), (64, "CIFAR10"), (65, "IMAGENET"), (224, "IMAGENET")):
        assert make("autoaugment", side).transform.policy.name == name


def test_torch_keeps_its_random_state_when_a_change_fails() -> None:
    augment = make("randaugment")
    augment.transform = lambda image: torch.rand(2, 3) @ image
    states = global_states()
    with pytest.raises(RuntimeError):
        augment(noise(), keys(4))
    assert global_states() == states
