"""Our networks against torchvision's: same keys, same parameters, same outputs with the same random weights."""

import pytest
import torch
import torchvision

import zoo

# Name of ours, name of torchvision's, our flags, published parameters.
PAIRS = [
    ("alexnet", "alexnet", {}, 61_100_840),
    ("vgg11", "vgg11", {}, 132_863_336),
    ("vgg13", "vgg13", {}, 133_047_848),
    ("vgg16", "vgg16", {}, 138_357_544),
    ("vgg19", "vgg19", {}, 143_667_240),
    ("vgg11", "vgg11_bn", {"norm": "batch"}, 132_868_840),
    ("vgg13", "vgg13_bn", {"norm": "batch"}, 133_053_736),
    ("vgg16", "vgg16_bn", {"norm": "batch"}, 138_365_992),
    ("vgg19", "vgg19_bn", {"norm": "batch"}, 143_678_248),
    ("resnet18", "resnet18", {}, 11_689_512),
    ("resnet34", "resnet34", {}, 21_797_672),
    ("resnet50", "resnet50", {}, 25_557_032),
    ("resnet101", "resnet101", {}, 44_549_160),
    ("resnet152", "resnet152", {}, 60_192_808),
]


@pytest.mark.parametrize(("name", "reference", "flags", "parameters"), PAIRS, ids=[pair[1] for pair in PAIRS])
def test_same_network_as_torchvision(name: str, reference: str, flags: dict[str, str], parameters: int) -> None:
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, reference)(num_classes=1000)
    with torch.device("meta"):
        ours = zoo.create_model(name, num_classes=1000, image_size=224, **flags)
    ours.load_state_dict({key: value.clone() for key, value in theirs.state_dict().items()}, assign=True, strict=True)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters()) == parameters

    x = torch.randn(2, 3, 224, 224)
    for train in (True, False):  # in this order: training moves batch normalisation's statistics from 0 and 1
        outputs = []
        for network in (theirs, ours):
            torch.manual_seed(1)  # the same dropout in both
            with torch.no_grad():
                outputs.append(network.train(train)(x))
        assert outputs[0].std() > 1e-3, "the comparison would be empty"
        torch.testing.assert_close(outputs[1], outputs[0], rtol=0, atol=1e-5)
