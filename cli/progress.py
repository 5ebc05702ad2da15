"""Progress on the screen: a bar with the time left on a terminal, a line an epoch everywhere."""

import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class RunProgress(ProgressBar):
    """Shows how far the run is. Lightning's own bars restart every epoch and never say when the run will end."""

    def __init__(self) -> None:
        super().__init__()
        self._console = Console(highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._enabled = True
        self._started = self._epoch_started = time.monotonic()
        self._first_batch = 0
        self._told: list[str] = []

    def disable(self) -> None:
        """Lightning calls this on all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Show the progress again."""
        self._enabled = True

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print above the bar."""
        if self._enabled:
            self._console.print(*args)

    def _show(self, label: str, total: int | None) -> None:
        self._hide()
        if self._enabled and self._console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._task = self._bar.add_task(label, total=total)
            self._bar.start()

    def _hide(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    # Training

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what the data module had to adapt, and start the clock."""
        self._tell(trainer)
        self._started = time.monotonic()
        self._first_batch = batches_done(trainer)
        self._show("training", _total_batches(trainer))
        if self._bar is not None:
            self._bar.update(self._task, completed=self._first_batch)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the epoch before: only now are its training metrics known."""
        self._report_epoch(trainer)
        self._epoch_started = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Advance the bar."""
        if self._bar is not None:
            self._bar.advance(self._task)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the last epoch, and what the data module has had to say since; remove the bar."""
        self._report_epoch(trainer)
        self._hide()
        self._tell(trainer)

    def _tell(self, trainer: Trainer) -> None:
        for notice in getattr(trainer.datamodule, "notices", []):  # type: ignore[attr-defined]  # set by fit
            if notice not in self._told:
                self.print(f"note: {notice}")
                self._told.append(notice)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the terminal as it was."""
        self._hide()

    def _report_epoch(self, trainer: Trainer) -> None:
        metrics = trainer.callback_metrics
        if "train/loss" not in metrics or not self._enabled:
            return
        done = batches_done(trainer)
        epoch = done // max(int(trainer.num_training_batches), 1)
        text = f"epoch {epoch}" + (f"/{trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else "")
        for split in ("train", "val"):
            if f"{split}/acc" in metrics:
                text += f"   {split} loss {metrics[f'{split}/loss']:.4f} acc {100 * metrics[f'{split}/acc']:.2f} %"
        text += f"   {time.monotonic() - self._epoch_started:.1f} s"
        total, now = _total_batches(trainer), done - self._first_batch
        if total and now and done < total:
            text += f", {readable_time((time.monotonic() - self._started) / now * (total - done))} left"
        self._console.print(text)

    # Evaluation

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what the data module had to adapt; show a bar over the test batches."""
        self._tell(trainer)
        self._show("testing", _whole(sum(trainer.num_test_batches)))

    def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any) -> None:
        """Advance the bar."""
        self.on_train_batch_end(trainer, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the bar."""
        self._hide()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what the data module had to adapt, when nothing but the validation split is evaluated."""
        if not trainer.training:
            self._tell(trainer)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show a bar over the images' batches."""
        self._show("classifying", _whole(sum(trainer.num_predict_batches)))

    def on_predict_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any) -> None:
        """Advance the bar."""
        self.on_train_batch_end(trainer, pl_module)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the bar."""
        self._hide()


def batches_done(trainer: Trainer) -> int:
    """Training batches since the start of the run, over all epochs and resumptions."""
    return int(trainer.fit_loop.epoch_loop.batch_progress.total.processed)  # type: ignore[attr-defined]  # hinted as its parent


def _whole(number: int | float) -> int | None:
    """The number, or None if it is infinite: streams do not say how many batches they have."""
    return None if number == float("inf") else int(number)


def _total_batches(trainer: Trainer) -> int | None:
    steps = trainer.estimated_stepping_batches
    return int(steps) * trainer.accumulate_grad_batches if steps != float("inf") else None


def readable_time(seconds: float) -> str:
    """`42 s`, `3 min 20 s` or `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
