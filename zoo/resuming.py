"""What may not change, and what is said if it does, between a checkpoint and the training that goes on from it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.classifier import ImageClassifier

FIXED = ("optimizer", "lr", "momentum", "weight_decay", "decay_all", "layer_decay")
"""Part of the optimiser's state: the checkpoint's values would silently win."""
FREE = ("epochs", "source")
"""What a run may change and still be the same run: to be made longer is what a finished run is resumed for."""


def check_same_run(model: "ImageClassifier", before: Mapping[str, Any]) -> None:
    """Check that what the optimiser and the frozen layers follow from is as it was.

    Args:
        model: With its recipe and `finetune`.
        before: What the checkpoint says of the model, as `ImageClassifier.description` gave it.

    Raises:
        ValueError: If something of it has changed.
    """
    recipe, finetune, was = model.recipe, model.finetune, before["recipe"]
    changes = _differences("recipe.", was, {name: getattr(recipe, name) for name in FIXED})
    changes += _differences("finetune.", before.get("finetune", {}), finetune.as_dict())
    if changes:
        raise ValueError(f"{changes[0]}: it cannot change within a run")
    follows_epochs = finetune.changes and not (finetune.unfreeze_every or finetune.probe_epochs)
    if follows_epochs and was["epochs"] != recipe.epochs:
        raise ValueError(f"recipe.epochs was {was['epochs']} and is {recipe.epochs}: what is frozen follows from it")


def inexact_changes(model: "ImageClassifier", before: Mapping[str, Any]) -> list[str]:
    """Lines on the network's arguments and the recipe: what makes the rest of a run another than it would have been."""
    arguments = {key: list(value) if isinstance(value, tuple) else value for key, value in model.hparams.items()}
    recipe = {key: value for key, value in model.recipe.as_dict().items() if key not in FREE}
    was, now = before["recipe"]["epochs"], model.recipe.epochs
    return [
        *([f"recipe.epochs was {was} and is {now}"] if now < was else []),
        *_differences("model.", before["args"], arguments),
        *_differences("recipe.", before["recipe"], recipe),
    ]


def _differences(prefix: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        f"{prefix}{name} was {before[name]} and is {value}"
        for name, value in now.items()
        if name in before and before[name] != value
    ]
