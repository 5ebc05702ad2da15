"""LeNet-5 of 1998 against section II-B and Table I of its paper."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import zoo
from zoo.lenet import C3_TABLE, EuclideanRBF, PartialConv2d, SubSampling


def test_trainable_parameters_of_each_layer() -> None:
    model = zoo.create_model("lenet5_1998")
    layers = [layer for layer in [*model.features, *model.classifier] if list(layer.parameters())]
    counts = [sum(p.numel() for p in layer.parameters()) for layer in layers]
    assert counts == [156, 12, 1_516, 32, 48_120, 10_164]  # C1, S2, C3, S4, C5, F6; the output has none
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 60_000


def connections(layer: nn.Module, output: torch.Tensor) -> int:
    """Weights and biases times the places where they are used."""
    places = output[0, 0].numel() if output.ndim == 4 else 1
    if isinstance(layer, SubSampling):
        return output[0].numel() * (4 + 1)  # four inputs and a bias
    if isinstance(layer, EuclideanRBF):
        return layer.bitmaps.numel()
    return sum(p.numel() for p in layer.parameters()) * places


def test_connections_of_each_layer() -> None:
    model = zoo.create_model("lenet5_1998")
    found = []
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | PartialConv2d | SubSampling | nn.Linear | EuclideanRBF):
            layer.register_forward_hook(lambda layer, _, output: found.append(connections(layer, output)))
    model(torch.zeros(1, 1, 32, 32))
    assert found == [122_304, 5_880, 151_600, 2_000, 48_120, 10_164, 840]
    assert sum(found) == 340_908


def test_c3_sees_the_maps_of_table_1_only() -> None:
    layer = PartialConv2d(C3_TABLE)
    nn.init.normal_(layer.weight)
    for source in range(6):
        x = torch.zeros(1, 6, 5, 5)
        x[:, source] = 1
        reached = layer(x)[0, :, 0, 0].ne(0)
        assert [output for output in range(16) if reached[output]] == [
            output for output, sources in enumerate(C3_TABLE) if source in sources
        ]


def test_partial_convolution_is_one_convolution_for_each_map() -> None:
    layer = PartialConv2d(C3_TABLE)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    x = torch.randn(2, 6, 14, 14)
    maps = [
        F.conv2d(x[:, list(sources)], kernel, bias)
        for sources, (kernel, bias) in zip(C3_TABLE, layer.kernels(), strict=True)
    ]
    torch.testing.assert_close(layer(x), torch.cat(maps, dim=1), atol=1e-4, rtol=1e-4)


def test_the_network_written_out() -> None:
    model = zoo.create_model("lenet5_1998").eval()
    c1, s2, c3, s4 = (model.features[i] for i in (0, 2, 4, 6))
    x = torch.randn(2, 1, 32, 32)

    def squash(a: torch.Tensor) -> torch.Tensor:
        return 1.7159 * torch.tanh(2 / 3 * a)

    def subsample(x: torch.Tensor, s: nn.Module) -> torch.Tensor:
        four = x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]
        return squash(four * s.weight.reshape(-1, 1, 1) + s.bias.reshape(-1, 1, 1))

    z = subsample(squash(c1(x)), s2)
    z = subsample(squash(c3(z)), s4).flatten(1)
    z = squash(model.classifier[0](z))
    f6 = squash(model.classifier[3](z))
    penalties = torch.stack([(f6 - bitmap).square().sum(dim=1) for bitmap in model.output.bitmaps], dim=1)
    torch.testing.assert_close(model(x), -penalties)


def test_each_difference_is_a_flag() -> None:
    """The modern form with all the flags of its ledger is the form of 1998."""
    flags = {"activation": "scaled_tanh", "subsampling": "trained", "c3": "partial", "head": "rbf", "init": "paper"}
    torch.manual_seed(0)
    modern = zoo.create_model("lenet5", **flags)
    torch.manual_seed(0)
    original = zoo.create_model("lenet5_1998")
    x = torch.randn(2, 1, 32, 32)
    assert torch.equal(modern(x), original(x))
    assert original.recipe.loss == "map"


def test_rbf_output_has_the_digits_only() -> None:
    with pytest.raises(ValueError, match="num_classes is 11: the rbf head has the bitmaps of 10 digits"):
        zoo.create_model("lenet5_1998", num_classes=11)
    assert zoo.create_model("lenet5_1998", num_classes=11, head="linear")(torch.zeros(1, 1, 32, 32)).shape == (1, 11)
    model = zoo.create_model("lenet5_1998")
    model.reset_classifier(4)
    assert model(torch.zeros(1, 1, 32, 32)).shape == (1, 4)
