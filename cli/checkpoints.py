"""The two checkpoints of a run: the best epoch, and the last moment."""

import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from zoo.checkpoint_io import LAST
from zoo.divergence import DivergedError, check_weights


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
        assert self.dirpath is not None
        if is_lost(state_dict, Path(self.dirpath)):
            return  # and choose anew
        super().load_state_dict(moved(state_dict, Path(self.dirpath)))
        self._highest = state_dict["highest"]
        self._kept = tuple(state_dict["kept"]) or None


class LastCheckpoint(ModelCheckpoint):
    """Keeps the end of the last epoch, or a later moment: every so many steps, and where the run was interrupted.

    Args:
        every: Steps after which to save within an epoch too; 0 for its end alone.
        settings: Arguments of Lightning's ModelCheckpoint.
    """

    def __init__(self, every: int = 0, **settings: Any) -> None:
        name = LAST.removesuffix(self.FILE_EXTENSION)
        super().__init__(filename=name, save_on_train_epoch_end=True, save_on_exception=True, **settings)
        self._every = every
        self._is_training = False
        self._repeats_validation = False
        self._row: dict[str, float] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Only from here on is everything in place that a run which is resumed had."""
        super().on_train_start(trainer, pl_module)
        self._is_training = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on, the weights are those of the best epoch."""
        super().on_train_end(trainer, pl_module)
        self._is_training = False

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any) -> None:
        """Save, if it is time; before a validation it is not, since a run that is resumed would leave it out."""
        if self._every and not _validation_follows(trainer):
            self._save_within_epoch(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, if it was time before a validation within the epoch."""
        if self._every and self._is_training:
            self._save_within_epoch(trainer)

    def _save_within_epoch(self, trainer: Trainer) -> None:
        """Save, if it is time; the end of an epoch has its own turn."""
        step = trainer.global_step
        is_due = step % self._every == 0 and step != self._last_global_step_saved
        if is_due and not trainer.is_last_batch:
            self._save_checkpoint(trainer, self.format_checkpoint_name({}))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, with the averages of the epoch too: they are logged only after this, when the run may be gone."""
        averages = {name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith("train/")}
        self._row = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step - 1, **averages}
        super().on_train_epoch_end(trainer, pl_module)
        self._row = {}

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save what an interruption would lose, but nothing that is half done and no weights that diverged."""
        loop = trainer.fit_loop.epoch_loop
        batches = loop.batch_progress.current
        is_between_steps = self._is_training and batches.ready == batches.completed and not loop._should_accumulate()
        # A second Ctrl-C may come in the middle of anything; another exception may have come to one process alone.
        is_agreed = isinstance(exception, SIGTERMException) or trainer.world_size == 1
        if is_between_steps and is_agreed and not isinstance(exception, KeyboardInterrupt):
            self._repeats_validation = trainer.validating
            # What is said of a full disk is the first failure to write, not the second.
            with suppress(DivergedError, *([OSError] if isinstance(exception, OSError) else [])):
                super().on_exception(trainer, pl_module, exception)
        self._is_training = self._repeats_validation = False

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the epoch's averages; have a validation that was broken off done again, where Lightning skips it."""
        if self._row:
            checkpoint["row"] = self._row
        if self._repeats_validation:
            none = dict.fromkeys(("ready", "started", "processed", "completed"), 0)
            progress = {"total": {**none, "ready": 1, "started": 1}, "current": none, "is_last_batch": False}
            checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"] = progress

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        check_weights(trainer.lightning_module, trainer.current_epoch)
        super()._save_checkpoint(trainer, filepath)


def _validation_follows(trainer: Trainer) -> bool:
    """Whether Lightning is about to validate, in the middle or at the end of an epoch."""
    loop = trainer.fit_loop
    assert loop._data_fetcher is not None
    return loop.epoch_loop._should_check_val_fx(loop._data_fetcher)


def lost_best(folder: Path, checkpoint: Mapping[str, Any]) -> list[str]:
    """A line for the user if the best epoch of a run that goes on is no longer there."""
    states = [state for state in checkpoint.get("callbacks", {}).values() if "kept" in state]
    if not any(is_lost(state, folder / "checkpoints") for state in states):
        return []
    return [f"'{folder / 'checkpoints'}' has no best.ckpt any more: the best epoch is that of those that follow"]


def is_lost(state: Mapping[str, Any], folder: Path) -> bool:
    """Whether there was a best epoch, which is neither in the folder nor where it was written."""
    path = state.get("best_model_path", "")
    return bool(path) and not any(place.is_file() for place in (folder / Path(path).name, Path(path)))


def moved(state: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The state of a `ModelCheckpoint`, its absolute paths in `folder` if the run was moved or copied there."""

    def here(path: str) -> str:
        return str(folder / Path(path).name) if path else path

    if not Path(here(state["best_model_path"])).is_file():  # a new run that goes on from another one's checkpoint
        return state
    paths = {key: here(state[key]) for key in ("best_model_path", "kth_best_model_path", "last_model_path")}
    best = {here(path): score for path, score in state["best_k_models"].items()}
    return {**state, **paths, "best_k_models": best, "dirpath": str(folder)}


def standard_error(accuracy: float, images: int) -> float:
    """Standard error of an accuracy over so many images; Laplace's rule keeps it above zero at 100 %.

    Example:
        >>> round(standard_error(0.98, 100), 4)
        0.0167
    """
    share = (accuracy * images + 1) / (images + 2)
    return math.sqrt(share * (1 - share) / (images + 2))
