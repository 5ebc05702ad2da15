"""Resizing and normalising of batches."""

import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from zoo.datamodules.batch import normalize_batch, permute_pixels, prepare_batch, resize_batch


def noise(height: int, width: int, channels: int = 1, count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, height, width, channels), dtype=torch.uint8, generator=generator)


def test_no_change_is_no_copy() -> None:
    images = noise(28, 28)
    assert resize_batch(images, 28) is images


def test_padding_centres_on_black() -> None:
    images = noise(28, 28)
    result = resize_batch(images, 32, 2)
    assert torch.equal(result[:, 2:30, 2:30], images)
    assert int(result.sum()) == int(images.sum())


def test_a_large_image_gets_the_border_too() -> None:
    images = noise(64, 90)
    result = resize_batch(images, 32, 2)
    assert torch.equal(result[:, 2:30, 2:30], resize_batch(images, 28))
    assert int(result.sum()) == int(result[:, 2:30, 2:30].sum())


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
