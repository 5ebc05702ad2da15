"""The options `--recipe...` and `--finetune...`, and what they make of a model's recipe."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import docstring_parser
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from zoo.cli import front
from zoo.cli.errors import UserError
from zoo.finetune import Finetune
from zoo.recipe import WITHOUT_MOMENTUM, Recipe

OTHER_OPTIONS = {
    "batch_size": "data.init_args.batch_size",
    "epochs": "trainer.max_epochs",
    "gradient_clip": "trainer.gradient_clip_val",
}
"""Fields of the recipe that Lightning's users know by another option, and its key in a configuration."""
ENDLESS = {"trainer.max_epochs": -1}
"""What is no value of such a field: a run without end."""


def add_recipe(parser: LightningArgumentParser) -> None:
    """One option for each field of the recipe; what is not said stays as the model's recipe has it."""
    documented = {p.arg_name: p.description for p in docstring_parser.parse(Recipe.__doc__ or "").params}
    text = "The recipe to start from (also --recipe NAME), see zoo info."
    parser.add_argument("--recipe.name", type=str, default="default", help=text)
    for field in fields(Recipe):
        if field.name == "source":
            continue
        kind: Any = list[float] if field.name == "milestones" else field.type
        parser.add_argument(f"--recipe.{field.name}", type=kind | None, default=None, help=documented[field.name])


def add_finetune(parser: LightningArgumentParser) -> None:
    """The trained weights to start from, and one option for each field of `Finetune`."""
    add_pretrained(parser)
    documented = {p.arg_name: p.description for p in docstring_parser.parse(Finetune.__doc__ or "").params}
    for field in fields(Finetune):
        parser.add_argument(
            f"--finetune.{field.name}", type=field.type, default=field.default, help=documented[field.name]
        )


def add_pretrained(parser: LightningArgumentParser) -> None:
    """The option for trained weights, which people write as `--model.pretrained`."""
    text = "Trained weights: true, a name from zoo info, a file, or hf-hub:user/name."
    parser.add_argument("--pretrained", type=bool | str | None, default=None, help=text)


def recipe_changes(said: Namespace, arguments: list[str]) -> dict[str, Any]:
    """The fields of the recipe that the user sets, by its own options or by those that Lightning's users know.

    What is typed wins over what a file says. A recipe that is typed by name starts afresh: of the fields, only those
    typed with it count.

    Args:
        said: What the user said, in files and on the command line, without defaults.
        arguments: The command line.

    Raises:
        UserError: If two options say different things about one field.
    """
    starts_afresh = _is_typed(arguments, "recipe.name")
    changes = {}
    for field in fields(Recipe):
        value = said.get(f"recipe.{field.name}")
        if value is not None and (_is_typed(arguments, f"recipe.{field.name}") or not starts_afresh):
            changes[field.name] = value
    for field_name, key in OTHER_OPTIONS.items():
        value, option = said.get(key), key.replace("init_args.", "")
        is_other_typed, is_own_typed = _is_typed(arguments, option), _is_typed(arguments, f"recipe.{field_name}")
        if value is None or (starts_afresh and not is_other_typed):
            continue
        if changes.get(field_name, value) != value and is_own_typed == is_other_typed:
            raise UserError(f"recipe.{field_name} is {changes[field_name]} and {option} is {value}: say one of them")
        if ENDLESS.get(key) == value:
            if is_other_typed:
                changes.pop(field_name, None)
        elif field_name not in changes or is_other_typed:
            changes[field_name] = value
    return changes


def _is_typed(arguments: list[str], option: str) -> bool:
    return front.option(arguments, f"--{option}") is not None


def resolve_recipe(base: Recipe, changes: Mapping[str, Any], of_files: Mapping[str, Any]) -> tuple[Recipe, str]:
    """The recipe with the user's changes and its rate scaled if they ask for it, and a line for them if it was.

    Once scaled, a rate is for its batch: `scale_lr` is false in what comes out, which config.yaml keeps, so that a run
    that is repeated or resumed has the same rate.

    Args:
        base: The recipe without changes.
        changes: What `recipe_changes` found.
        of_files: What it finds in the files alone: a rate in a file is for the batch size beside it, unless the file
            itself asks for scaling.

    Raises:
        ValueError: If a value breaks its rule.
    """
    of_file = {name: of_files[name] for name in ("lr", "batch_size") if name in of_files}
    if changes.get("scale_lr") and len(of_file) == 2 and not of_files.get("scale_lr"):
        base = base.replace(**of_file)
    recipe = base.replace(**changes)
    given = changes.get("lr", base.lr)
    sizes = f"batch of {recipe.batch_size:,} where it is for {base.batch_size:,}"
    line = f"rate {given:g} times {recipe.batch_size / base.batch_size:g} is {recipe.lr:g}: a {sizes} (recipe.scale_lr)"
    return recipe.replace(scale_lr=False), line if recipe.lr != given else ""


def check_recipe(
    recipe: Recipe, base: Recipe, changes: Mapping[str, Any], said: Namespace, arguments: list[str], epochs: int | None
) -> None:
    """Look for what the user says about training though another setting leaves it nothing to do.

    Args:
        recipe: The recipe with the user's changes.
        base: The recipe without them.
        changes: What `recipe_changes` found.
        said: What the user said, in files and on the command line, without defaults.
        arguments: The command line.
        epochs: Length of the run; None if something else ends it.

    Raises:
        UserError: If there is something.
    """
    for name, reason, owners in _idle(recipe, epochs):
        is_typed = _is_typed(arguments, f"recipe.{name}")
        # A file that a run wrote holds every field, and what is typed over it may leave some of them idle.
        is_of_file = name in changes and getattr(recipe, name) != getattr(base, name)
        if is_typed or (is_of_file and not any(_is_typed(arguments, owner) for owner in owners)):
            raise UserError(f"recipe.{name} is {changes[name]}: {reason}, leave it out")
    if said.get("finetune.method") == "linear" and said.get("finetune.head_lr") and _is_typed(arguments, "recipe.lr"):
        raise UserError(f"recipe.lr is {recipe.lr}: linear trains the last layer alone, which has finetune.head_lr")
    if said.get("finetune.method") == "linear" and said.get("finetune.head_lr") and changes.get("scale_lr"):
        raise UserError("recipe.scale_lr is True: linear trains the last layer alone, which has finetune.head_lr")
    algorithm, least = said.get("trainer.gradient_clip_algorithm"), said.get("trainer.min_epochs")
    if algorithm is not None and not recipe.gradient_clip:
        raise UserError(f"trainer.gradient_clip_algorithm is {algorithm}: nothing is clipped, set recipe.gradient_clip")
    if least is not None and epochs is not None and least > epochs:
        raise UserError(f"trainer.min_epochs is {least}: the run has {epochs} epochs, set recipe.epochs")


def _idle(recipe: Recipe, epochs: int | None) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Fields that have nothing to do, why, and the options that leave them nothing."""
    if recipe.momentum and recipe.optimizer in WITHOUT_MOMENTUM:
        yield "momentum", f"{recipe.optimizer} has none", ("recipe.optimizer",)
    if recipe.schedule != "step":
        yield "milestones", f"the {recipe.schedule} schedule has none", ("recipe.schedule",)
    if recipe.decay_all and not (recipe.weight_decay or recipe.l1):
        yield "decay_all", "nothing decays", ("recipe.weight_decay", "recipe.l1")
    if epochs is not None and recipe.early_stopping >= epochs:
        yield "early_stopping", f"the run has {epochs} epochs", ("recipe.epochs", "trainer.max_epochs")
    if epochs is not None and recipe.warmup_epochs > epochs:
        yield "warmup_epochs", f"the run has {epochs} epochs", ("recipe.epochs", "trainer.max_epochs")
