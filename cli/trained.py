"""A trained model and the data that go with it: what every command needs that takes a model which has learnt."""

import importlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from zoo.checkpoint import load
from zoo.classifier import ImageClassifier
from zoo.cli import front
from zoo.cli.errors import UserError, user_errors
from zoo.cli.parser import Parser, restrict_imports
from zoo.cli.progress_bar import read_data
from zoo.datamodules.base import ImageDataModule
from zoo.datamodules.registry import DATASETS

OF_PREPROCESSING = ("image_size", "normalize", "crop", "interpolation", "permute_pixels")
"""Options of the data that follow the weights unless the user says something else."""


def load_trained(where: str) -> ImageClassifier:
    """The model that `zoo.load` finds there, in evaluation mode.

    Raises:
        UserError: If there is none.
    """
    with user_errors(ValueError, OSError):
        return load(where)


def data_for(
    model: ImageClassifier, where: str, arguments: Sequence[str], stage: str, *, same_classes: bool = True
) -> ImageDataModule:
    """The data that the model was trained on, or those that `--data` names, prepared as the model expects images.

    Args:
        model: Tells its data, classes and preprocessing.
        where: What the user called the model by, for messages.
        arguments: The options `--data...` as `front.prepare("data", ...)` returns them.
        stage: fit, validate, test or predict, as in `LightningDataModule.setup`.
        same_classes: Whether the data must have the classes that the model was trained on.

    Raises:
        UserError: If no data are named, or they have other classes or cannot be read.
    """
    keeps_labels = same_classes or front.option([*arguments], "--data") is None
    words = [*(data_words(model.data, arguments) if keeps_labels else []), *arguments]
    if front.option(words, "--data") is None:
        raise UserError(f"'{where}' does not say which data it was trained on: --data NAME --data.root DIR")
    restrict_imports()
    parser = Parser(prog="zoo", description="")
    parser.arguments = words
    parser.add_subclass_arguments(ImageDataModule, "data", required=True)
    config = parser.parse_args(words)
    module, _, name = config.data.class_path.rpartition(".")
    settings = config.data.get("init_args")
    with user_errors(ValueError, TypeError, OSError, ModuleNotFoundError):
        data: ImageDataModule = getattr(importlib.import_module(module), name)(
            **(settings.as_dict() if settings else {})
        )
        if model.preprocessing:
            data.use_preprocessing(model.preprocessing, keep=typed_preprocessing(arguments))
        if same_classes:
            check_classes(data, model.class_names, where)
        read_data(data, stage)
    return data


def typed_preprocessing(arguments: Sequence[str]) -> list[str]:
    """Which of the options that follow a model's weights the user set."""
    return [name for name in OF_PREPROCESSING if front.option([*arguments], f"--data.{name}") is not None]


def data_words(data: Mapping[str, Any], arguments: Sequence[str]) -> list[str]:
    """The options that rebuild the data of a trained model; the user's own come after them and win.

    Args:
        data: What `ImageDataModule.describe` said.
        arguments: What was typed.
    """
    asked = front.option([*arguments], "--data")
    if "name" in data and asked is None:
        arguments_of_data = {key: value for key, value in data["args"].items() if value is not None}
        words = [f"--data=zoo.datamodules.names.{data['name']}"]
        return [*words, *(f"--data.{key}={as_text(value)}" for key, value in arguments_of_data.items())]
    if asked is not None and "classes" in data.get("args", {}) and _has_any_size(asked):
        return [f"--data={asked}", f"--data.classes={as_text(data['class_names'])}"]  # the labels that the model knows
    return []


def _has_any_size(data: str) -> bool:
    spec = DATASETS.get(data.rpartition(".")[2])
    return spec is not None and spec.any_size


def check_classes(data: ImageDataModule, known: Sequence[str] | None, where: str) -> None:
    """The same number of classes is not enough: they must be the same classes in the same order."""
    found = data.class_names
    if known and found != [*known]:
        name = data.spec.name
        raise UserError(f"'{where}' was trained on the classes {shortened(known)}, but {name} has {shortened(found)}")


def shortened(names: Sequence[str]) -> str:
    """The first few of many names."""
    return ", ".join(names[:5]) + (f", ... ({len(names)})" if len(names) > 5 else "")


def as_text(value: Any) -> str:
    """A value as it is typed after an option."""
    return value if isinstance(value, str) else json.dumps(value)
