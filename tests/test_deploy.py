"""Every family can be compiled, exported, and trained on several processes."""

import json

import pytest
import torch

import zoo
from tests.conftest import run_two_processes

# One network of each family, small: on two processes without what depends on the whole batch or on chance.
FAMILIES: dict[str, dict[str, object]] = {
    "softmax": {},
    "mlp": {"activation": "maxout"},
    "lenet5": {},
    "lenet5_1998": {},
    "alexnet_2012": {"image_size": 32, "dropout": 0.0},
    "vgg11_lrn": {"image_size": 32, "dropout": 0.0},
    "resnet18": {"image_size": 32, "norm": "group"},
    "resnet20": {"image_size": 16, "norm": "group"},
    "timm": {"image_size": 64},
}


def test_no_family_is_left_out() -> None:
    assert {zoo.model_info(name).family_name for name in FAMILIES} == set(zoo.registry.families())


def small(name: str) -> tuple[zoo.ImageClassifier, torch.Tensor]:
    torch.manual_seed(0)
    model = zoo.create_model(name, num_classes=4, in_channels=1, **FAMILIES[name])
    return model, torch.randn(4, 1, model.image_size, model.image_size)


@pytest.mark.parametrize("name", FAMILIES)
def test_compiles_without_a_break(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and backward, traced by Dynamo and AOTAutograd as one graph, which has torch's convolutions."""
    monkeypatch.setattr("zoo.convolution.Conv2d._is_faster_as_product", lambda *_: False)
    model, x = small(name)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    gradients = []
    for network in (model, compiled):
        model.zero_grad()
        network(x).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    torch.testing.assert_close(gradients[1], gradients[0])
    assert [key for key, _ in compiled.named_parameters()] == [
        f"_orig_mod.{key}" for key, _ in model.named_parameters()
    ]


def test_compiled_code_computes_the_same() -> None:
    """The default backend writes C++; one network of our own layers stands for all, since it takes seconds for each."""
    model, x = small("lenet5_1998")
    torch._dynamo.reset()
    with torch.inference_mode():
        torch.testing.assert_close(torch.compile(model.eval(), fullgraph=True)(x), model(x), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", FAMILIES)
def test_exports_with_any_batch_size(name: str) -> None:
    model, x = small(name)
    model.eval()
    program = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},))
    larger = torch.cat([x, x + 1, x])
    with torch.no_grad():
        torch.testing.assert_close(program.module()(larger), model(larger), rtol=1e-4, atol=1e-4)


def test_two_processes_compute_the_gradient_of_one() -> None:
    printed = run_two_processes("families_on_two_processes.py", json.dumps(FAMILIES))
    results = [json.loads(line) for line in printed.splitlines() if line.startswith("[")]
    assert [name for name, *_ in results] == list(FAMILIES)
    for name, to_one_process, between_processes in results:
        assert to_one_process < 1e-4, name
        assert between_processes == 0, name
