"""The argument parser of a verb: short errors, no abbreviations, an allow-list for class paths, a readable help."""

import inspect
import os
import re
import sys
from enum import Enum
from functools import cache, reduce
from operator import or_
from types import UnionType
from typing import Any, NoReturn, Union, get_args, get_origin

import docstring_parser
import jsonargparse
import yaml
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from zoo.cli.effects import check_effects
from zoo.cli.errors import UserError
from zoo.cli.hardware import presets
from zoo.cli.messages import shorten
from zoo.datamodules import names, parameters
from zoo.datamodules.augment import POLICIES
from zoo.datamodules.options import DataOptions
from zoo.datamodules.registry import DATASETS
from zoo.layers import INITS, Activation, Norm
from zoo.precision import AUTO, PRECISIONS
from zoo.registry import MODELS, model_class

ALLOWED_IMPORTS = ["zoo", "lightning.pytorch", "torch.optim", "torch.nn"]
"""A configuration names classes, and naming one runs it: only these packages, and those in ZOO_ALLOW_IMPORTS."""

COMMON = {
    "What to train": ("model", "data", "config", "seed_everything"),
    "From what": ("pretrained", "finetune.method"),
    "How": ("recipe.name", "recipe.epochs", "recipe.lr", "recipe.batch_size", "recipe.optimizer"),
    "On what": ("precision", "trainer.accelerator", "trainer.devices", "trainer.strategy"),
    "Where to and from": (
        "run_dir",
        "resume",
        "no_test",
        "ckpt_path",
        "output",
        "top_k",
        "tta",
        "batch_size",
        "print_config",
    ),
}
"""The few options that people use, which come first in the help."""

HELP = {
    "pretrained": "trained weights, also --model.pretrained: true, a name from zoo info, a file, hf-hub:user/name",
    "finetune.method": "what of them is trained, also --finetune: none (all), linear, full, gradual, lpft",
    "model": "a name from `zoo list`",
    "data": "a name from `zoo data list` (default: digits)",
    "config": "start from the settings in this file; options on the command line win",
    "seed_everything": "seed of the run",
    "print_config": "print the settings as a configuration file, and stop",
    "precision": f"trainer.precision, or auto, what is fast here: {', '.join((AUTO, *PRECISIONS))}",
    "trainer.accelerator": "auto, cpu, gpu, tpu, mps",
    "trainer.devices": "how many devices, or a list of their numbers",
    "trainer.strategy": "auto, ddp, fsdp and Lightning's other strategies",
}
"""Texts that say what ours do, where the library's are about its own."""
NAME_WIDTH = 42

MODEL_FLAGS = f"""\
  --model.norm {"|".join(get_args(Norm))}     --model.dropout P     --model.init {"|".join(INITS)}
  --model.activation {"|".join(get_args(Activation))}          --model.image_size N
  all of one model: zoo {{verb}} --model.help NAME"""
DATA_FLAGS = f"""\
  --data.root DIR    --data.download true    --data.image_size N    --data.num_workers N
  --data.augment {"|".join(POLICIES)} or FILE.yaml
  --data.val_size 0.1    --data.kfold 5 --data.fold 0    --data.train_size N    --data.train_fraction P
  --data.class_subset "[cat, dog]"    --data.sampler balanced    --data.normalize auto    --data.permute_pixels SEED
  all of one data set: zoo {{verb}} --data.help NAME"""


def restrict_imports() -> None:
    """Let configurations name classes of the allowed packages only, and write what those have as defaults."""
    yaml.SafeDumper.add_multi_representer(Enum, lambda dumper, value: dumper.represent_data(value.value))
    extra = [name.strip() for name in os.environ.get("ZOO_ALLOW_IMPORTS", "").split(",") if name.strip()]
    jsonargparse.set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=[*ALLOWED_IMPORTS, *extra])


class Parser(LightningArgumentParser):
    """Lightning's parser with messages of one line and a help that starts with what people use."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)
        self.arguments: list[str] = []

    def add_argument(self, *args: Any, **kwargs: Any) -> Any:
        """Add an option; the seed is a number, where Lightning takes true for 0 and false for no seed at all."""
        if "--seed_everything" in args:
            kwargs |= {"type": int, "help": HELP["seed_everything"]}
        return super().add_argument(*args, **kwargs)

    def add_class_arguments(self, *args: Any, **kwargs: Any) -> list[str]:
        """Add a class's arguments; their values are never read from a file that happens to be called like one."""
        added: list[str] = super().add_class_arguments(*args, **{**kwargs, "sub_configs": False})
        for action in self._actions:
            if hasattr(action, "_typehint"):
                action._typehint = _whole_numbers_first(action._typehint)
        return added

    def add_subclass_arguments(self, *args: Any, **kwargs: Any) -> None:
        """Add a choice of classes, which are never read from a file that happens to be called like one."""
        super().add_subclass_arguments(*args, **kwargs)
        for action in self._actions:
            if hasattr(action, "_enable_path"):
                action._enable_path = False

    def parse_args(self, *args: Any, **kwargs: Any) -> Namespace:  # type: ignore[override]  # takes what its parent does
        """Parse, and refuse what would have no effect."""
        config = super().parse_args(*args, **kwargs)
        if config.get("trainer") is not None and kwargs.get("defaults", True):
            check_effects(self.prog.split()[-1], config, self.get_defaults().trainer, self.arguments)
        return config

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """End with one line that names the value, the rule and the nearest choice."""
        if os.environ.get("ZOO_TRACEBACK") == "1" and ex is not None:
            raise ex
        if not self.arguments:  # a parser that jsonargparse made for a part; the whole one reports
            raise UserError(message)
        own = {name for action in self._actions for name in action.option_strings}
        raise UserError(shorten(message, self.arguments, sorted(own | {f"--{key}" for key in nested_options()})))

    def print_help(self, file: Any = None) -> None:
        """Print the common options, then all others in one line each."""
        print(self.short_help(), file=file or sys.stdout)

    def short_help(self) -> str:
        """The help text of this verb."""
        actions = {a.dest: a for a in self._actions if a.option_strings}
        if "trainer.devices" not in actions:  # the help of one class, --model.help NAME
            options = [line for action in actions.values() if action.dest != "help" for line in _option_lines(action)]
            return "\n".join([f"{self.description}:", *options])
        listed: set[str] = set()
        lines = [f"usage: {self.prog} [options]", "", self.description or ""]
        for title, common in COMMON.items():
            rows = [line for name in common if name in actions for line in _option_lines(actions[name])]
            if title == "On what":
                rows.insert(0, f"  {'--hardware':<{NAME_WIDTH}} {', '.join(presets())}: the trainer's settings for it")
            if rows:
                lines += ["", f"{title}:", *rows]
            listed.update(common)
        verb = self.prog.split()[-1]
        if "model" in actions:
            lines += ["", "Every model but timm takes:", MODEL_FLAGS.format(verb=verb)]
            lines += ["", "Data sets take:", DATA_FLAGS.format(verb=verb)]
        rest = [action for name, action in actions.items() if name not in listed and _is_plain(action)]
        for title, prefix in (
            ("The rest of fine-tuning", "finetune."),
            ("The rest of the recipe", "recipe."),
            ("Every option of Lightning's Trainer", "trainer."),
        ):
            rows = [line for action in rest if action.dest.startswith(prefix) for line in _option_lines(action)]
            if rows:
                lines += ["", f"{title}:", *rows]
        return "\n".join(lines)


def _whole_numbers_first(hint: Any) -> Any:
    """The type of an option, with int before float: of a union, the first that fits is taken.

    Lightning means one batch by 1 and all of them by 1.0. It writes `Optional[Union[int, float]]`, but typing takes
    that for the `Optional[Union[float, int]]` of another module that was imported before.
    """
    kinds = list(get_args(hint))
    if (
        get_origin(hint) not in (Union, UnionType)
        or not {int, float} <= {*kinds}
        or kinds.index(int) < kinds.index(float)
    ):
        return hint
    kinds.remove(int)
    kinds.insert(kinds.index(float), int)
    return reduce(or_, kinds)  # typing does not remember these


def nested_options() -> set[str]:
    """Options of the models and data sets, such as `model.norm`."""
    of_models = {f"model.{p}" for name in MODELS for p in inspect.signature(model_class(name)).parameters}
    return of_models | {f"data.{p}" for name in DATASETS for p in parameters(getattr(names, name))}


@cache
def _shared_texts() -> dict[str, str]:
    """What the options of all data sets mean: jsonargparse does not look into the parent of their list."""
    documented = docstring_parser.parse(DataOptions.__doc__ or "").params
    return {f"data.{parameter.arg_name}": parameter.description or "" for parameter in documented}


def _is_plain(action: Any) -> bool:
    return not action.dest.endswith(".help") and action.dest not in ("help", "trainer", "recipe")


def _option_lines(action: Any) -> list[str]:
    """One option as one line: name, first sentence of its help, default."""
    name = f"--{action.dest}".replace("--config", "--config FILE")
    written = (action.help or "").replace("%%", "%") or _shared_texts().get(action.dest, "")
    text = HELP.get(action.dest) or " ".join(written.split())
    text = re.split(r"(?<=[a-z)`][.:])\s+(?=[A-Z])", text)[0]
    text = re.sub(r"[`*]{1,2}|:\w+:", "", text).rstrip(".:")
    text = text if len(text) < 110 or action.dest in HELP else text[:106].rsplit(" ", 1)[0] + " ..."
    if isinstance(action.default, str | int | float) and action.default != "==SUPPRESS==":
        default = str(action.default)
        text += f" (default: {default.lower() if isinstance(action.default, bool) else default or 'none'})"
    return [f"  {name:<{NAME_WIDTH}} {text}"]
