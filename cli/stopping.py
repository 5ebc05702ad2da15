"""Ctrl-C, SIGTERM, Slurm's warning: the step is finished, the moment is saved, and the command says how to go on."""

import os
import signal
import threading
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

SIGNALS = (signal.SIGINT, signal.SIGTERM)
EXIT_STATUS = {number: 128 + number for number in signal.Signals}
"""What a shell expects of a process that a signal ended."""


def signals() -> tuple[signal.Signals, ...]:
    """Those that end a run; in a job of Slurm's also what `sbatch --signal=USR1@90` sends before its time is up.

    Lightning would write a checkpoint of its own at that, which a run that is resumed does not read, and put the job
    into the queue again, where the same command begins anew.
    """
    is_slurm = "SLURM_JOB_ID" in os.environ and hasattr(signal, "SIGUSR1")
    return (*SIGNALS, signal.SIGUSR1) if is_slurm else SIGNALS


class StopAfterStep(Callback):
    """Ends training after the step in which a signal came: a step that is half done could not be resumed exactly.

    With several processes all end after the same step, whichever of them the signal reached. A second Ctrl-C does not
    wait for the step.

    Attributes:
        received: The signal, once one came.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._trainer: Trainer | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over from Lightning, which stops in the middle of a step at Ctrl-C.

        Its handler of SIGTERM, which it has set by now, talks to the other processes in the middle of anything.
        """
        self._trainer = trainer
        if threading.current_thread() is threading.main_thread():
            self._before = {name: signal.signal(name, self._note) for name in signals()}

    def _note(self, number: int, _: FrameType | None) -> None:
        self.received = signal.Signals(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        assert self._trainer is not None
        if self._trainer.is_global_zero:  # os.write: print is not to be called while print runs
            os.write(2, b"\nstopping after this step (Ctrl-C again: at once)\n")

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any) -> None:
        """Stop after this step."""
        self._look(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop after this epoch."""
        self._look(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep several processes from stopping within validation: one may have a batch more than the other."""
        if trainer.world_size > 1:
            _stop(trainer, False)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any) -> None:
        """Stop one process within validation, which is done again when the run goes on."""
        if trainer.world_size == 1:
            self._look(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop after validation."""
        self._look(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take Slurm's warning in the test too, as Lightning takes SIGTERM there; the test is done again."""

        def stop(number: int, _: FrameType | None) -> None:
            self.received = signal.Signals(number)
            _stop(trainer)

        if trainer.world_size == 1 and threading.current_thread() is threading.main_thread():
            self._before = {name: signal.signal(name, stop) for name in signals() if name not in SIGNALS}

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give it back."""
        self.on_train_end(trainer, pl_module)

    def _look(self, trainer: Trainer) -> None:
        """Stop if a signal came to any process, but not while gradients are added up, which no checkpoint holds."""
        came = self.received is not None
        if trainer.world_size > 1:
            came = trainer.strategy.reduce_boolean_decision(came, all=False)
        if came:
            self.received = self.received or signal.SIGTERM
            _stop(trainer, not trainer.fit_loop.epoch_loop._should_accumulate())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the signals back."""
        for name, handler in self._before.items():
            signal.signal(name, handler)
        self._before = {}

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the signals back."""
        self.on_train_end(trainer, pl_module)


def _stop(trainer: Trainer, is_wanted: bool = True) -> None:
    """Let Lightning stop where it looks for a signal: at the end of a step, and within validation."""
    trainer._signal_connector.received_sigterm = is_wanted
