"""The options `--recipe...` and `--finetune...`, and what they make of a model's recipe."""

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
        UserError: If two options say different things about one field, or one that is typed would have no effect.
    """

    def is_typed(option: str) -> bool:
        return front.option(arguments, f"--{option}") is not None

    starts_afresh = is_typed("recipe.name")
    changes = {}
    for field in fields(Recipe):
        value = said.get(f"recipe.{field.name}")
        if value is not None and (is_typed(f"recipe.{field.name}") or not starts_afresh):
            changes[field.name] = value
    for field_name, key in OTHER_OPTIONS.items():
        value, option = said.get(key), key.replace("init_args.", "")
        if value is None or value == -1 or (starts_afresh and not is_typed(option)):
            continue
        if changes.get(field_name, value) != value and is_typed(f"recipe.{field_name}") == is_typed(option):
            raise UserError(f"recipe.{field_name} is {changes[field_name]} and {option} is {value}: say one of them")
        if field_name not in changes or is_typed(option):
            changes[field_name] = value
    optimizer, momentum = changes.get("optimizer"), changes.get("momentum")
    if momentum and optimizer in WITHOUT_MOMENTUM and is_typed("recipe.momentum"):
        raise UserError(f"recipe.momentum is {momentum}: {optimizer} has none, leave it out")
    return changes
