"""`Settings`: everything that the result of one run depends on, as plain values, and the hash that names it.

A suite, a row or the command changes settings by the names that `zoo fit` has for them: model, model.norm, data,
data.train_size, recipe, recipe.lr, finetune, pretrained; and by the few in `PROTOCOL`, which say how a run is measured.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zoo.benchmarks.measures import MEASURES
from zoo.recipe import Recipe
from zoo.registry import model_info, nearest

RESULTS_VERSION = 1
"""Raised when a change of the code changes the numbers of a run: results of another version are never mixed in."""

PROTOCOL: dict[str, Any] = {
    # Which weights to start from, and what of them is trained: as `zoo fit --pretrained --finetune` takes them.
    "pretrained": "",
    "finetune": "none",
    # false: the weights are measured as they are.
    "train": True,
    "precision": "32-true",
    # Of each run; 0 is torch's own choice. Sums of floats come out a little different with other numbers.
    "threads": 1,
    # The weights that are tested: of the last epoch, or of that with the least validation loss (best).
    "select": "last",
    # What the learning curve shows besides the training images: val, or test, with no validation then.
    "curve": "val",
    # What else is measured: names of zoo.benchmarks.measures.
    "measure": [],
    # Networks whose probabilities are averaged; if there are several, each is trained on a bootstrap sample.
    "members": 1,
}
"""What a run is besides model, data and recipe, with the defaults."""
CHOICES: dict[str, tuple[Any, ...]] = {
    "select": ("last", "best"),
    "curve": ("val", "test"),
    "train": (True, False),
    "precision": ("32-true", "bf16-mixed", "16-mixed", "bf16-true", "64-true"),
}
NAMED = ("model", "data", "recipe")
PREFIXES = tuple(f"{name}." for name in (*NAMED, "finetune"))


@dataclass(frozen=True)
class Settings:
    """One run but for its seed.

    Args:
        model: Name of a model.
        model_arguments: What its constructor is told.
        data: Name of a data set.
        data_options: What its data module is told, but for the root, the seed and the batch size.
        recipe: The complete recipe.
        finetune: The fields of `zoo.Finetune` that are set.
        protocol: The rest, see `PROTOCOL`.
    """

    model: str
    model_arguments: dict[str, Any]
    data: str
    data_options: dict[str, Any]
    recipe: dict[str, Any]
    finetune: dict[str, Any] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=lambda: dict(PROTOCOL))

    @classmethod
    def of(cls, changes: Mapping[str, Any]) -> "Settings":
        """The run that these settings describe.

        Raises:
            ValueError: A setting is unknown, a value is not allowed, or the model is missing.
        """
        for name, value in changes.items():
            check_setting(name, value)
        if "model" not in changes:
            raise ValueError("a run needs a model")
        if changes.get("curve") == "test" and changes.get("select") == "best":
            raise ValueError("select is best and curve is test: nothing may be chosen on test images")
        parts = {prefix: _part(changes, prefix) for prefix in PREFIXES}
        info = model_info(str(changes["model"]))
        recipe = info.recipe(str(changes.get("recipe", "default"))).replace(**parts["recipe."])
        protocol = {name: changes.get(name, default) for name, default in PROTOCOL.items()}
        return cls(
            model=info.name,
            model_arguments=parts["model."],
            data=str(changes.get("data", "digits")),
            data_options=parts["data."],
            # Where the values come from has no part in what they do.
            recipe={name: value for name, value in recipe.as_dict().items() if name != "source"},
            finetune={"method": protocol.pop("finetune"), **parts["finetune."]},
            protocol=protocol,
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in result files."""
        return dataclasses.asdict(self)

    def digest(self) -> str:
        """Names these settings: the same for every seed and all data of that name.

        What is as by default is left out, so that a new field which is off by default changes no names.
        """
        defaults: dict[str, dict[str, Any]] = {
            "recipe": Recipe().as_dict(),
            "finetune": {"method": PROTOCOL["finetune"]},
            "protocol": PROTOCOL,
        }
        parts = {name: _differing(part, defaults.get(name, {})) for name, part in self.as_dict().items()}
        return _hash({"version": RESULTS_VERSION, **parts})

    def key(self, seed: int, fingerprint: str) -> str:
        """Names a run: everything that its numbers depend on."""
        return _hash({"settings": self.digest(), "seed": seed, "data": fingerprint})


def check_setting(name: str, value: Any) -> None:
    """Raise ValueError unless there is a setting of that name which can have this value."""
    check_name(name)
    if name in CHOICES and value not in CHOICES[name]:
        raise ValueError(f"{name} is {value}: it must be one of {', '.join(map(str, CHOICES[name]))}")
    if name == "members" and (not isinstance(value, int) or value < 1):
        raise ValueError(f"members is {value}: it must be a whole number, at least 1")
    for measure in value if name == "measure" else ():
        if measure not in MEASURES:
            raise ValueError(f"unknown measure '{measure}'.{nearest(str(measure), list(MEASURES))}")
    if isinstance(value, dict):
        raise ValueError(f"{name} is {value}: write '{name}.NAME: VALUE' for each of its settings")


def check_name(name: str) -> None:
    """Raise ValueError unless there is a setting of that name."""
    known = [*NAMED, *PROTOCOL, *(f"recipe.{field.name}" for field in dataclasses.fields(Recipe))]
    is_nested = name.startswith(PREFIXES) and not name.startswith("recipe.")
    if name not in known and not is_nested:
        raise ValueError(f"unknown setting '{name}'.{nearest(name, known)}")


def number_or_text(value: Any) -> Any:
    """A text such as 1e-3, which YAML takes for no number, as a number; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


def _part(changes: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The settings whose names start with `prefix`, without it."""
    return {
        name.removeprefix(prefix): number_or_text(value) for name, value in changes.items() if name.startswith(prefix)
    }


def _differing(part: Any, defaults: Mapping[str, Any]) -> Any:
    """The entries of a mapping that are not as by default; anything else as it is."""
    if not isinstance(part, Mapping):
        return part
    return {name: value for name, value in part.items() if name not in defaults or value != defaults[name]}


def _hash(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
