"""VGG against torchvision's: same keys, same parameters, same outputs with the same weights."""

import pytest
import torch
import torchvision

import zoo

WITH_BATCH_NORM = {"vgg11": 132_868_840, "vgg13": 133_053_736, "vgg16": 138_365_992, "vgg19": 143_678_248}


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("name", zoo.list_models("vgg*"))
def test_same_network_as_torchvision(name: str, norm: str) -> None:
    reference = f"{name}_bn" if norm == "batch" else name
    with torch.device("meta"):
        theirs = getattr(torchvision.models, reference)(num_classes=1000, init_weights=False).eval()
        ours = zoo.create_model(name, num_classes=1000, image_size=224, norm=norm).eval()
    expected = WITH_BATCH_NORM[name] if norm == "batch" else zoo.model_info(name).parameters
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters()) == expected
    shapes = [{key: value.shape for key, value in net.state_dict().items()} for net in (ours, theirs)]
    assert shapes[0] == shapes[1]

    theirs.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for key, value in theirs.state_dict().items():
        if key.endswith("num_batches_tracked"):
            value.zero_()
        elif key.endswith("running_var"):
            value.fill_(1.5)
        else:
            bound = (6 / max(value[0].numel(), 1)) ** 0.5 if value.ndim > 1 else 0.1
            value.uniform_(-bound, bound, generator=generator)
    ours.load_state_dict(theirs.state_dict(), assign=True)
    x = torch.randn(1, 3, 224, 224, generator=generator)
    with torch.inference_mode():
        expected_logits, logits = theirs(x), ours(x)
    assert expected_logits.std() > 1e-4, "the comparison would be empty"
    torch.testing.assert_close(logits, expected_logits, rtol=1e-5, atol=1e-5)
