"""Every model's class under its registered name: `zoo.names.vgg16`.

The command line and saved configurations refer to models by these classes; Python code calls `zoo.create_model`.
"""

from typing import TYPE_CHECKING

from zoo.registry import MODELS, model_class

if TYPE_CHECKING:
    from zoo.classifier import ImageClassifier


def __getattr__(name: str) -> "type[ImageClassifier]":
    if name not in MODELS:
        raise AttributeError(f"module 'zoo.names' has no model '{name}'")
    return model_class(name)


def __dir__() -> list[str]:
    return list(MODELS)
