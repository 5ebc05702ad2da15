"""The registry: one string per model, and the facts that belong to it. Reading it needs no torch."""

import difflib
import fnmatch
import functools
import importlib
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import FunctionType, MappingProxyType
from typing import TYPE_CHECKING, Any

from zoo.recipe import Recipe

if TYPE_CHECKING:
    from zoo.classifier import ImageClassifier
    from zoo.weights import Weights


@dataclass(frozen=True)
class Paper:
    """Where an architecture was published."""

    authors: str
    title: str
    venue: str
    year: int
    url: str


@dataclass(frozen=True)
class InputSize:
    """The images and classes that a parameter count refers to."""

    in_channels: int
    image_size: int
    num_classes: int

    def __str__(self) -> str:
        return f"{self.in_channels} x {self.image_size} x {self.image_size}, {self.num_classes} classes"


@dataclass(frozen=True)
class PublishedResult:
    """A number that somebody else measured; `text` is the number as the source prints it."""

    metric: str
    text: str
    unit: str
    source: str

    @property
    def value(self) -> float:
        """The number."""
        return float(self.text)


@dataclass(frozen=True)
class Deviation:
    """A difference from the paper, and the flag that removes it (empty if none does)."""

    what: str
    why: str
    flag: str = ""


@dataclass(frozen=True)
class ModelInfo:
    """Everything known about a model before it is built.

    Args:
        name: The model's one name: in Python, on the command line, in configs, checkpoints and test ids.
        family: Import path `module:Class` of the network; the module is imported when the model is first built.
        paper: Where the network was published.
        parameters: Trainable parameters at the paper's input size and classes.
        reference: That input size and number of classes.
        recipes: Training recipes by name; `default` is always there.
        preset: Class attributes that pick this model's row of the family's table.
        defaults: Arguments of the family's constructor that have another default in this model.
        summary: One line that says what the network is.
        image_size: Side in pixels to which the command line enlarges the images of a data set that has smaller ones.
        deviations: What differs from the paper.
        published: Numbers from the paper and other sources.
        notes: What else one should know before using it.
    """

    name: str
    family: str
    paper: Paper
    parameters: int
    reference: InputSize
    recipes: Mapping[str, Recipe]
    preset: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    summary: str = ""
    image_size: int = 1
    deviations: tuple[Deviation, ...] = ()
    published: tuple[PublishedResult, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def year(self) -> int:
        """Year of the paper."""
        return self.paper.year

    @property
    def weights(self) -> "list[Weights]":
        """The trained weights that `create_model(..., pretrained=...)` knows, the default first."""
        from zoo.weights import weights_of

        return weights_of(self.name)

    @property
    def family_name(self) -> str:
        """The family's short name: the beginning of its module's."""
        return self.family.partition(":")[0].rpartition(".")[2].partition("_")[0]

    def recipe(self, name: str = "default") -> Recipe:
        """The recipe called `name`.

        Raises:
            ValueError: If the model has no such recipe; the message lists those it has.
        """
        if name not in self.recipes:
            raise ValueError(f"{self.name} has no recipe '{name}'.{nearest(name, self.recipes)}")
        return self.recipes[name]


_MODELS: dict[str, ModelInfo] = {}
MODELS: Mapping[str, ModelInfo] = MappingProxyType(_MODELS)


def register_model(info: ModelInfo) -> ModelInfo:
    """Add a model.

    Raises:
        ValueError: If the name is taken or the default recipe is missing.
        TypeError: If it is no `ModelInfo`.
    """
    if not isinstance(info, ModelInfo):
        raise TypeError(f"{info!r:.60} is no ModelInfo")
    if info.name in _MODELS:
        raise ValueError(f"model '{info.name}' is already registered: names are unique")
    if "default" not in info.recipes:
        raise ValueError(f"model '{info.name}' has no 'default' recipe: every model has one that converges")
    _MODELS[info.name] = info
    return info


def closest(value: str, choices: Iterable[str]) -> str | None:
    """The choice most like `value`; among equals the one with the same letters (`vgg61` is `vgg16`, not `vgg19`)."""
    ratios = {choice: difflib.SequenceMatcher(None, value, choice).ratio() for choice in choices}
    best = max(ratios, key=lambda choice: (ratios[choice], sorted(choice) == sorted(value)), default=None)
    return best if best is not None and ratios[best] >= 0.5 else None


def nearest(value: str, choices: Iterable[str]) -> str:
    """The end of an error message: the nearest choice, then all of them."""
    known = list(choices)
    close = closest(value, known)
    hint = f" Did you mean '{close}'?" if close else ""
    return f"{hint} Known: {', '.join(known)}."


def list_models(
    pattern: str = "*",
    *,
    family: str | None = None,
    max_parameters: int | None = None,
    min_year: int | None = None,
) -> list[str]:
    """Names of the registered models, in order of registration.

    Args:
        pattern: A shell pattern that the name matches.
        family: One of `families()`.
        max_parameters: The largest number of parameters, at the model's own input size.
        min_year: The first year of publication.

    Example:
        >>> list_models("vgg1*")
        ['vgg11', 'vgg11_lrn', 'vgg13', 'vgg16c', 'vgg16', 'vgg19']
        >>> list_models(family="resnet", max_parameters=500_000)
        ['resnet20', 'resnet32', 'plain20', 'plain32']
    """
    return [
        name
        for name, info in MODELS.items()
        if fnmatch.fnmatchcase(name, pattern)
        and family in (None, info.family_name)
        and (max_parameters is None or info.parameters <= max_parameters)
        and (min_year is None or info.year >= min_year)
    ]


def families() -> list[str]:
    """Names of the families, such as vgg, in order of registration."""
    return list(dict.fromkeys(info.family_name for info in MODELS.values()))


def model_info(name: str) -> ModelInfo:
    """The facts about a model.

    Raises:
        ValueError: If no model has that name; the message gives the nearest one.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model '{name}'.{nearest(str(name), MODELS)}")
    return MODELS[name]


@cache
def model_class(name: str) -> "type[ImageClassifier]":
    """The class called `name`: a subclass of its family with the preset as class attributes.

    It lives in `zoo.names`, so that its import path, the short name in a config and `type(model).__name__` agree.
    """
    info = model_info(name)
    module, _, family = info.family.partition(":")
    parent: type[ImageClassifier] = getattr(importlib.import_module(module), family)
    body = {"__module__": "zoo.names", "__doc__": parent.__doc__, **info.preset}
    if info.defaults:
        body["__init__"] = _with_defaults(parent.__init__, info.defaults)
    return type(name, (parent,), body)


def _with_defaults(function: Any, defaults: Mapping[str, Any]) -> FunctionType:
    """The same function with other default values: what a caller, the help and a saved configuration then see."""
    same = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    functools.update_wrapper(same, function)
    del same.__dict__["__wrapped__"]  # else `inspect.signature` would look through it
    parameters = inspect.signature(function).parameters.values()
    assert defaults.keys() <= {parameter.name for parameter in parameters}, defaults
    same.__defaults__ = tuple(defaults.get(p.name, p.default) for p in parameters if p.default is not p.empty)
    return same


def create_model(
    name: str, *, pretrained: str | bool | None = None, recipe: "str | Recipe" = "default", **arguments: Any
) -> "ImageClassifier":
    """Build a model by name.

    Args:
        name: A name from `list_models()`, or hf-hub:user/name for a model that somebody published.
        pretrained: Start from trained weights: True for the model's first ones, a name that `zoo info` lists, for
            `timm` True or a tag of its weights, a local file, or hf-hub:user/name. What the weights need (image size,
            classes, channels) is then the default of the arguments; with other classes the last layer is new.
        recipe: Name of one of the model's recipes, or a `Recipe` of your own.
        arguments: The constructor's arguments: `num_classes`, `in_channels`, `image_size`, `norm`, `dropout`,
            `activation`, `init` and what the family adds.

    Returns:
        An `ImageClassifier`: a LightningModule, and an ordinary `nn.Module` from images to logits.

    Raises:
        ValueError: If the name, an argument's value or the recipe is unknown, or the weights do not fit.
        TypeError: If the model takes no argument of that name.
        FileNotFoundError: If the weights are a file that is not there.
        ConnectionError: If the weights are on the network, which cannot be reached.

    Example:
        >>> model = create_model("vgg16", num_classes=37, norm="batch")
        >>> type(model).__name__
        'vgg16'
    """
    if isinstance(name, str) and name.startswith("hf-hub:"):
        from zoo.checkpoint import read_checkpoint
        from zoo.pretrained import hub_path

        pretrained, name = name, read_checkpoint(hub_path(name))["zoo"]["name"]
    info = model_info(name)
    chosen = info.recipe(recipe) if isinstance(recipe, str) else recipe
    if not isinstance(chosen, Recipe):
        raise TypeError(f"recipe is {recipe!r:.60}: it must be a name or a zoo.Recipe")
    if pretrained:
        from zoo.pretrained import create_pretrained

        model = create_pretrained(name, pretrained, arguments)
    else:
        model = model_class(name)(**arguments)
    model.recipe = chosen
    return model
