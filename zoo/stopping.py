"""Early stopping, which a run that is resumed does not forget."""

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping


class StopEarly(EarlyStopping):
    """Lightning's early stopping by the accuracy that chooses the best epoch.

    Not by the loss: of a network that is ever more sure of itself it grows while the accuracy still does (Guo et al.
    2017, section 3).

    Args:
        patience: Validations in a row without a higher accuracy after which the run ends.
    """

    def __init__(self, patience: int) -> None:
        # Not strict: a run that ends within its first epoch is never validated.
        super().__init__(monitor="val/acc", mode="max", patience=patience, strict=False)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stay stopped: Lightning would train one more epoch if the run was killed after the one that ended it."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True
