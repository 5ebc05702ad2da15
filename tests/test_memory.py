"""Activation checkpointing against the same step without it, and what gradient accumulation makes of a step."""

import copy
from pathlib import Path

import lightning as L
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import zoo
from tests.conftest import Zoo
from zoo.activation_checkpointing import checkpoint_activations
from zoo.checkpoint import read_checkpoint
from zoo.classifier import ImageClassifier
from zoo.recipe import Recipe

NETWORKS = {
    "alexnet": {"image_size": 64, "dropout": 0.5},
    "vgg11": {"norm": "batch", "dropout": 0.5, "image_size": 32},
    "resnet18": {"image_size": 32},
    "resnet20": {"image_size": 16, "dropout": 0.2},
    "lenet5": {"norm": "batch", "image_size": 32, "dropout": 0.2},
    "mlp": {"norm": "batch", "dropout": 0.5, "image_size": 16},
    "timm": {"backbone": "resnet18", "image_size": 32},
}


def network(name: str, **changes: object) -> ImageClassifier:
    """A small network, the same each time, ready to be trained."""
    torch.manual_seed(0)
    model = zoo.create_model(name, num_classes=10, in_channels=3, **NETWORKS[name], **changes)
    assert isinstance(model, ImageClassifier)
    return model.train()


def step(model: ImageClassifier) -> tuple[dict[str, Tensor], int]:
    """Gradients of a step, and how many values wait for the backward pass."""
    torch.manual_seed(1)
    images, kept = torch.randn(4, 3, model.image_size, model.image_size), dict[int, int]()

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = F.cross_entropy(model(images), torch.tensor([0, 1, 2, 3]))
    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return gradients, sum(size for place, size in kept.items() if place not in own)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_and_statistics_are_the_same_bit_for_bit(name: str) -> None:
    plain, frugal = network(name), network(name)
    checkpoint_activations(frugal)
    (expected, kept), (found, kept_less) = step(plain), step(frugal)
    assert expected.keys() == found.keys()
    for parameter, gradient in expected.items():
        assert torch.equal(gradient, found[parameter]), parameter
    assert list(plain.state_dict()) == list(frugal.state_dict())
    for key, value in plain.state_dict().items():
        assert torch.equal(value, frugal.state_dict()[key]), key
    assert kept_less < kept


def test_a_copy_computes_its_own_layers_again() -> None:
    model = network("vgg11")
    checkpoint_activations(model)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert any(gradient.abs().sum() > 0 for gradient in step(twin)[0].values())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_frozen_statistics_stay_frozen() -> None:
    model = network("resnet18").eval()
    checkpoint_activations(model)
    before = copy.deepcopy(model.state_dict())
    step(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_network_of_one_layer_is_refused() -> None:
    model = zoo.create_model("softmax", num_classes=10, in_channels=1, image_size=8)
    with pytest.raises(ValueError, match="checkpoint_activations is true, but softmax has nothing to compute again"):
        checkpoint_activations(model)


def test_the_command_trains_alike_with_it(zoo_main: Zoo, tmp_path: Path) -> None:
    words = ("fit", "--model", "resnet20", "--model.image_size", 16, "--model.dropout", 0.2, "--data.train_size", 200)
    words = (*words, "--recipe.epochs", 1, "--recipe.batch_size", 50, "--recipe.ema", 0.5, "--no-test")
    assert zoo_main(*words, "--run_dir", "plain").status == 0
    done = zoo_main(*words, "--checkpoint_activations", "true", "--run_dir", "frugal")
    assert done.status == 0, done.err
    plain, frugal = (read_checkpoint(tmp_path / name / "checkpoints/last.ckpt") for name in ("plain", "frugal"))
    for part in ("state_dict", "current_model_state"):
        assert plain[part].keys() == frugal[part].keys()
        assert all(torch.equal(value, frugal[part][name]) for name, value in plain[part].items())
    refused = zoo_main(*words, "--checkpoint_activations", "true", "--compile", "true")
    assert (refused.status, "compile and checkpoint_activations are both true: choose one" in refused.err) == (2, True)


@pytest.mark.filterwarnings("ignore:.*(val_dataloader|num_workers|log_every_n_steps)")
def test_accumulated_batches_make_one_step_of_their_mean(tmp_path: Path) -> None:
    """Batches of 64, two to a step: the weights move as for one batch of 128."""
    images = torch.randn(256, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    rows = torch.utils.data.TensorDataset(images, torch.arange(256) % 10)
    weights, steps = [], []
    for batch_size, batches in ((64, 2), (128, 1)):
        torch.manual_seed(0)
        model = zoo.create_model("mlp", num_classes=10, in_channels=1, image_size=16)
        model.recipe = Recipe(lr=0.1, batch_size=batch_size, schedule="linear")
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
        trainer = L.Trainer(
            max_epochs=2,
            accumulate_grad_batches=batches,
            enable_checkpointing=False,
            default_root_dir=tmp_path,
            **quiet,
        )
        L.seed_everything(0, verbose=False)
        trainer.fit(model, torch.utils.data.DataLoader(rows, batch_size=batch_size))
        weights.append(model.output.weight.detach())
        steps.append(trainer.global_step)
    assert steps == [4, 4]
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-4, atol=1e-5)
