"""Progress with the time left: in the bar on a terminal, and in the line of every epoch."""

import io
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from rich.console import Console

from zoo.cli.progress import RunProgress

BATCHES, EPOCHS = 10, 3
MODEL = L.LightningModule()


@pytest.fixture(autouse=True)
def usual_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment says about terminals does not matter here."""
    monkeypatch.setenv("TERM", "xterm")
    for variable in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(variable, raising=False)


class Clock:
    """Shows the time that it is told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """The time in seconds."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that the progress looks at."""
    clock = Clock()
    monkeypatch.setattr("zoo.cli.progress.time", SimpleNamespace(monotonic=clock))
    return clock


def trainer_at(batch: int, accumulated: int = 1) -> Any:
    """As much of a trainer as the progress looks at, after so many batches of a run of three epochs."""
    total = SimpleNamespace(processed=batch)
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=SimpleNamespace(total=total)))
    return SimpleNamespace(
        fit_loop=loop,
        max_epochs=EPOCHS,
        num_training_batches=BATCHES,
        estimated_stepping_batches=BATCHES * EPOCHS // accumulated,
        accumulate_grad_batches=accumulated,
        callback_metrics={"train/loss": torch.tensor(0.5), "train/acc": torch.tensor(0.75)},
        datamodule=None,
    )


def advance(progress: RunProgress, trainer: Any, batches: int, seconds: float, clock: Clock) -> None:
    """Take so many batches in as many seconds."""
    for _ in range(batches):
        clock.now += seconds / batches
        trainer.fit_loop.epoch_loop.batch_progress.total.processed += 1
        progress.on_train_batch_end(trainer, MODEL)


LINES = {
    "the first epoch": (0, 10, 10.0, "epoch 1/3   train loss 0.5000 acc 75.00 %   10.0 s, 20 s left"),
    "the first two": (0, 20, 40.0, "epoch 2/3   train loss 0.5000 acc 75.00 %   40.0 s, 20 s left"),
    "resumed after an epoch": (10, 10, 20.0, "epoch 2/3   train loss 0.5000 acc 75.00 %   20.0 s, 20 s left"),
    "resumed within an epoch": (15, 5, 10.0, "epoch 2/3   train loss 0.5000 acc 75.00 %   10.0 s, 20 s left"),
    "the whole run": (0, 30, 30.0, "epoch 3/3   train loss 0.5000 acc 75.00 %   30.0 s"),
}
"""After how many batches it began, how many it has taken since in how many seconds, and what it says then."""


@pytest.mark.parametrize("accumulated", [1, 2])
@pytest.mark.parametrize("case", LINES)
def test_the_line_of_an_epoch_ends_with_the_time_left(
    case: str, accumulated: int, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Progress bars with time left: by the pace of this part of the run, whatever an earlier part has done."""
    began, batches, seconds, line = LINES[case]
    progress, trainer = RunProgress(), trainer_at(began, accumulated)
    progress.on_train_start(trainer, MODEL)
    advance(progress, trainer, batches, seconds, clock)
    progress._report_epoch(trainer)
    assert capsys.readouterr().out == f"{line}\n"


@pytest.mark.parametrize("began", [0, 10])
def test_the_bar_on_a_terminal_shows_the_time_left(began: int, clock: Clock) -> None:
    """Progress bars with time left: beside how many batches are done, also of a run that goes on."""
    progress, trainer, shown = RunProgress(), trainer_at(began), io.StringIO()
    progress._console = Console(file=shown, force_terminal=True, color_system=None, width=100, get_time=clock)
    progress.on_train_start(trainer, MODEL)
    advance(progress, trainer, 8, 16.0, clock)
    assert progress._bar is not None
    progress._bar.refresh()
    progress._hide()
    bar = next(line for line in reversed(shown.getvalue().splitlines()) if "training" in line)
    done, left = (8, "0:00:44") if began == 0 else (18, "0:00:24")
    assert f"{done}/30" in bar
    assert left in bar
