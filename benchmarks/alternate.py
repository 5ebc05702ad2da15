"""A callback that trains the same network in a bare PyTorch loop before every epoch of `zoo fit`, and compares.

zoo fit --model lenet5 ... --trainer.callbacks zoo.benchmarks.alternate.Alternate --trainer.callbacks.output FILE
"""

import copy
import json
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch.nn import functional as F

WARM_UP = 10  # steps of an epoch that are not timed, in both loops


class Alternate(Callback):
    """Times the training steps of `zoo fit` against a bare loop over tensors in memory, epoch by epoch.

    The bare loop has the images as normalised floats, shuffles them, and does what a step needs: forward, loss,
    backward, optimiser (the recipe's, fused). It augments, measures, logs, schedules and saves nothing. What `zoo fit`
    does once an epoch (averages, validation, checkpoints) is not part of the time.

    Args:
        output: The JSON file that the figures are written to.
    """

    def __init__(self, output: str) -> None:
        self.output = Path(output)
        self.ours: list[float] = []
        self.bare: list[float] = []
        self._started = 0.0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make a second copy of network, optimiser and data."""
        from zoo.optim import make_optimizer

        model: Any = pl_module
        data = trainer.datamodule  # type: ignore[attr-defined]  # set by fit
        dataset = data.val_dataloader().dataset
        dataset.split = data.splits["train"]
        chunks = np.array_split(np.arange(len(dataset)), max(1, len(dataset) // 1000))
        prepared = [data.on_after_batch_transfer(dataset[rows, 0], 0) for rows in chunks]
        self.images, self.labels = (torch.cat(parts) for parts in zip(*prepared, strict=True))
        self.batch_size: int = data.batch_size
        trainer_of_model, model._trainer = model._trainer, None
        self.network = copy.deepcopy(model).train()
        model._trainer = trainer_of_model
        self.optimizer = make_optimizer(self.network, self.network.stages(), model.recipe, fused=True)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Train the bare loop for as many steps as the epoch has."""
        steps = int(trainer.num_training_batches)
        order = torch.randperm(len(self.labels))
        with as_without_us(), torch.autocast("cpu", torch.bfloat16, enabled="bf16" in str(trainer.precision)):
            for step in range(steps):
                if step == WARM_UP:
                    started = time.perf_counter()
                chosen = order[step * self.batch_size : (step + 1) * self.batch_size]
                images, labels = self.images[chosen], self.labels[chosen]
                self.optimizer.zero_grad()
                loss: Any = F.cross_entropy(self.network(images), labels)
                loss.backward()
                self.optimizer.step()
        self.bare.append((steps - WARM_UP) * self.batch_size / (time.perf_counter() - started))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Start the clock once the loop has warmed up."""
        if batch_idx == WARM_UP:
            # Fetching this batch came before this hook; fetching the one after the last is as long, and is counted.
            self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        images = (int(trainer.num_training_batches) - WARM_UP) * self.batch_size
        self.ours.append(images / (time.perf_counter() - self._started))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the figures; the first epoch, in which everything is loaded, does not count."""
        ratios = [ours / bare for ours, bare in zip(self.ours[1:], self.bare[1:], strict=True)]
        figures = {
            "zoo_images_per_second": statistics.median(self.ours[1:]),
            "bare_images_per_second": statistics.median(self.bare[1:]),
            "ratio": statistics.median(ratios),
            "ratios": [round(ratio, 4) for ratio in ratios],
            "batch_size": self.batch_size,
        }
        self.output.write_text(json.dumps(figures, indent=2))


@contextmanager
def as_without_us() -> Iterator[None]:
    """The environment as a user's own script has it: `zoo` spares torch the search for a GPU that is not there."""
    ours = os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    try:
        yield
    finally:
        if ours is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = ours
