"""Convolutions of small images as matrix products: what `nn.Conv2d` gives, forward and backward."""

import itertools
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import zoo
from zoo.convolution import MANY_CHANNELS, Conv2d


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[torch.Size]]:
    """The shapes of the images that were convolved by a matrix product."""
    shapes: list[torch.Size] = []
    apply = zoo.convolution._Product.apply

    def note(images: Tensor, *rest: Any) -> Any:
        shapes.append(images.shape)
        return apply(images, *rest)

    monkeypatch.setattr("zoo.convolution._Product.apply", note)
    yield shapes


def results(layer: nn.Conv2d, images: Tensor) -> list[Tensor]:
    """The output, and gradients of the images and of all parameters."""
    images = images.detach().requires_grad_()
    output = layer(images)
    weights = torch.cos(torch.arange(output.numel(), dtype=torch.float64)).view(output.shape)
    wanted = [images, *layer.parameters()]
    return [output, *torch.autograd.grad((output.double() * weights).sum(), wanted)]


CASES = [
    (size, kernel, stride, padding, bias)
    for size, kernel, stride, padding, bias in itertools.product(
        ((1, 1), (2, 2), (3, 2), (4, 4), (5, 5)), (1, 2, 3, 5), (1, 2), (0, 1, 2), (False, True)
    )
    if min(size) + 2 * padding >= kernel
]


def test_any_kernel_stride_and_padding_gives_what_torch_gives(
    products: list[torch.Size], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.convolution.MANY_CHANNELS", 1)
    generator = torch.Generator().manual_seed(0)
    compared = 0
    for size, kernel, stride, padding, bias in CASES:
        layer = Conv2d(3, 4, kernel, stride, padding, bias=bias).double().to(memory_format=torch.channels_last)
        reference = nn.Conv2d(3, 4, kernel, stride, padding, bias=bias).double()
        reference.load_state_dict(layer.state_dict())
        for layout in (torch.channels_last, torch.contiguous_format):
            images = torch.randn(2, 3, *size, dtype=torch.float64, generator=generator).to(memory_format=layout)
            products.clear()
            ours = results(layer, images)
            compared += len(products)
            for found, expected in zip(ours, results(reference, images), strict=True):
                torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
            assert not products or ours[0].is_contiguous(memory_format=torch.channels_last)
    assert compared > len(CASES), "most of these have at most sixteen positions"


def test_gradients_of_gradients() -> None:
    layer = Conv2d(2, 3, 3, padding=1).double()
    images = torch.randn(2, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, images)
    assert torch.autograd.gradgradcheck(layer, images)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_under_mixed_precision_it_is_as_exact_as_torchs(size: int, products: list[torch.Size]) -> None:
    torch.manual_seed(0)
    layer = Conv2d(MANY_CHANNELS, 64, 3, padding=1).to(memory_format=torch.channels_last)
    torchs, exact = nn.Conv2d(MANY_CHANNELS, 64, 3, padding=1), nn.Conv2d(MANY_CHANNELS, 64, 3, padding=1).double()
    torchs.load_state_dict(layer.state_dict())
    exact.load_state_dict(layer.state_dict())
    images = torch.randn(16, MANY_CHANNELS, size, size)
    reference = results(exact, images.double())
    with torch.autocast("cpu", torch.bfloat16):
        ours = results(layer, images)
        assert products == [images.shape]
        theirs = results(torchs, images)
    assert ours[0].dtype == theirs[0].dtype == torch.bfloat16
    assert [found.dtype for found in ours[1:]] == [torch.float32] * 3
    for found, other, expected in zip(ours, theirs, reference, strict=True):
        error, usual = ((value.double() - expected).norm() / expected.norm() for value in (found, other))
        assert error < 2 * usual, (error, usual)


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({"padding": 1}, (2, 8, 8, 8)),
        ({"padding": 1}, (2, 8, 4, 4)),
        ({"padding": 1, "groups": 2}, (2, 8, 2, 2)),
        ({"padding": 2, "dilation": 2}, (2, 8, 2, 2)),
        ({"padding": "same"}, (2, 8, 2, 2)),
        ({"padding": 1, "padding_mode": "reflect"}, (2, 8, 2, 2)),
        ({"padding": 1}, (0, 8, 2, 2)),
        ({"padding": 1}, (8, 2, 2)),
    ],
)
def test_what_is_left_to_torch(options: dict[str, Any], shape: tuple[int, ...], products: list[torch.Size]) -> None:
    layer, images = Conv2d(8, 4, 3, **options), torch.randn(shape)
    reference = nn.Conv2d(8, 4, 3, **options)
    reference.load_state_dict(layer.state_dict())
    assert torch.equal(layer(images), reference(images))
    assert not products


def test_devices_and_tracers_get_torchs_convolution(products: list[torch.Size]) -> None:
    layer, images = Conv2d(8, 4, 3, padding=1), torch.randn(2, 8, 2, 2)
    assert Conv2d(8, 4, 3, padding=1, device="meta")(images.to("meta")).shape == (2, 4, 2, 2)
    graph = torch.export.export(layer, (images,)).graph
    assert "conv2d" in str([node.target for node in graph.nodes])
    assert torch.compile(layer, backend="eager")(images).shape == (2, 4, 2, 2)
    assert not products
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        traced = torch.jit.trace(layer, (images,))
    assert "aten::_convolution" in str(traced.graph)
    torch.testing.assert_close(traced(images[:1]), layer(images[:1]))
    products.clear()
    one_by_one = torch.func.vmap(torch.func.grad(lambda image: layer(image[None]).square().sum()))(images)
    assert not products
    images.requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(layer(images).square().sum(), images)[0], one_by_one)
    products.clear()
    layer(images)
    assert products == [images.shape]


@pytest.mark.parametrize("shape", [(2, 5, 2, 2), (2, 8, 1, 0)])
def test_wrong_images_get_torchs_message(shape: tuple[int, ...]) -> None:
    layer, reference = Conv2d(8, 4, 3), nn.Conv2d(8, 4, 3)
    with pytest.raises(RuntimeError) as expected:
        reference(torch.randn(shape))
    with pytest.raises(RuntimeError) as found:
        layer(torch.randn(shape))
    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize(("name", "number"), [("vgg11", 4), ("resnet18", 10), ("resnet20", 0)])
def test_networks_use_it_where_images_are_small(name: str, number: int, products: list[torch.Size]) -> None:
    """VGG-11 at 32 pixels: the last two pairs; ResNet-18: the second half, with its shortcuts; ResNet-20: nowhere."""
    model = zoo.create_model(name, image_size=32)
    model(torch.randn(2, model.in_channels, 32, 32))
    assert len(products) == number
