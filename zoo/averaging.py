"""Averages of the weights, which an interruption leaves as they were."""

from itertools import islice
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import get_ema_avg_fn


class _Average(WeightAveraging):
    """Lightning's average of the weights, with which a run can be interrupted within validation too.

    During validation the average and the weights change places. A checkpoint of that moment would have them the wrong
    way round.
    """

    _is_swapped = False

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate the average."""
        super().on_validation_epoch_start(trainer, pl_module)
        self._is_swapped = True

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on with the weights."""
        if self._is_swapped:
            self._is_swapped = False
            super().on_validation_epoch_end(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Put both where they belong before a checkpoint is written; checkpoints are written last."""
        self.on_validation_epoch_end(trainer, pl_module)


class MovingAverage(_Average):
    """An exponential moving average of the weights after each step.

    Args:
        decay: Share of the average that stays at each step.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(avg_fn=get_ema_avg_fn(decay))  # type: ignore[no-untyped-call]  # torch leaves it untyped


class TailAverage(_Average):
    """Stochastic weight averaging: the mean of the weights at the ends of the last epochs (Izmailov et al. 2018).

    Until there is one, the weights themselves are validated and saved. An epoch's weights join the average before the
    validation of that epoch, so that each average is validated. Then the statistics of batch normalisation are those of
    the averaged weights, as in section 3.2 of the paper; the mean of statistics would be those of no network.

    Args:
        start: Fraction of the run after which epochs count.
    """

    def __init__(self, start: float) -> None:
        super().__init__()
        self._start = start
        self._is_due = False

    @property
    def _has_begun(self) -> bool:
        return bool(self._latest_update_step)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that there is an end to average before."""
        if trainer.estimated_stepping_batches == float("inf"):
            raise ValueError(f"recipe.swa is {self._start}, a fraction of the run: set trainer.max_epochs")

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Whether this step ends an epoch that counts."""
        return step_idx is not None and self._is_due

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        """At the end of an epoch that counts, add the weights to the average."""
        is_end = trainer.is_last_batch or trainer.global_step == trainer.max_steps
        self._is_due = is_end and trainer.global_step > round(self._start * trainer.estimated_stepping_batches)
        before = self._latest_update_step
        super().on_train_batch_end(trainer, pl_module, *args, **kwargs)
        if self._latest_update_step != before:
            self._swap_models(pl_module)
            renew_statistics(trainer, pl_module)
            self._swap_models(pl_module)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate the average if there is one."""
        if self._has_begun:
            super().on_validation_epoch_start(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the average in the model if there is one."""
        if self._has_begun:
            super().on_train_end(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the average as the model's weights if there is one, and beside it those that training goes on with."""
        weights = checkpoint["state_dict"]
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if not self._has_begun:
            checkpoint["state_dict"] = weights


@torch.no_grad()
def renew_statistics(trainer: Trainer, model: LightningModule) -> None:
    """Take the statistics of batch normalisation anew from the training images, on several devices from all of them.

    Layers that are frozen in evaluation mode keep theirs. Nothing but these statistics changes: other layers are in
    evaluation mode meanwhile, and no random number is drawn.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.training]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    model.eval()
    for layer in layers:
        layer.train()
        layer.reset_running_stats()
        layer.momentum = None  # the mean over all batches
    assert trainer.train_dataloader is not None
    for batch in islice(trainer.train_dataloader, int(trainer.num_training_batches)):
        batch = trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))
        with trainer.precision_plugin.forward_context():
            model(batch[0].to(model.dtype))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        for statistic in (layer.running_mean, layer.running_var):
            if statistic is not None and trainer.world_size > 1:
                statistic.copy_(trainer.strategy.reduce(statistic, reduce_op="mean"))
    model.train()
