"""A PyTorch Lightning model zoo: textbook image classifiers, faithful to their papers, every ablation a flag.

Listing and describing models imports no torch; building one does.

Example:
    >>> import zoo
    >>> model = zoo.create_model("lenet5", num_classes=10)
    >>> zoo.model_info("lenet5").year
    1998
"""

import importlib
from typing import TYPE_CHECKING, Any

from zoo import (  # noqa: F401  importing a family's facts registers its models
    alexnet_facts,
    lenet_facts,
    mlp_facts,
    resnet_facts,
    timm_facts,
    vgg_facts,
)
from zoo._version import __version__
from zoo.recipe import Recipe
from zoo.registry import ModelInfo, create_model, list_models, model_info, register_model

if TYPE_CHECKING:
    from zoo.checkpoint import load
    from zoo.classifier import ImageClassifier
    from zoo.finetune import Finetune

__all__ = [
    "Finetune",
    "ImageClassifier",
    "ModelInfo",
    "Recipe",
    "__version__",
    "create_model",
    "list_models",
    "load",
    "model_info",
    "register_model",
]

_LAZY = {"Finetune": "zoo.finetune", "ImageClassifier": "zoo.classifier", "load": "zoo.checkpoint"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'zoo' has no attribute '{name}'")
