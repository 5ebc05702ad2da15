"""Twelve networks of timm, of twelve kinds, at small sizes and with random weights: whatever is done to a network."""

import copy
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import zoo
from zoo.export import SUFFIXES, export, parity

# The smallest of each kind, at 32 pixels where it takes them.
SIZES = {
    "resnet18": 32,
    "vgg11": 32,
    "densenet121": 32,
    "mobilenetv2_100": 32,
    "efficientnet_b0": 32,
    "convnext_atto": 32,
    "vit_tiny_patch16_224": 32,
    "swin_tiny_patch4_window7_224": 32,
    "inception_v3": 75,
    "legacy_xception": 32,
    "nasnetalarge": 32,
    "resnetv2_18": 32,
}


def images_for(backbone: str, number: int, seed: int = 0) -> torch.Tensor:
    size = SIZES[backbone]
    return torch.randn(number, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module", params=SIZES)
def model(request: pytest.FixtureRequest) -> zoo.ImageClassifier:
    """The network; a test that changes it takes a copy."""
    backbone, size = request.param, SIZES[request.param]
    torch.manual_seed(0)
    model = zoo.create_model("timm", backbone=backbone, image_size=size, num_classes=5)
    # Statistics of real activations: with those of a new network, some have logits that hardly depend on the image.
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 1.0
    with torch.no_grad():
        model.train()(images_for(backbone, 8, seed=1))
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
    return model.eval()


def images(model: zoo.ImageClassifier, number: int) -> torch.Tensor:
    return images_for(model.hparams["backbone"], number)


def test_new_classes_replace_the_last_layer_only(model: zoo.ImageClassifier) -> None:
    changed = copy.deepcopy(model).double()
    before = dict(changed.named_parameters())
    x = images(model, 2).double()
    changed.reset_classifier(7)
    after = dict(changed.named_parameters())
    assert changed(x).shape == (2, 7)
    assert {name for name in after if after[name] is not before.get(name)} == {
        name for name, parameter in after.items() if any(parameter is own for own in changed.output.parameters())
    }
    assert changed.num_classes == changed.hparams["num_classes"] == 7
    assert before.keys() == after.keys()


def test_stages_hold_every_parameter_once_and_end_with_the_output(model: zoo.ImageClassifier) -> None:
    stages = model.stages()
    assert len(stages) >= 7
    assert stages[-1] is model.output
    held = [id(parameter) for stage in stages for parameter in stage.parameters()]
    assert len(held) == len(set(held))
    assert set(held) == {id(parameter) for parameter in model.parameters()}
    buffers = {id(buffer) for stage in stages for buffer in stage.buffers()}
    assert {id(buffer) for buffer in model.backbone.buffers()} == buffers


def step(model: zoo.ImageClassifier, x: torch.Tensor) -> None:
    """One step of gradient descent in the modes that the layers have, over what may change."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1, momentum=0.9)
    F.cross_entropy(model(x), torch.arange(len(x)) % 5).backward()
    optimizer.step()


def changes(model: zoo.ImageClassifier, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}


def test_a_step_changes_the_last_layer_and_nothing_that_is_frozen(model: zoo.ImageClassifier) -> None:
    changed, before = copy.deepcopy(model), model.state_dict()
    changed.train()
    for stage in changed.stages()[:-1]:
        stage.eval().requires_grad_(False)
    step(changed, images(model, 4))
    output = next(name for name, layer in changed.named_modules() if layer is changed.output)
    assert changes(changed, before) == {f"{output}.weight", f"{output}.bias"}


@pytest.mark.parametrize("kind", ["safetensors", "torch_export"])
def test_files_compute_the_same(model: zoo.ImageClassifier, kind: str, tmp_path: Path) -> None:
    path, x = tmp_path / f"network{SUFFIXES[kind]}", images(model, 3)  # a number that it was not traced with
    with torch.no_grad():
        logits = model(x)
    assert logits.std(dim=0).max() > 1e-2 * logits.abs().max(), "the comparison would say little"
    export(model, path, kind)
    result = parity(model, path, kind, x)
    assert result.holds, result
    assert result.top1_agreement == 1
    assert math.isfinite(result.max_difference)
    path.unlink()  # up to half a gigabyte, and pytest keeps the folder


def test_a_step_changes_the_statistics_of_what_is_frozen_but_trains() -> None:
    """That the test above can fail: without gradients alone, batch normalisation still follows the images."""
    model = zoo.create_model("timm", backbone="resnet18", image_size=32, num_classes=5)
    before = copy.deepcopy(model.state_dict())
    for stage in model.train().stages()[:-1]:
        stage.requires_grad_(False)
    step(model, images_for("resnet18", 4))
    assert "backbone.bn1.running_mean" in changes(model, before)


def test_bare_parameters_of_a_transformer_are_frozen_with_its_first_stage() -> None:
    model = zoo.create_model("timm", backbone="vit_tiny_patch16_224", image_size=32, num_classes=5)
    model.stages()[0].requires_grad_(False)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen >= {"backbone.cls_token", "backbone.pos_embed", "backbone.patch_embed.proj.weight"}
    assert not any(name.startswith("backbone.blocks") for name in frozen)
