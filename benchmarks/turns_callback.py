"""The callback with which `zoo fit` takes turns with other programs (`zoo.benchmarks.turns`)."""

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from zoo.benchmarks.turns import Turns


class TakeTurns(Callback):
    """Waits for its turn before every epoch, and reports after it.

    The time is that of the training steps and of what comes between them. What is done once an epoch, such as saving
    checkpoints, comes after the report: the programs that `zoo fit` is compared with save nothing.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """One process of several takes turns for all: they wait for each other at every step."""
        self.turns = Turns() if trainer.is_global_zero else None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wait for the turn."""
        if self.turns:
            self.turns.wait()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Note when the first step begins."""
        if self.turns:
            self.turns.step()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report."""
        if self.turns:
            if pl_module.device.type != "cpu":
                torch.accelerator.synchronize()
            images = int(trainer.num_training_batches) * trainer.datamodule.batch_size  # type: ignore[attr-defined]
            self.turns.done(images)
