"""Stopping a run whose numbers are no longer numbers, before anything of it is saved."""

import math

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn


class DivergedError(RuntimeError):
    """The training loss is no longer a finite number."""


def check_loss(loss: Tensor, trainer: Trainer) -> None:
    """Raise DivergedError unless the loss of a training step is finite."""
    if not math.isfinite(loss.item()):
        rate = trainer.optimizers[0].param_groups[-1]["lr"]
        where = f"epoch {trainer.current_epoch + 1}, step {trainer.global_step}, learning rate {rate:.3g}"
        raise DivergedError(f"the training loss is {loss.item()} at {where}: try a lower --recipe.lr")


def check_weights(model: nn.Module, epoch: int) -> None:
    """Raise DivergedError unless all weights are finite at the end of an epoch (0 is the first)."""
    if not all(torch.isfinite(parameter).all() for parameter in model.parameters()):
        raise DivergedError(f"weights are not finite after epoch {epoch + 1}: try a lower --recipe.lr")
