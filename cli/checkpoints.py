"""The two checkpoints of a run: the best epoch, and the last moment."""

import math
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from zoo.divergence import DivergedError


class BestCheckpoint(ModelCheckpoint):
    """Keeps the epoch with the best validation accuracy.

    On a small validation split the highest accuracy is often an early epoch's luck: one image of 144 is 0.7 %. So
    accuracies within one standard error of the highest count as equal, and among equal epochs the lowest validation
    loss decides (the one-standard-error rule of Breiman et al. 1984, section 3.4.3, with the loss for simplicity).

    Args:
        images: Number of validation images, which the standard error follows from; None if it is not known.
        settings: Arguments of Lightning's ModelCheckpoint.
    """

    def __init__(self, images: int | None, **settings: Any) -> None:
        super().__init__(monitor="val/acc", mode="max", save_on_train_epoch_end=False, **settings)
        self._images = images
        self._highest = 0.0
        self._kept: tuple[float, float] | None = None  # accuracy and loss of the epoch in the file

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        """Whether the current epoch is to replace the one that is kept."""
        if current is None:
            return False
        accuracy, loss = float(current), float(trainer.callback_metrics["val/loss"])
        self._highest = max(self._highest, accuracy)
        margin = 0.0 if self._images is None else standard_error(self._highest, self._images)
        bar = self._highest - margin
        is_better = self._kept is None or (accuracy >= bar and (self._kept[0] < bar or loss <= self._kept[1]))
        if is_better:
            self._kept = (accuracy, loss)
        return is_better

    def state_dict(self) -> dict[str, Any]:
        """Lightning's state, and what is compared with."""
        return {**super().state_dict(), "highest": self._highest, "kept": list(self._kept or ())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on comparing with what was reached before the interruption."""
        super().load_state_dict(state_dict)
        self._highest = state_dict["highest"]
        self._kept = tuple(state_dict["kept"]) or None


class LastCheckpoint(ModelCheckpoint):
    """Keeps the end of the last epoch, or the moment at which the run was interrupted."""

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save what an interruption would lose, but not the weights of a run that diverged."""
        if not isinstance(exception, DivergedError):
            super().on_exception(trainer, pl_module, exception)


def standard_error(accuracy: float, images: int) -> float:
    """Standard error of an accuracy over so many images; Laplace's rule keeps it above zero at 100 %.

    Example:
        >>> round(standard_error(0.98, 100), 4)
        0.0167
    """
    share = (accuracy * images + 1) / (images + 2)
    return math.sqrt(share * (1 - share) / (images + 2))
