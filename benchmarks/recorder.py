"""The callback that keeps a run's learning curve and its checkpoint, so that an interrupted run goes on exactly."""

import time
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

SAVE_EVERY = 20.0  # seconds: what an interruption costs at most, but for one epoch


class Recorder(Checkpoint):
    """Adds a point to the curve after every epoch, and saves a checkpoint that holds the curve too.

    Args:
        checkpoint: The file that is saved.
        observed: What Lightning calls validation here: val, or test.
        report: Told the share of the run that is done.
    """

    def __init__(self, checkpoint: Path, observed: str, report: Callable[[float], None]) -> None:
        self.curve: list[dict[str, Any]] = []
        self.seconds = 0.0
        self._checkpoint, self._observed, self._report = checkpoint, observed, report
        self._started = self._saved = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._started = self._saved = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the epoch; save, unless that was only just done."""
        row: dict[str, Any] = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step}
        for name, value in sorted(trainer.callback_metrics.items()):
            split, _, what = name.partition("/")
            row[f"{self._observed if split == 'val' else split}/{what}"] = rounded(float(value))
        self.curve.append(row)
        self._report((trainer.current_epoch + 1) / (trainer.max_epochs or 1))
        if time.monotonic() - self._saved > SAVE_EVERY:
            trainer.save_checkpoint(self._checkpoint)
            self._saved = time.monotonic()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self.seconds += time.monotonic() - self._started
        self._started = time.monotonic()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop the clock. Nothing is saved: the averages of an epoch that is not over are in no checkpoint."""
        self.seconds += time.monotonic() - self._started
        self._started = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """The curve and the time so far."""
        return {"curve": self.curve, "seconds": self.seconds + time.monotonic() - self._started}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the curve of the run that is resumed."""
        self.curve, self.seconds = list(state_dict["curve"]), float(state_dict["seconds"])


def rounded(value: float) -> float | None:
    """Six significant digits: what a table or a curve can show; None for what is no number, as JSON has it."""
    return float(f"{value:.6g}") if isfinite(value) else None
