"""The trained weights that the registry knows, and the facts about them. Reading this needs no torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from zoo.registry import MODELS, nearest

FOLDER = Path(__file__).parent
"""Where the embedded weights lie."""


HUB = "hf-hub:"
"""What a name on the Hugging Face hub starts with: hf-hub:user/name, or hf-hub:user/name@revision."""
SUFFIXES = (".ckpt", ".safetensors", ".pt", ".pth", ".bin", ".tar")
"""A name that ends like this is meant as a file, also if there is none."""


@dataclass(frozen=True)
class Weights:
    """Trained weights of one model.

    Args:
        model: The model's name.
        name: What `pretrained=` and `--model.pretrained` call them.
        data: What they were trained on.
        results: What was measured with them, such as {"top-1 accuracy": "69.758 %"}.
        measured: On what, and by whom.
        recipe: How they were trained.
        licence: Under which terms they may be used, as far as their publisher says.
        size: Size of the file in bytes.
        sha256: Hash of the file; of torchvision's the first eight digits, which is what it publishes.
        preprocessing: How images become what the network sees.
        num_classes: Number of classes.
        class_names: Their names; empty where torchvision has them.
        arguments: Arguments that the model must be built with.
        file: Name of the file in the package, for embedded weights.
        entry: Torchvision's name for them, for its weights.
    """

    model: str
    name: str
    data: str
    results: Mapping[str, str]
    measured: str
    recipe: str
    licence: str
    size: int
    sha256: str
    preprocessing: Mapping[str, Any]
    num_classes: int
    class_names: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    file: str = ""
    entry: str = ""

    @property
    def url(self) -> str:
        """The address of torchvision's weights; empty for embedded ones."""
        network = self.entry.partition("_Weights")[0].lower()
        network = "alexnet-owt" if network == "alexnet" else network
        return f"https://download.pytorch.org/models/{network}-{self.sha256}.pth" if self.entry else ""

    @property
    def where(self) -> str:
        """Where they come from."""
        return f"{self.url} ({self.entry})" if self.entry else "in the package"


@cache
def embedded() -> Mapping[str, Weights]:
    """The weights that lie in the package, by names such as `lenet5.mnist`."""
    facts = json.loads((FOLDER / "embedded.json").read_text())
    return {
        key: Weights(
            **{**values, "class_names": tuple(values["class_names"])}, file=f"{key.replace('.', '_')}.safetensors"
        )
        for key, values in facts.items()
    }


# From torchvision 0.29's weight enums: entry, hash, MiB, top-1 and top-5 accuracy in %, the side to which images are
# resized before 224 x 224 is cut out. A test compares each with torchvision.
_TORCHVISION = (
    ("alexnet", "imagenet", "none", "AlexNet_Weights.IMAGENET1K_V1", "7be5be79", 233.087, 56.522, 79.066, 256),
    ("vgg11", "imagenet", "none", "VGG11_Weights.IMAGENET1K_V1", "8a719046", 506.84, 69.02, 88.628, 256),
    ("vgg11", "imagenet", "batch", "VGG11_BN_Weights.IMAGENET1K_V1", "6002323d", 506.881, 70.37, 89.81, 256),
    ("vgg13", "imagenet", "none", "VGG13_Weights.IMAGENET1K_V1", "19584684", 507.545, 69.928, 89.246, 256),
    ("vgg13", "imagenet", "batch", "VGG13_BN_Weights.IMAGENET1K_V1", "abd245e5", 507.59, 71.586, 90.374, 256),
    ("vgg16", "imagenet", "none", "VGG16_Weights.IMAGENET1K_V1", "397923af", 527.796, 71.592, 90.382, 256),
    ("vgg16", "imagenet", "batch", "VGG16_BN_Weights.IMAGENET1K_V1", "6c64b313", 527.866, 73.36, 91.516, 256),
    ("vgg19", "imagenet", "none", "VGG19_Weights.IMAGENET1K_V1", "dcbb9e9d", 548.051, 72.376, 90.876, 256),
    ("vgg19", "imagenet", "batch", "VGG19_BN_Weights.IMAGENET1K_V1", "c79401a0", 548.143, 74.218, 91.842, 256),
    ("resnet18", "imagenet", "batch", "ResNet18_Weights.IMAGENET1K_V1", "f37072fd", 44.661, 69.758, 89.078, 256),
    ("resnet34", "imagenet", "batch", "ResNet34_Weights.IMAGENET1K_V1", "b627a593", 83.275, 73.314, 91.42, 256),
    ("resnet50", "imagenet", "batch", "ResNet50_Weights.IMAGENET1K_V1", "0676ba61", 97.781, 76.13, 92.862, 256),
    ("resnet50", "imagenet_v2", "batch", "ResNet50_Weights.IMAGENET1K_V2", "11ad3fa6", 97.79, 80.858, 95.434, 232),
    ("resnet101", "imagenet", "batch", "ResNet101_Weights.IMAGENET1K_V1", "63fe2227", 170.511, 77.374, 93.546, 256),
    ("resnet101", "imagenet_v2", "batch", "ResNet101_Weights.IMAGENET1K_V2", "cd907fc2", 170.53, 81.886, 95.78, 232),
    ("resnet152", "imagenet", "batch", "ResNet152_Weights.IMAGENET1K_V1", "394f9c45", 230.434, 78.312, 94.046, 256),
    ("resnet152", "imagenet_v2", "batch", "ResNet152_Weights.IMAGENET1K_V2", "f82ba261", 230.474, 82.284, 96.002, 232),
)
_RECIPES = {
    "imagenet": "torchvision's reference recipe, github.com/pytorch/vision/tree/main/references/classification",
    "imagenet_v2": "torchvision's second recipe, github.com/pytorch/vision/issues/3995",
}


def _torchvision(row: tuple[Any, ...]) -> Weights:
    model, name, norm, entry, sha256, mebibytes, top1, top5, resized = row
    return Weights(
        model=model,
        name=name,
        data="ImageNet-1K, ILSVRC 2012",
        results={"top-1 accuracy": f"{top1} %", "top-5 accuracy": f"{top5} %"},
        measured="50,000 validation images, single 224 crop, by torchvision",
        recipe=_RECIPES[name],
        licence="not stated: torchvision's code is BSD-3-Clause, its weights may be bound by the terms of ImageNet",
        size=round(mebibytes * 2**20),
        sha256=sha256,
        preprocessing={
            "image_size": 224,
            "in_channels": 3,
            "border": 0,
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "crop": 224 / resized,
        },
        num_classes=1000,
        arguments={"norm": norm},
        entry=entry,
    )


@cache
def all_weights() -> tuple[Weights, ...]:
    """All weights that the registry knows; the first of a model are its default."""
    return (*embedded().values(), *map(_torchvision, _TORCHVISION))


def weights_of(model: str) -> list[Weights]:
    """The weights of one model, the default first."""
    return [weights for weights in all_weights() if weights.model == model]


def find_weights(model: str, name: str | bool, arguments: Mapping[str, Any]) -> Weights:
    """The weights of a model by name, for a network that is built with `arguments`.

    Args:
        model: A registered name.
        name: Name of the weights, or True for the model's first ones.
        arguments: What the user says about the network; what is not said is as the weights need it.

    Raises:
        ValueError: If the model has no such weights, or not for a network of that kind.
    """
    known = weights_of(model)
    names = list(dict.fromkeys(weights.name for weights in known))
    if not known:
        have = ", ".join(dict.fromkeys(weights.model for weights in all_weights()))
        raise ValueError(f"{model} has no trained weights of its own, but a file's can be loaded. With weights: {have}")
    wanted = names[0] if name is True else str(name)
    if wanted not in names:
        raise ValueError(f"{model} has no weights '{wanted}', and there is no such file.{nearest(wanted, names)}")
    fitting = [weights for weights in known if weights.name == wanted]
    for weights in fitting:
        if all(arguments.get(key, default_argument(model, key)) == value for key, value in weights.arguments.items()):
            return weights
    needed = {key: [weights.arguments[key] for weights in fitting] for key in fitting[0].arguments}
    key = next(key for key, allowed in needed.items() if key in arguments and arguments[key] not in allowed)
    rule = " or ".join(f"{key} {value}" for value in needed[key])
    raise ValueError(f"{key} is {arguments[key]}: {model}'s weights '{wanted}' are for {rule}")


def default_argument(model: str, name: str) -> Any:
    """The value of a model's argument when nobody says it."""
    import inspect

    from zoo.registry import model_class

    return inspect.signature(model_class(model)).parameters[name].default


def is_listed(name: str) -> bool:
    """Whether this is MODEL.WEIGHTS, such as `lenet5.mnist`."""
    model, _, weights = name.partition(".")
    return model in MODELS and any(known.name == weights for known in weights_of(model))
