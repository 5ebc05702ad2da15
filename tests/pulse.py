"""Callbacks that tell another process how far a run is, or send it a signal; it trains as it would without them.

Environment variables say what to do: a configuration file keeps the callbacks, and what goes on with its run has none.
"""

import os
import signal
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

PULSE = "ZOO_TEST_PULSE"
"""Names the file that the number of the step is written to."""
SIGNALS = "ZOO_TEST_SIGNALS"
"""Names signals, the stage and the number of its batch in which they come: `SIGINT,SIGINT train 3`."""


class Pulse(Callback):
    """Writes, when a training step begins, how many came before it; written anew by a run that goes on."""

    def __init__(self) -> None:
        self._file = os.open(os.environ[PULSE], os.O_WRONLY | os.O_CREAT)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """One write of a fixed width: whoever reads, or kills this process, never sees half of it."""
        if trainer.is_global_zero:
            os.pwrite(self._file, b"%08d" % trainer.global_step, 0)


def step_in(file: Path) -> int:
    """The step that a run is at; -1 before the first."""
    text = file.read_text() if file.exists() else ""
    return int(text) if len(text) == 8 else -1


class Signals(Callback):
    """Sends its own process signals when the given batch of a stage begins, counted from the start of the run."""

    def __init__(self) -> None:
        names, self._stage, number = (os.environ.get(SIGNALS) or " none 0").split(" ")
        self._signals = [signal.Signals[name] for name in names.split(",") if name]
        self._left = int(number)

    def on_train_batch_start(self, *_: Any) -> None:
        """A training step begins."""
        self._count("train")

    def on_validation_batch_start(self, *_: Any) -> None:
        """A batch of validation begins."""
        self._count("validation")

    def on_test_batch_start(self, *_: Any) -> None:
        """A batch of the test begins."""
        self._count("test")

    def on_predict_batch_start(self, *_: Any) -> None:
        """A batch of images to classify begins."""
        self._count("predict")

    def _count(self, stage: str) -> None:
        if stage == self._stage:
            self._left -= 1
            for name in self._signals if self._left == 0 else ():
                os.kill(os.getpid(), name)
