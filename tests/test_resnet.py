"""Residual networks: what each flag does, against the papers' figures."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import zoo
from zoo.resnet_blocks import Block, PadShortcut


def test_option_a_written_out() -> None:
    """Section 4.2 with option A: the first block of the second stage, layer by layer."""
    model = zoo.create_model("resnet20").eval()
    block = model.layer2[0]
    x = torch.randn(2, 16, 8, 8)
    z = F.relu(block.bn1(F.conv2d(x, block.conv1.weight, stride=2, padding=1)))
    z = block.bn2(F.conv2d(z, block.conv2.weight, padding=1))
    shortcut = torch.cat([x[:, :, ::2, ::2], torch.zeros(2, 16, 4, 4)], dim=1)
    torch.testing.assert_close(block(x), F.relu(z + shortcut))


def test_plain_network_is_the_residual_one_without_shortcuts() -> None:
    residual, plain = zoo.create_model("resnet20").eval(), zoo.create_model("plain20").eval()
    plain.load_state_dict(residual.state_dict())
    x = torch.randn(2, 3, 32, 32)
    for block in residual.blocks():
        block.downsample = None
    assert torch.equal(residual(x), plain(x))


@pytest.mark.parametrize(("norm", "bottleneck"), list(itertools.product(("none", "batch"), (False, True))))
def test_preactivation_passes_the_input_on(norm: str, bottleneck: bool) -> None:
    """Identity Mappings, eq. 4: a block adds to its input; with a silent branch the sum is the input itself."""
    model = zoo.create_model(
        "resnet50" if bottleneck else "resnet18", norm=norm, preactivation=True, image_size=32
    ).eval()
    block = model.layer1[1]
    nn.init.zeros_(block.branch_layers()[-1].weight)
    x = torch.randn(1, model.layer1[0].branch_layers()[-1].out_channels, 8, 8)
    before = x.clone()
    assert torch.equal(block(x), x)
    assert torch.equal(x, before), "the activation must not overwrite what the shortcut carries"


def test_preactivation_order() -> None:
    """Fig. 1b: normalise, activate, convolve, twice; the first block's input is activated by the stem."""
    model = zoo.create_model("resnet20", preactivation=True)
    kinds = [type(layer).__name__ for layer in model.layer2[1].modules() if not list(layer.children())]
    assert kinds == ["BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d", "ReLU", "Dropout", "Conv2d", "Identity"]
    assert isinstance(model.layer1[0].activate, nn.Identity)
    assert isinstance(model.last_activation, nn.Sequential)
    assert sum(p.numel() for p in model.parameters()) == 269_722  # as many normalisations, at other places


def test_preactivation_shortcut_starts_from_the_activated_input() -> None:
    model = zoo.create_model("resnet20", preactivation=True, shortcut="A").eval()
    block = model.layer2[0]
    x = torch.randn(1, 16, 8, 8)
    z = block.activate(x)
    torch.testing.assert_close(block(x), block.branch(z) + PadShortcut(2, 16)(z))


def test_zero_init_residual_starts_as_the_identity() -> None:
    model = zoo.create_model("resnet18", zero_init_residual=True, image_size=32)
    assert all(block.bn2.weight.eq(0).all() for block in model.blocks())
    assert not any(block.bn2.weight.eq(0).any() for block in zoo.create_model("resnet18").blocks())
    x = torch.randn(2, 64, 8, 8).relu()
    assert torch.equal(model.layer1(x), x)


def test_without_normalisation_blocks_have_biases_and_start_scaled() -> None:
    model = zoo.create_model("resnet56", norm="none")
    blocks = model.blocks()
    assert len(blocks) == 27
    assert all(layer.bias is not None for layer in model.modules() if isinstance(layer, nn.Conv2d))
    assert all(block.conv2.weight.eq(0).all() for block in blocks)
    he = (2 / (9 * 16)) ** 0.5
    std = torch.cat([block.conv1.weight.flatten() for block in blocks[:9]]).std().item()
    assert std == pytest.approx(he * 27**-0.5, rel=0.02)  # Fixup: L^(-1 / (2m - 2)) with m = 2
    plain = zoo.create_model("plain20", norm="none").blocks()[0]
    assert plain.conv2.weight.std().item() == pytest.approx(he, rel=0.05)


def test_stems() -> None:
    imagenet = zoo.create_model("resnet18", image_size=64)
    small = zoo.create_model("resnet18", image_size=64, stem="small")
    x = torch.zeros(1, 3, 64, 64)
    assert imagenet.forward_features(x).shape[-1] == 2
    assert small.forward_features(x).shape[-1] == 8
    assert small.conv1.kernel_size == (3, 3)


def test_bottleneck_strides() -> None:
    ours = zoo.create_model("resnet50").layer2[0]
    assert (ours.conv1.stride, ours.conv2.stride) == ((1, 1), (2, 2))
    papers = zoo.create_model("resnet50", stride_in_1x1=True).layer2[0]
    assert (papers.conv1.stride, papers.conv2.stride) == ((2, 2), (1, 1))


def test_any_depth_of_the_cifar_family() -> None:
    model = zoo.create_model("resnet20", depth=8)
    assert len(model.blocks()) == 3
    assert len(zoo.create_model("resnet18", depth=34).blocks()) == 16
    weights = [layer for layer in zoo.create_model("resnet110").modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert len(weights) == 110


def test_residual_networks_take_any_image_size() -> None:
    model = zoo.create_model("resnet20", num_classes=7).eval()
    assert model(torch.zeros(1, 3, 45, 45)).shape == (1, 7)
    with pytest.raises(ValueError, match="images have shape"):
        model(torch.zeros(1, 1, 32, 32))


@pytest.mark.parametrize("flags", [{"shortcut": s, "preactivation": p} for s in "ABC" for p in (False, True)])
def test_shortcuts_and_preactivation_combine(flags: dict[str, object]) -> None:
    for name in ("resnet20", "resnet50"):
        model = zoo.create_model(name, image_size=32, dropout=0.1, **flags)
        model(torch.randn(2, 3, 32, 32)).sum().backward()
        assert all(p.grad is not None for p in model.parameters())
        assert all(isinstance(block, Block) for block in model.blocks())
