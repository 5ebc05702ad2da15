"""Layers and losses of our own: against the formula in the paper, and their gradients against finite differences."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import gradcheck

import zoo
from zoo.layers import Maxout, ScaledTanh, initialize, krizhevsky_lrn
from zoo.lenet import BITMAPS, C3_TABLE, EuclideanRBF, PartialConv2d, SubSampling
from zoo.losses import LOSSES, compute_loss
from zoo.recipe import LOSSES as LOSS_NAMES
from zoo.resnet_blocks import PadShortcut

GENERATOR = torch.Generator().manual_seed(0)


def doubles(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=GENERATOR, requires_grad=True)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (Maxout(3), (2, 12)),
        (ScaledTanh(), (2, 5)),
        (SubSampling(2), (2, 2, 4, 4)),
        (PartialConv2d(C3_TABLE), (1, 6, 6, 6)),
        (EuclideanRBF(10), (2, 84)),
        (krizhevsky_lrn(), (2, 7, 3, 3)),
        (PadShortcut(2, 3), (2, 2, 5, 5)),
        (PadShortcut(1, 4), (2, 2, 3, 3)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_gradients_agree_with_finite_differences(layer: nn.Module, shape: tuple[int, ...]) -> None:
    layer = layer.double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, generator=GENERATOR)
    names = [name for name, _ in layer.named_parameters()]

    def function(x: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))

    assert gradcheck(function, (doubles(*shape), *layer.parameters()))


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_of_losses(name: str) -> None:
    labels = torch.tensor([0, 3, 1])
    assert gradcheck(lambda z: compute_loss(name, z, labels), (doubles(3, 4),))


def test_response_normalisation_is_the_papers_formula() -> None:
    a = torch.randn(2, 8, 3, 3, generator=GENERATOR) * 20
    b = torch.empty_like(a)
    for i in range(8):  # section 3.3: over n = 5 neighbouring maps, cut at the ends
        around = a[:, max(0, i - 2) : min(7, i + 2) + 1].square().sum(dim=1)
        b[:, i] = a[:, i] / (2 + 1e-4 * around) ** 0.75
    torch.testing.assert_close(krizhevsky_lrn()(a), b)


def test_maxout_is_the_largest_piece() -> None:
    x = torch.tensor([[1.0, 5.0, -2.0, -3.0]])
    assert Maxout(2)(x).tolist() == [[5.0, -2.0]]
    model = zoo.create_model("mlp", hidden=[240, 240], activation="maxout", maxout_pieces=5)
    assert model.features[0].out_features == 1200  # the dropout paper's 2 x (5 x 240)
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_scaled_tanh_is_one_at_one() -> None:
    assert ScaledTanh()(torch.tensor([1.0, -1.0])).tolist() == pytest.approx([1, -1], abs=1e-4)


def test_padded_shortcut_keeps_every_second_pixel_and_adds_zeros() -> None:
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    out = PadShortcut(2, 1)(x)
    assert out[0, 0].tolist() == [[0, 2], [8, 10]]
    assert out[0, 1].eq(0).all()


def test_rbf_penalty_is_zero_at_the_bitmap() -> None:
    layer = EuclideanRBF(10)
    assert layer(layer.bitmaps).diagonal().eq(0).all()
    # Two bitmaps that differ in k pixels are 4k apart.
    differing = sum(a != b for a, b in zip(BITMAPS[3], BITMAPS[5], strict=True))
    assert -layer(layer.bitmaps)[3, 5] == 4 * differing


def test_losses_are_the_papers() -> None:
    assert set(LOSS_NAMES) == {"cross_entropy", *LOSSES}
    penalties = torch.tensor([[1.0, 4.0, 9.0]])
    logits, label = -penalties, torch.tensor([1])
    expected = 4 + math.log(math.exp(-0.1) + math.exp(-1) + math.exp(-4) + math.exp(-9))  # eq. 9, j = 0.1
    assert compute_loss("map", logits, label).item() == pytest.approx(expected)
    assert compute_loss("mse", logits, label).item() == pytest.approx((1 + 25 + 81) / 2)
    assert compute_loss("perceptron", logits, label).item() == pytest.approx(4 - 1)
    assert compute_loss("perceptron", logits, torch.tensor([0])).item() == 0
    one_hot = F.one_hot(label, 3).float()
    for name in LOSS_NAMES:
        assert compute_loss(name, logits, one_hot).item() == pytest.approx(compute_loss(name, logits, label).item())
        assert compute_loss(name, logits.bfloat16(), label).dtype in (torch.float32, torch.bfloat16)


# Initialisation


def initialized(init: str, fan_in: int = 400, fan_out: int = 300) -> Tensor:
    torch.manual_seed(0)
    hidden, output = nn.Linear(fan_in, fan_out), nn.Linear(fan_out, 10)
    initialize(nn.Sequential(hidden, output), init, output, paper=lambda _: None)
    return hidden.weight.detach()


@pytest.mark.parametrize(
    ("init", "std"),
    [
        ("he", (2 / 400) ** 0.5),
        ("xavier", (2 / 700) ** 0.5),
        ("lecun", (1 / 400) ** 0.5),
        ("normal", 0.01),
        ("normal(0.05)", 0.05),
        ("normal(1e-3)", 0.001),
    ],
)
def test_initialisations_have_their_deviation(init: str, std: float) -> None:
    assert initialized(init).std().item() == pytest.approx(std, rel=0.01)


def test_orthogonal_rows_have_length_root_two() -> None:
    weight = initialized("orthogonal")
    torch.testing.assert_close(weight @ weight.T, 2 * torch.eye(300), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "init", ["normal(0)", "normal(1e999)", "normal(-1)", "normal(x)", "normal(", "hee", "normal(STD)", ""]
)
def test_wrong_initialisation_is_named(init: str) -> None:
    with pytest.raises(ValueError, match=r"init is '.*Known: he, xavier, lecun, normal, normal\(STD\), orthogonal"):
        zoo.create_model("lenet5", init=init)


def test_paper_initialisations_have_the_papers_scales() -> None:
    vgg = zoo.create_model("vgg11", init="paper")
    assert vgg.features[3].weight.std().item() == pytest.approx(0.1, rel=0.02)  # variance 1e-2
    lenet = zoo.create_model("lenet5", init="paper")
    assert lenet.classifier[0].weight.abs().max().item() == pytest.approx(2.4 / 400, rel=0.01)
    c3 = zoo.create_model("lenet5_1998").features[4]
    largest = [kernel.abs().max().item() for kernel, _ in c3.kernels()]
    assert largest[0] == pytest.approx(2.4 / 75, rel=0.05)  # three maps of 5x5
    assert largest[15] == pytest.approx(2.4 / 150, rel=0.05)  # six
    alexnet = zoo.create_model("alexnet_2012", image_size=64)
    convolutions = [layer for layer in alexnet.features if isinstance(layer, nn.Conv2d)]
    assert [layer.bias.mean().item() for layer in convolutions] == [0, 1, 0, 1, 1]
    assert [layer.bias.mean().item() for layer in alexnet.classifier if isinstance(layer, nn.Linear)] == [1, 1, 0]
    assert convolutions[1].weight.std().item() == pytest.approx(0.01, rel=0.02)
