"""Going on with a run: from which checkpoint, and whether the rest will be what it would have been."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.checkpoint import load_weights, read_checkpoint
from zoo.checkpoint_io import LAST, PREVIOUS
from zoo.cli.errors import UserError, describe
from zoo.resuming import check_same_run, inexact_changes
from zoo.training_state import check_training_state

if TYPE_CHECKING:
    from zoo.cli.training import FitCLI


def newest_checkpoint(folder: Path) -> tuple[Path, dict[str, Any], list[str]]:
    """The newest checkpoint of a run that can be read, its content, and a line if it is not the newest of all.

    Raises:
        UserError: If there is none, or all are damaged.
    """
    files = checkpoint_files(folder)
    faults = [] if files[0].name == LAST else [f"'{folder}' has no checkpoints/{LAST}, though one was written"]
    for file in files:
        try:
            content = read_checkpoint(file, must_be_registered=False)
            return file, content, [f"{fault}: going on from the one before, {file.name}" for fault in faults]
        except ValueError as error:
            faults.append(describe(error))
    raise UserError(f"nothing to resume in '{folder}': {'; '.join(faults)}")


def checkpoint_files(folder: Path) -> list[Path]:
    """The checkpoints of a run, the newest first; UserError if it has none."""
    if (folder / "checkpoints" / LAST).is_dir():
        raise UserError(f"'{folder / 'checkpoints' / LAST}' is a folder, where the checkpoint is written: move it away")
    files = [file for name in (LAST, PREVIOUS) if (file := folder / "checkpoints" / name).is_file()]
    if not files:
        raise UserError(f"nothing to resume in '{folder}': it has no checkpoints/{LAST}")
    return files


def check_checkpoint(cli: "FitCLI", path: Path, checkpoint: dict[str, Any]) -> None:
    """Raise UserError unless training can go on from the checkpoint with the network and the recipe asked for."""
    load_weights(cli.model, checkpoint, path)
    if "optimizer_states" not in checkpoint:
        raise UserError(f"'{path}' holds weights only: training cannot go on from it")
    check_same_run(cli.model, checkpoint["zoo"])
    check_training_state(checkpoint, cli.model, cli.trial, path)


def check_exactness(cli: "FitCLI", checkpoint: dict[str, Any]) -> list[str]:
    """Lines on what makes the rest of the run another than it would have been.

    Raises:
        UserError: If there is something, and the user did not ask to go on all the same.
    """
    differences = [*inexact_changes(cli.model, checkpoint["zoo"]), *_of_data(cli, checkpoint)]
    if differences and not cli.config.resume_inexact:
        what = ", ".join(differences)
        raise UserError(f"not an exact resume: {what}; put it back, or add --resume-inexact to go on all the same")
    return [f"not an exact resume: {line}" for line in differences]


def _of_data(cli: "FitCLI", checkpoint: dict[str, Any]) -> list[str]:
    """Differences of the data, and of what of the trainer decides which images make a step."""
    data, was = cli.datamodule, checkpoint["zoo"]["data"].get("name")
    if was != data.spec.name:
        return [f"data was {was} and is {data.spec.name}"]
    state = checkpoint.get(type(data).__qualname__, {})
    changes: list[str] = data.changes(state, cli.trial)
    return changes
