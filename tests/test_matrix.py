"""Every family in every precision, compiled or not: the loss falls, and checkpoints move between all of them."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

import zoo
from zoo.checkpoint import load_weights, read_checkpoint
from zoo.classifier import ImageClassifier
from zoo.compiling import compile_forward
from zoo.datamodules import Fake

DTYPES = {"32-true": torch.float32, "bf16-mixed": torch.float32, "bf16-true": torch.bfloat16, "64-true": torch.float64}
"""Precisions that a CPU has, and of what kind the weights are in each."""
SIZES = {"mlp": 8, "lenet5": 32, "resnet20": 8, "vgg11": 32, "alexnet": 32}
DEEP = {"norm": "batch", "dropout": 0.0}
OPTIONS: dict[str, Any] = {"mlp": {"hidden": [32]}, "vgg11": DEEP, "alexnet": DEEP}
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "limit_val_batches": 0,
    "num_sanity_val_steps": 0,
}


class Losses(L.Callback):
    """The training loss of each epoch."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._note(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._note(trainer)

    def _note(self, trainer: L.Trainer) -> None:
        """The model logs after the callbacks' end of an epoch: look later."""
        if "train/loss" in trainer.callback_metrics:
            self.found.append(float(trainer.callback_metrics["train/loss"]))


def network(name: str) -> ImageClassifier:
    """A small network that is trained without momentum, so that its checkpoints are small."""
    L.seed_everything(0, verbose=False)
    model = zoo.create_model(name, in_channels=3, image_size=SIZES[name], **OPTIONS.get(name, {}))
    model.recipe = model.recipe.replace(optimizer="sgd", momentum=0.0, lr=0.02, schedule="constant", warmup_epochs=0)
    return model


def train(
    name: str, precision: str, path: Path, *, epochs: int, start: Path | None = None, compiled: bool
) -> list[float]:
    """The losses of some epochs; the checkpoint is left in a file."""
    model, losses = network(name), Losses()
    if compiled:
        compile_forward(model)
    trainer = L.Trainer(max_epochs=epochs, precision=precision, callbacks=[losses], **QUIET)
    data = Fake(num_samples=100, image_size=SIZES[name], batch_size=8, train_size=16, augment="none")
    trainer.fit(model, data, ckpt_path=start, weights_only=True)
    trainer.save_checkpoint(path)
    return losses.found


class Narrow(torch.nn.Linear):
    """VGG's and AlexNet's hidden layers of 4096 would take most of the time."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(64 if inputs == 4096 else inputs, 64 if outputs == 4096 else outputs)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn, "Linear", Narrow)


@pytest.fixture(autouse=True)
def traced_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Trace graphs of the forward and backward pass, but do not translate them to C++, which takes long."""
    original = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function: original(function, backend="aot_eager"))
    yield
    torch.compiler.reset()


@pytest.mark.parametrize(("name", "compiled"), [*((name, False) for name in SIZES), ("mlp", True), ("lenet5", True)])
def test_a_family_in_every_precision(name: str, compiled: bool, tmp_path: Path) -> None:
    files = {precision: tmp_path / f"{precision}.ckpt" for precision in DTYPES}
    losses = {precision: train(name, precision, file, epochs=2, compiled=compiled) for precision, file in files.items()}
    for precision, (first, second) in losses.items():
        assert second < first, precision
        assert first == pytest.approx(losses["64-true"][0], rel=0.03), "the same run but for rounding"
    states = {precision: read_checkpoint(file)["state_dict"] for precision, file in files.items()}
    model = network(name)
    for target, dtype in DTYPES.items():
        assert list(states[target]) == list(model.state_dict())
        assert {tensor.dtype for tensor in states[target].values() if tensor.is_floating_point()} == {dtype}
        model.to(dtype)
        for source, state in states.items():
            load_weights(model, {"state_dict": state}, source)
            for key, tensor in model.state_dict().items():
                torch.testing.assert_close(tensor, state[key].to(tensor.dtype), rtol=0, atol=0)
    assert zoo.load(files["bf16-true"])(torch.zeros(1, 3, SIZES[name], SIZES[name])).dtype == torch.float32
    for source, target in pairwise([*DTYPES, "32-true"]):  # training goes on, in another precision, compiled or not
        found = train(name, target, tmp_path / "next", epochs=3, start=files[source], compiled=False)
        assert len(found) == 1
        assert found[0] < losses[source][0], (source, target)
