"""Small networks of every family, trained in every precision, compiled or not, on one process or several."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lightning as L
import torch

import zoo
from zoo.classifier import ImageClassifier
from zoo.compiling import compile_forward
from zoo.datamodules import Fake

DTYPES = {"32-true": torch.float32, "bf16-mixed": torch.float32, "bf16-true": torch.bfloat16, "64-true": torch.float64}
"""Precisions that a CPU has, and of what kind the weights are in each."""
SIZES = {"mlp": 8, "lenet5": 32, "resnet20": 8, "vgg11": 32, "alexnet": 32}
DEEP = {"norm": "batch", "dropout": 0.0}
OPTIONS: dict[str, Any] = {"mlp": {"hidden": [32]}, "vgg11": DEEP, "alexnet": DEEP}
BACKEND = os.environ.get("ZOO_MATRIX_BACKEND", "aot_eager")
"""Of compiled networks: this one traces the graphs of both passes, without the minutes of translating them to C++.

`ZOO_MATRIX_BACKEND=inductor pytest tests/test_matrix.py` translates them too.
"""
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
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
    name: str,
    precision: str,
    path: Path,
    *,
    epochs: int,
    start: Path | None = None,
    compiled: bool,
    processes: int = 1,
) -> list[float]:
    """The losses of some epochs; the checkpoint is left in a file. All processes of several call this."""
    model, losses = network(name), Losses()
    if compiled:
        compile_forward(model)
    strategy = "ddp" if processes > 1 else "auto"
    trainer = L.Trainer(
        max_epochs=epochs, precision=precision, callbacks=[losses], devices=processes, strategy=strategy, **QUIET
    )
    data = Fake(num_samples=100, image_size=SIZES[name], batch_size=8, train_size=16, augment="none")
    trainer.fit(model, data, ckpt_path=start, weights_only=True)
    trainer.save_checkpoint(path)
    return losses.found


class Narrow(torch.nn.Linear):
    """VGG's and AlexNet's hidden layers of 4096 would take most of the time."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(64 if inputs == 4096 else inputs, 64 if outputs == 4096 else outputs)


@contextmanager
def small() -> Iterator[None]:
    """Narrow layers, and the chosen way to compile."""
    traced = partial(torch.compile, backend=BACKEND)
    with patch.object(torch.nn, "Linear", Narrow), patch.object(torch, "compile", traced):
        yield
    torch.compiler.reset()
