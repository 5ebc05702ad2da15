"""A callback that spoils the images of one process."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

STEP = 15


class NoNumber(Callback):
    """From step `STEP` on, the images of one process are no numbers.

    Args:
        process: Which one.
    """

    def __init__(self, process: int) -> None:
        self.process = process

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Spoil them."""
        if trainer.global_rank == self.process and trainer.global_step >= STEP:
            batch[0].fill_(float("nan"))
