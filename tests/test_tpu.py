"""A training step never asks the device for a number: on the meta device, which has none, asking is an error."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader
from torchvision.transforms import v2

import zoo
from zoo.classifier import ImageClassifier
from zoo.datamodules import Digits
from zoo.divergence import GPU_CHECK_INTERVAL, LossWatch
from zoo.mixing import CutMix
from zoo.optim import limit_norms, make_optimizer
from zoo.recipe import LOSSES, OPTIMIZERS, Recipe

FAMILIES: dict[str, dict[str, Any]] = {
    "mlp": {"image_size": 16, "norm": "batch", "dropout": 0.5, "activation": "maxout"},
    "lenet5": {"image_size": 32, "norm": "batch", "c3": "partial", "subsampling": "trained"},
    "alexnet": {"image_size": 64, "dropout": 0.5, "lrn": True, "groups": 2},
    "vgg11": {"image_size": 32, "norm": "group", "dropout": 0.5},
    "resnet20": {"image_size": 16, "dropout": 0.2},
    "resnet18": {"image_size": 32},
    "timm": {"image_size": 32, "backbone": "resnet18"},
}


def network(name: str, **recipe: Any) -> ImageClassifier:
    """A small network without numbers, in training."""
    model = zoo.create_model(name, num_classes=10, in_channels=3, **FAMILIES[name])
    assert isinstance(model, ImageClassifier)
    model.recipe = Recipe(**recipe)
    model._trainer = SimpleNamespace(precision="32-true", world_size=1)  # type: ignore[assignment]  # all that the step asks it
    return model.to("meta").train()


def step(model: ImageClassifier) -> Tensor:
    """Loss, gradients and a step of the optimiser; the batch is not one whose loss is looked at."""
    optimizer = make_optimizer(model, model.stages(), model.recipe)
    images = torch.empty(8, 3, model.image_size, model.image_size, device="meta")
    loss = model.training_step((images, torch.zeros(8, dtype=torch.long, device="meta")), 1)
    loss.backward()
    if model.recipe.gradient_clip:
        torch.nn.utils.clip_grad_norm_(model.parameters(), model.recipe.gradient_clip)
    optimizer.step()
    if model.recipe.max_norm:
        limit_norms(model, model.output, model.recipe.max_norm)
    assert all(not p.requires_grad or p.grad is not None for p in model.parameters())
    return loss


def test_the_meta_device_refuses_what_a_tpu_would_wait_for() -> None:
    values = torch.empty(3, device="meta")
    for ask in (values.sum().item, lambda: bool(values.sum() > 0), values.nonzero, lambda: values[values > 0]):
        with pytest.raises((RuntimeError, NotImplementedError)):
            ask()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_takes_a_step_without_waiting(name: str) -> None:
    assert step(network(name)).shape == ()


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_takes_a_step_without_waiting(loss: str) -> None:
    assert step(network("mlp", loss=loss)).shape == ()


@pytest.mark.parametrize("optimizer", [name for name in OPTIMIZERS if name != "lbfgs"])
def test_every_optimizer_takes_a_step_without_waiting(optimizer: str) -> None:
    step(network("mlp", optimizer=optimizer))


@pytest.mark.parametrize(
    "recipe",
    [
        {"mixup": 0.4}, {"cutmix": 1.0}, {"label_smoothing": 0.1}, {"l1": 0.01}, {"gradient_clip": 1.0},
        {"max_norm": 3.0}, {"layer_decay": 0.5}, {"class_weights": "balanced"},
    ],
    ids=str,
)  # fmt: skip
def test_every_field_takes_a_step_without_waiting(recipe: dict[str, Any]) -> None:
    model = network("mlp", **recipe)
    model._class_weights = torch.ones(10, device="meta") if "class_weights" in recipe else None
    step(model)


def test_cutmix_is_torchvisions_and_has_one_shape_whatever_is_drawn() -> None:
    images, labels = torch.randn(6, 3, 16, 16).to(memory_format=torch.channels_last), torch.arange(6)
    for seed in range(10):
        mixed = []
        for kind in (v2.CutMix, CutMix):
            torch.manual_seed(seed)
            mixed.append(kind(alpha=1.0, num_classes=10)(images, labels))
        (expected, targets), (found, found_targets) = mixed
        assert torch.equal(expected, found)
        assert torch.equal(targets, found_targets)
        assert found.is_contiguous(memory_format=torch.channels_last)
    programs: list[list[tuple[str, tuple[int, ...]]]] = []

    class Operations(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            if isinstance(result, Tensor) and result.device.type == "meta":
                programs[-1].append((str(func), tuple(result.shape)))
            return result

    for _ in range(10):
        programs.append([])
        with Operations():
            CutMix(alpha=1.0, num_classes=10)(images.to("meta"), labels.to("meta"))
    assert len(programs[0]) > 3
    assert all(program == programs[0] for program in programs)


@pytest.mark.parametrize(("device", "looks"), [("cpu", 2), ("cuda", 1), ("xla", 0)])
def test_the_loss_is_looked_at_where_that_costs_little(device: str, looks: int) -> None:
    asked: list[int] = []
    loss: Any = SimpleNamespace(device=SimpleNamespace(type=device), item=lambda: asked.append(0) or 1.0)
    for number in (0, GPU_CHECK_INTERVAL + 1):
        LossWatch().check(loss, number, SimpleNamespace(precision="32-true", world_size=1))  # type: ignore[arg-type]
    assert len(asked) == looks


def test_all_training_batches_have_one_shape() -> None:
    data = Digits(batch_size=100, train_size=250, num_workers=0)
    data.setup("fit")
    loader = data.train_dataloader()
    assert isinstance(loader, DataLoader)
    assert [len(labels) for _, labels in loader] == [100, 100]
