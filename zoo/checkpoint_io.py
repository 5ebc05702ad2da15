"""How a trainer reads and writes checkpoints: no code is run, and a crash leaves the previous one intact."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import Strategy

from zoo.weight_files import atomic_file, read_content

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
"""A run's newest checkpoint, and the one before it."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, flushes to the disk, then renames: the previous checkpoint survives any failure.

    The one before `last.ckpt` is kept as `previous.ckpt`, in case a disk damages the newest.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Save `checkpoint` at `path`; at an address, as Lightning does.

        Raises:
            OSError: If the disk is full or the folder cannot be written to.
        """
        if "://" in str(path):
            super().save_checkpoint(checkpoint, str(path), storage_options)
            return
        target = Path(path)
        with atomic_file(target, target.with_name(PREVIOUS) if target.name == LAST else None) as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:  # its archive is incomplete, says torch: what stopped it came before
                raise (error.__context__ or error) from None

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """The tensors and plain values of a local file, on the CPU, whatever is asked for.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is an address, damaged, or holds more than tensors and plain values.
        """
        return read_content(path)


def prepare_trainer(trainer: Trainer) -> None:
    """Let a trainer that has Lightning's own way with checkpoints, which runs what is in them, take ours.

    And let it resume exactly: given `max_steps`, Lightning 2.6 takes a checkpoint of an epoch's end for one of its
    middle, and ends a run that `max_epochs` limits too one epoch early.
    """
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = AtomicCheckpointIO()
    asks_plugin = type(trainer.strategy).load_checkpoint is Strategy.load_checkpoint
    if not (asks_plugin and isinstance(trainer.strategy.checkpoint_io, AtomicCheckpointIO)):
        _look_first(trainer.strategy)
    setattr(trainer.fit_loop, "_iteration_based_training", lambda: False)  # noqa: B010  # it is a method


def _look_first(strategy: Strategy) -> None:
    """Let a strategy that has its own way with checkpoints, or a plugin of the user's, get only what holds no code."""
    load = strategy.load_checkpoint

    def checked(checkpoint_path: Any, *arguments: Any, **options: Any) -> dict[str, Any]:
        read_content(checkpoint_path)
        return load(checkpoint_path, *arguments, **options)

    if "load_checkpoint" not in vars(strategy):
        setattr(strategy, "load_checkpoint", checked)  # noqa: B010  # it is a method
