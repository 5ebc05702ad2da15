"""Going on with a run: from which checkpoint, and whether the rest will be what it would have been."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.checkpoint import load_weights, read_checkpoint
from zoo.checkpoint_io import LAST, PREVIOUS
from zoo.cli.errors import UserError, describe
from zoo.training_state import check_training_state

if TYPE_CHECKING:
    from zoo.cli.training import FitCLI

FIXED = ("optimizer", "lr", "momentum", "weight_decay", "decay_all", "layer_decay")
"""Part of the optimiser's state: the checkpoint's values would silently win."""
FREE = ("epochs", "source")
"""What a run may change and still be the same run: to be made longer is what a finished run is resumed for."""


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
    before = checkpoint["zoo"]["recipe"]
    for name in FIXED:
        now = getattr(cli.recipe, name)
        if before[name] != now:
            raise UserError(f"recipe.{name} was {before[name]} and is {now}: it cannot change within a run")
    follows_epochs = cli.finetune.changes and not (cli.finetune.unfreeze_every or cli.finetune.probe_epochs)
    if follows_epochs and before["epochs"] != cli.recipe.epochs:
        raise UserError(
            f"recipe.epochs was {before['epochs']} and is {cli.recipe.epochs}: what is frozen follows from it"
        )
    for name, was in checkpoint["zoo"].get("finetune", {}).items():
        now = getattr(cli.finetune, name)
        if was != now:
            raise UserError(f"finetune.{name} was {was} and is {now}: it cannot change within a run")
    check_training_state(checkpoint, cli.model, cli.trial, path)


def check_exactness(cli: "FitCLI", checkpoint: dict[str, Any]) -> list[str]:
    """Lines on what makes the rest of the run another than it would have been.

    Raises:
        UserError: If there is something, and the user did not ask to go on all the same.
    """
    differences = [*_of_description(cli, checkpoint["zoo"]), *_of_data(cli, checkpoint)]
    if differences and not cli.config.resume_inexact:
        what = ", ".join(differences)
        raise UserError(f"not an exact resume: {what}; put it back, or add --resume-inexact to go on all the same")
    return [f"not an exact resume: {line}" for line in differences]


def _of_description(cli: "FitCLI", before: dict[str, Any]) -> list[str]:
    """Differences of the network's arguments and of the recipe."""
    arguments = {key: list(value) if isinstance(value, tuple) else value for key, value in cli.model.hparams.items()}
    recipe = {key: value for key, value in cli.recipe.as_dict().items() if key not in FREE}
    was, now = before["recipe"]["epochs"], cli.recipe.epochs
    return [
        *([f"recipe.epochs was {was} and is {now}"] if now < was else []),
        *_differences("model.", before["args"], arguments),
        *_differences("recipe.", before["recipe"], recipe),
    ]


def _of_data(cli: "FitCLI", checkpoint: dict[str, Any]) -> list[str]:
    """Differences of the data, and of what of the trainer decides which images make a step."""
    data, was = cli.datamodule, checkpoint["zoo"]["data"].get("name")
    if was != data.spec.name:
        return [f"data was {was} and is {data.spec.name}"]
    state = checkpoint.get(type(data).__qualname__, {})
    changes: list[str] = data.changes(state, cli.trial)
    return changes


def _differences(prefix: str, before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [
        f"{prefix}{name} was {before[name]} and is {value}"
        for name, value in now.items()
        if name in before and before[name] != value
    ]
