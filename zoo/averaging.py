"""The moving average of the weights, which an interruption leaves as it was."""

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging


class MovingAverage(EMAWeightAveraging):
    """Lightning's exponential moving average, with which a run can be interrupted within validation too.

    During validation the average and the weights change places. A checkpoint of that moment would have them the wrong
    way round.

    Args:
        decay: Share of the average that stays at each step.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(decay=decay)
        self._is_swapped = False

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate the average."""
        super().on_validation_epoch_start(trainer, pl_module)
        self._is_swapped = True

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on with the weights."""
        self._is_swapped = False
        super().on_validation_epoch_end(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Put both where they belong before a checkpoint is written; checkpoints are written last."""
        if self._is_swapped:
            self.on_validation_epoch_end(trainer, pl_module)
