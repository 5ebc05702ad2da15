"""Stopping a run whose numbers are no longer numbers, before anything of it is saved."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

GPU_CHECK_INTERVAL = 50
"""On a GPU, reading the loss waits for the device: the check for a finite loss runs once in this many steps."""
TOLERATED = 5
"""Under 16-mixed, losses in a row that may overflow: the gradient scaler leaves such steps out."""


class DivergedError(RuntimeError):
    """The training loss, or what is trained, is no longer a finite number."""


class LossWatch:
    """Stops a run whose training loss is not finite: at once, under 16-mixed when it has not been for several steps."""

    def __init__(self) -> None:
        self._in_a_row = 0

    def check(self, loss: Tensor, batch_idx: int, trainer: Trainer) -> None:
        """Look at the loss of a training step: on a CPU of each, else of one in `GPU_CHECK_INTERVAL`, on a TPU of none.

        A TPU would have to run the half of the step that there is so far; `check_weights` looks after each epoch.

        Args:
            loss: The loss; of several processes, what all of them know, so that they end at the same step.
            batch_idx: The number of the step in its epoch.
            trainer: Who takes the step.

        Raises:
            DivergedError: If it is not finite, with epoch, step and rate.
        """
        if loss.device.type == "xla":
            return
        is_due = loss.device.type == "cpu" or batch_idx % GPU_CHECK_INTERVAL == 0
        if not (is_due or self._in_a_row):  # after one that was not finite, look at each
            return
        value = loss.item()
        self._in_a_row = 0 if math.isfinite(value) else self._in_a_row + 1
        if self._in_a_row > (TOLERATED if trainer.precision == "16-mixed" else 0):
            rate = trainer.optimizers[0].param_groups[-1]["lr"]
            where = f"epoch {trainer.current_epoch + 1}, step {trainer.global_step}, learning rate {rate:.3g}"
            raise DivergedError(f"the training loss is {value} at {where}: try a lower --recipe.lr")


def check_weights(model: nn.Module, epoch: int) -> None:
    """Raise DivergedError unless weights and statistics are finite at the end of an epoch (0 is the first)."""
    _check("weights", model.state_dict(), epoch)


def check_checkpoint(checkpoint: Mapping[str, Any]) -> None:
    """Raise DivergedError unless all that a checkpoint is to hold of the training is finite.

    That is weights, statistics of batch normalisation, the moving average beside them, and the optimiser's state.
    """
    epoch = checkpoint["epoch"]
    for part in ("state_dict", "current_model_state"):
        _check("weights", checkpoint.get(part, {}), epoch)
    _check("the optimizer's numbers", checkpoint.get("optimizer_states", ()), epoch)


def _check(what: str, values: object, epoch: int) -> None:
    for name, tensor in _tensors(values):
        if not torch.isfinite(tensor).all():
            raise DivergedError(f"{what} are not finite after epoch {epoch + 1} ({name}): try a lower --recipe.lr")


def _tensors(values: object, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """All tensors of numbers in nested dictionaries and lists, with the innermost name of each."""
    if isinstance(values, Tensor):
        yield name, values
    elif isinstance(values, Mapping):
        for key, value in values.items():
            yield from _tensors(value, str(key))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value, name)
