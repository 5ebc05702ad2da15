"""Resizing and normalising of batches."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from torchvision.transforms import v2

from zoo.datamodules.batch import (
    Sizing,
    for_channels,
    normalize_batch,
    permute_pixels,
    prepare_batch,
    resize_batch,
    squares,
)


def noise(height: int, width: int, channels: int = 1, count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, height, width, channels), dtype=torch.uint8, generator=generator)


def test_no_change_is_no_copy() -> None:
    images = noise(28, 28)
    assert resize_batch(images, 28) is images


def test_padding_centres_on_black() -> None:
    images = noise(28, 28).numpy()
    result = Sizing(32, 2).finish(images)
    assert np.array_equal(result[:, 2:30, 2:30], images)
    assert int(result.sum()) == int(images.sum())


def sized(images: torch.Tensor, sizing: Sizing) -> npt.NDArray[np.uint8]:
    """What evaluation sees of images (N, H, W, C)."""
    return sizing.finish(squares([*images.numpy()], sizing.side, sizing.interpolation))


@pytest.mark.parametrize("crop", [1.0, 0.5])
def test_a_large_image_gets_the_border_too(crop: float) -> None:
    images = noise(64, 90)
    result = sized(images, Sizing(32, 2, crop))
    assert np.array_equal(result[:, 2:30, 2:30], sized(images, Sizing(28, crop=crop)))
    assert int(result.sum()) == int(result[:, 2:30, 2:30].sum())


def test_a_crop_is_the_centre_of_a_larger_square() -> None:
    images = noise(32, 32, 3)
    assert Sizing(28, crop=0.875).side == 32
    assert np.array_equal(sized(images, Sizing(28, crop=0.875)), images[:, 2:30, 2:30])
    assert Sizing(32, 2, crop=0.875).side == 32, "the border is not part of what is resized"
    images = noise(33, 33)
    assert np.array_equal(sized(images, Sizing(28, crop=28 / 33)), images[:, 2:30, 2:30])


def photograph(height: int, width: int) -> torch.Tensor:
    """A smooth colour picture (1, H, W, 3) with every grey level: waves of some tens of pixels."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    waves = [torch.sin(x / (20 + 9 * k) + k) * torch.cos(y / (31 - 7 * k)) for k in range(3)]
    return (127.5 + 127.5 * torch.stack(waves, dim=-1)).round().to(torch.uint8)[None]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("height", "width"), [(300, 400), (450, 300), (90, 140), (256, 256), (99, 99)])
@pytest.mark.parametrize(("image_size", "crop"), [(224, 0.875), (96, 1.0), (64, 0.95)])
def test_sizing_agrees_with_torchvision(
    height: int, width: int, interpolation: str, image_size: int, crop: float
) -> None:
    # Of these shapes the resized picture has as many pixels here, where they are rounded, as there, where they are cut.
    image = photograph(height, width)
    result = torch.from_numpy(sized(image, Sizing(image_size, crop=crop, interpolation=interpolation))).int()
    mode = v2.InterpolationMode(interpolation)
    resized = v2.Resize(round(image_size / crop), interpolation=mode, antialias=True)(image.permute(0, 3, 1, 2))
    expected = v2.CenterCrop(image_size)(resized).permute(0, 2, 3, 1).int()
    if height != width:
        # What is cut off the longer side is rounded in two steps here: our window may lie a pixel beside theirs.
        wider = v2.CenterCrop([image_size + 2 * (height > width), image_size + 2 * (width > height)])(resized)
        longer = 1 if height > width else 2
        windows = [wider.permute(0, 2, 3, 1).narrow(longer, start, image_size).int() for start in range(3)]
        expected = min(windows, key=lambda window: int((result - window).abs().sum()))
    assert (result - expected).abs().max() <= 1
    assert result.float().std() > 40


def test_bicubic_is_another_picture_and_stays_within_the_grey_levels() -> None:
    edge = torch.zeros(1, 20, 20, 1, dtype=torch.uint8)
    edge[:, :, 10:] = 255
    linear, cubic = (sized(edge, Sizing(40, interpolation=name)) for name in ("bilinear", "bicubic"))
    exact = F.interpolate(edge.permute(0, 3, 1, 2).double(), size=40, mode="bicubic", antialias=True)
    assert exact.max() > 270, "it overshoots"
    assert abs(cubic[..., 0] - exact[:, 0].clamp(0, 255).numpy()).max() <= 1
    assert not np.array_equal(linear, cubic)


def test_mean_and_deviation_for_other_channels() -> None:
    assert for_channels([0.1, 0.2, 0.6], 1) == pytest.approx((0.3,))
    assert for_channels([0.1], 3) == (0.1, 0.1, 0.1)
    assert for_channels([0.1, 0.2, 0.6], 3) == (0.1, 0.2, 0.6)


@pytest.mark.parametrize("size", [32, 40, 16])
def test_other_sizes_are_interpolated(size: int) -> None:
    images = noise(28, 28, 3)
    result = resize_batch(images, size)
    assert (result.dtype, result.shape) == (torch.uint8, (3, size, size, 3))
    assert result.is_contiguous()
    exact = F.interpolate(images.permute(0, 3, 1, 2).double(), size=size, mode="bilinear", antialias=True)
    assert (result.permute(0, 3, 1, 2) - exact).abs().max() < 1.01  # it rounds twice


def test_shrinking_agrees_with_pillow() -> None:
    images = noise(64, 64, 3)
    result = resize_batch(images, 20)
    for image, small in zip(images, result, strict=True):
        expected = Image.fromarray(image.numpy()).resize((20, 20), Image.Resampling.BILINEAR)
        assert abs(torch.tensor(list(expected.tobytes())).view(20, 20, 3) - small.int()).max() <= 1


def test_an_image_alone_equals_the_image_in_its_batch() -> None:
    images = noise(30, 30, 3, count=5)
    alone = torch.cat([resize_batch(image[None], 17) for image in images])
    assert torch.equal(alone, resize_batch(images, 17))


@pytest.mark.parametrize(("height", "width"), [(20, 40), (40, 20), (33, 35), (1, 1000), (50, 1)])
def test_oblong_images_are_cut_in_the_centre(height: int, width: int) -> None:
    result = resize_batch(noise(height, width, 3), 20)
    assert result.shape == (3, 20, 20, 3)
    if (height, width) == (20, 40):
        assert torch.equal(result, noise(20, 40, 3)[:, :, 10:30])


def test_normalisation() -> None:
    """REQ-A5: there must be as many means as channels."""
    images = noise(4, 4, 3)
    result = normalize_batch(images, (0.1, 0.2, 0.3), [0.5, 0.6, 0.7])
    assert result.is_contiguous(memory_format=torch.channels_last)
    for channel, (mean, std) in enumerate(((0.1, 0.5), (0.2, 0.6), (0.3, 0.7))):
        torch.testing.assert_close(result[:, channel], (images[..., channel] / 255 - mean) / std)
    with pytest.raises(ValueError, match=r"^images of 3 channels need as many means, not 1 and 1$"):
        normalize_batch(images, (0.1,), (0.5,))


def test_other_batches_pass_through() -> None:
    for batch in (torch.zeros(2, 3), (torch.zeros(2, 1, 4, 4), torch.zeros(2)), {"image": 1}, [1, 2, 3]):
        assert prepare_batch(batch, {"mean": (0.0,), "std": (1.0,)}) is batch


def test_permutation_moves_pixels_the_same_way_in_every_image_and_channel() -> None:
    images = torch.arange(2 * 3 * 20.0).view(2, 3, 4, 5)
    result = permute_pixels(images, seed=1)
    order = result[0, 0].flatten().long()
    assert sorted(order.tolist()) == list(range(20)) != order.tolist()
    assert torch.equal(result.flatten(2), images.flatten(2)[:, :, order])
    assert torch.equal(result, permute_pixels(images, seed=1))
    assert not torch.equal(result, permute_pixels(images, seed=2))
