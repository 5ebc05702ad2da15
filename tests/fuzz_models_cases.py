"""What `tests.fuzz_models` draws: models, flags, sizes, recipes and finetuning, sound ones and wrong values."""

import inspect
import re
from dataclasses import dataclass, field
from typing import Any, cast, get_args

import numpy as np
from hypothesis import strategies as st

import zoo
from zoo.finetune import METHODS, Finetune
from zoo.layers import INITS, Activation, Norm
from zoo.mlp import MLPActivation
from zoo.recipe import LOSSES, OPTIMIZERS, SCHEDULES, Recipe
from zoo.registry import model_class
from zoo.resnet import ResNet

HEAVY = [name for name in zoo.list_models() if re.match(r"vgg|alexnet|timm|(resnet|plain)(34|50|101|152|1202)$", name)]
DEEP = [name for name in zoo.list_models() if re.match(r"(resnet|plain)(18|32|44|56|110)$", name)]
SMALL = [name for name in zoo.list_models() if name not in (*HEAVY, *DEEP)]
LEAST = {"lenet": 16, "vgg": 32, "alexnet": 29, "timm": 32}
"""By family: the size around which images are drawn, some of them too small."""
DEPTHS = {"cifar": [8, 14, 20, 26], "imagenet": [18, 34, 50]}
NOT_A_NUMBER = float("nan")


@dataclass(frozen=True)
class Case:
    """One model, and how it is trained.

    Attributes:
        whole: Whether it is trained and saved; else only its shapes are computed, without memory.
        wrong: Place and name of the value that must be refused; empty if the case may be sound.
    """

    name: str
    flags: dict[str, Any]
    recipe: dict[str, Any] = field(default_factory=dict)
    finetune: dict[str, Any] = field(default_factory=dict)
    batch: int = 2
    whole: bool = True
    wrong: str = ""


# What is drawn

NORMS, ACTIVATIONS = st.sampled_from(get_args(Norm)), st.sampled_from(get_args(Activation))
SIZES = st.integers(1, 40)
SHARES = st.sampled_from([0.0, 0.1, 0.5, 0.9])
FLAGS: dict[str, st.SearchStrategy[Any]] = {
    "norm": NORMS,
    "dropout": st.floats(0, 1) | st.sampled_from([0, 1]),
    "activation": ACTIVATIONS,
    "init": st.sampled_from([init for init in INITS if init != "normal(STD)"]) | st.just("normal(0.05)"),
    "hidden": st.none() | st.lists(SIZES, max_size=3),
    "maxout_pieces": st.integers(1, 4),
    "subsampling": st.sampled_from(["max", "average", "trained"]),
    "c3": st.sampled_from(["dense", "partial"]),
    "head": st.sampled_from(["linear", "rbf"]),
    "lrn": st.booleans(),
    "groups": st.sampled_from([1, 2]),
    "overlapping": st.booleans(),
    "shortcut": st.sampled_from("ABC") | st.just("none"),
    "preactivation": st.booleans(),
    "stem": st.sampled_from(["imagenet", "small"]),
    "zero_init_residual": st.none() | st.booleans(),
    "stride_in_1x1": st.booleans(),
    "backbone": st.sampled_from(["test_resnet", "test_efficientnet", "test_vit", "test_convnext", "mobilenetv2_100"]),
}
RECIPES: dict[str, st.SearchStrategy[Any]] = {
    "optimizer": st.sampled_from(OPTIMIZERS),
    "lr": st.sampled_from([1e-4, 1e-3, 0.01, 1]) | st.floats(1e-6, 0.1),
    "momentum": SHARES,
    "weight_decay": SHARES,
    "decay_all": st.booleans(),
    "l1": st.sampled_from([0, 1e-4]),
    "schedule": st.sampled_from(SCHEDULES),
    "milestones": st.sampled_from([(), (0.5,), [0.2, 0.8]]),
    "warmup_epochs": st.sampled_from([0, 0.3, 5.0]),
    "loss": st.sampled_from(LOSSES),
    "label_smoothing": SHARES,
    "ema": SHARES,
    "layer_decay": st.sampled_from([0.1, 0.8, 1]),
    "gradient_clip": st.sampled_from([0, 0.5]),
    "max_norm": st.sampled_from([0, 0.5, 3.0]),
}
FINETUNES: dict[str, st.SearchStrategy[Any]] = {
    "method": st.sampled_from(METHODS),
    "freeze_bn": st.booleans(),
    "head_lr": st.sampled_from([0, 0.1]),
}
MIXES: list[dict[str, Any]] = [*5 * [{}], {"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.2, "cutmix": 0.2}]


def optional(table: dict[str, st.SearchStrategy[Any]], names: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Some of the names, with a value each."""
    return st.fixed_dictionaries({}, optional={name: table[name] for name in names if name in table})


@st.composite
def flags(draw: st.DrawFn, name: str) -> dict[str, Any]:
    """Arguments of a model, about all of which it takes."""
    family = zoo.model_info(name).family_name
    chosen: dict[str, Any] = draw(optional(FLAGS, [*inspect.signature(model_class(name)).parameters]))
    if family == "mlp" and draw(st.booleans()):
        chosen["activation"] = draw(st.sampled_from(get_args(MLPActivation)))
    if family == "resnet" and draw(st.integers(0, 19)):  # else its own
        chosen["depth"] = draw(st.sampled_from(DEPTHS[cast(type[ResNet], model_class(name)).table]))
    size = LEAST.get(family, 4) + draw(st.integers(-1, 8 if family != "resnet" else 36))
    return chosen | {
        "num_classes": draw(st.integers(1, 12)),
        "in_channels": draw(st.integers(1, 4)),
        "image_size": max(size, 1),
    }


@st.composite
def cases(draw: st.DrawFn, heavy: bool = True) -> Case:
    """A sound case, or one that is nearly so.

    Args:
        draw: Given by hypothesis.
        heavy: Train some of the large networks too; else their shapes alone are computed.
    """
    name = draw(st.sampled_from(SMALL) | st.sampled_from(DEEP) | st.sampled_from(HEAVY))
    whole = name in SMALL or (heavy and draw(st.integers(0, 3 if name in DEEP else 15)) == 0)
    recipe = draw(optional(RECIPES, [*RECIPES])) | draw(st.sampled_from(MIXES))
    if recipe.get("optimizer") == "nesterov" and draw(st.booleans()):
        recipe.pop("momentum", None)
    if recipe.get("optimizer") == "lbfgs":
        recipe = {key: recipe[key] for key in ("optimizer", "lr", "loss", "l1", "ema") if key in recipe}
        recipe |= {"weight_decay": 0}
    if recipe.get("loss", "cross_entropy") != "cross_entropy":
        recipe.pop("label_smoothing", None)
    finetune = draw(st.just({}) | optional(FINETUNES, [*FINETUNES])) if whole else {}
    return Case(name, draw(flags(name)), recipe, finetune, draw(st.sampled_from([1, 2, 2, 3, 5, 8])), whole)


# Wrong values: no flag, field or finetuning setting takes any of these

TYPES: list[Any] = [[], {}, b"1", "a\nb", (), object, 2j]
WRONG: dict[Any, list[Any]] = {
    int: [*TYPES, "3", 2.5, NOT_A_NUMBER, float("inf"), -1, None, True, np.int64(3)],
    float: [*TYPES, "0.1", NOT_A_NUMBER, float("inf"), -1, -0.5, None, True, 10**400, np.float64(0.5)],
    bool: [*TYPES, "false", 0, 1, 0.0, np.bool_(True)],
    str: [*TYPES, "", "nonsense", None, 3, True, NOT_A_NUMBER],
    list: ["12", 5, [2.5], [0], [-1], [NOT_A_NUMBER], ["3"], {3: 1}, [10**30], [True], [[3]], [None]],
    tuple: ["0.5", 0.5, (2.0,), (0.7, 0.3), (NOT_A_NUMBER,), ["0.5"], None, (-0.5,), [[0.5]]],
}
SIZE_FLAGS = ("num_classes", "in_channels", "image_size", "depth", "maxout_pieces")


def wrong_values(name: str, hint: Any) -> list[Any]:
    """Values that a setting with this type hint must refuse."""
    if name in ("milestones", "hidden"):
        return WRONG[tuple if name == "milestones" else list]
    kind = next((kind for kind in (bool, int, float) if hint in (kind, kind | None)), str)
    values = [*WRONG[kind], 0, 10**12, 10**30] if name in SIZE_FLAGS else WRONG[kind]
    return [value for value in values if not (name == "source" and isinstance(value, str))]


@st.composite
def wrong_cases(draw: st.DrawFn) -> Case:
    """A case with one value that must be refused."""
    name = draw(st.sampled_from(zoo.list_models()))
    place = draw(st.sampled_from(["flags", "flags", "recipe", "finetune"]))
    owner = {"flags": model_class(name), "recipe": Recipe, "finetune": Finetune}[place]
    parameter = draw(st.sampled_from([*inspect.signature(owner).parameters.values()]))
    value = draw(st.sampled_from(wrong_values(parameter.name, parameter.annotation)))
    settings: dict[str, dict[str, Any]] = {"flags": {}, "recipe": {}, "finetune": {}}
    settings[place] = {parameter.name: value}
    return Case(name, settings["flags"], settings["recipe"], settings["finetune"], wrong=f"{place}.{parameter.name}")
