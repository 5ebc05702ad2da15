"""What can be checked and tidied in the arguments before three seconds of imports."""

import inspect
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from zoo.cli.errors import UserError
from zoo.cli.hardware import hardware_options, presets
from zoo.datamodules.registry import DATASETS
from zoo.registry import MODELS, model_info, nearest

Pair = tuple[str, str | None]
SHORT_NAMES = {"model": MODELS, "data": DATASETS}
"""Options whose value is one of our names, and the names."""
FOLLOWS_DATA = {"num_classes", "in_channels", "image_size"}
"""Arguments of a model that the data set decides."""
MODULES = {"model": "zoo.names", "data": "zoo.datamodules.names"}
CONFIG = ("--config", "-c")
IDLE = ("model.init", "model.dropout", "data.augment", "data.sampler", "data.drop_last")
"""What matters in training alone."""
OF_TRAINING_IMAGES = ("data.train_size", "data.train_fraction")
OF_VALIDATION_IMAGES = ("data.val_size", "data.kfold", "data.fold", "data.seed", "seed_everything")
LISTS = ("--trainer.callbacks", "--trainer.logger", "--trainer.plugins")
"""Options that take several things, one after the other."""


def check_choice(what: str, value: str, choices: Iterable[str]) -> None:
    """Raise UserError with the nearest choice unless `value` is one of `choices`."""
    known = list(choices)
    if value not in known:
        raise UserError(f"unknown {what} '{value}'.{nearest(value, known)}")


def prepare(verb: str, args: list[str]) -> list[str]:
    """Arguments as the parser wants them; `verb` is fit, validate, test or predict.

    Model and data names become class paths (so that a file called `vgg16` is no trouble), `--model NAME` comes before
    `--model.norm`, and `--config` before both: the command line wins over the file.
    """
    pairs = [pair for typed in _pairs(_expand(args)) for pair in _backbone(*typed)]
    _check_typed(pairs)
    pairs = _hardware(pairs)
    if verb == "fit":
        pairs = _complete(pairs)
    for position, (name, value) in enumerate(pairs):
        key = name.removeprefix("--")
        if key in SHORT_NAMES and value is not None and "." not in value:
            check_choice(key, value, SHORT_NAMES[key])
            pairs[position] = (name, f"{MODULES[key]}.{value}")
    pairs += _own_preset(pairs)
    order = {"--config": 0, "-c": 0, "--model": 1, "--data": 1}
    pairs.sort(key=lambda pair: order.get(pair[0], 2))
    words = [name if value is None else f"{name}={value}" for name, value in pairs]
    return [f"--data={MODULES['data']}.digits", *words] if verb == "fit" else words  # the default: what follows wins


def _backbone(name: str, value: str | None) -> list[Pair]:
    """`--model timm/NAME`, as `zoo list` writes it, is the model timm with that backbone."""
    if name == "--model" and value is not None and value.startswith("timm/"):
        return [(name, "timm"), ("--model.backbone", value.removeprefix("timm/"))]
    return [(name, value)]


def _hardware(pairs: list[Pair]) -> list[Pair]:
    """`--hardware NAME` is the trainer's settings for it, which come first: what is typed wins."""
    name = dict(pairs).get("--hardware")
    if name is None:
        return pairs
    check_choice("hardware", name, presets())
    return [*hardware_options(name), *(pair for pair in pairs if pair[0] != "--hardware")]


def _check_typed(pairs: list[Pair]) -> None:
    """Of an option that is typed twice, the first would be dropped; so would one without a value."""
    typed: dict[str, str] = {}
    for name, value in pairs:
        if value == "":
            raise UserError(f"option {name} needs a value")
        if name == "--trainer":
            raise UserError("--trainer takes no file: its options are --trainer.max_epochs and so on, see --help")
        if value is None or name in CONFIG or name.endswith("+") or name.startswith(LISTS):
            continue
        if typed.setdefault(name, value) != value:
            raise UserError(f"{name} is given twice, as {typed[name]} and {value}: say one of them")


def _own_preset(pairs: list[Pair]) -> list[Pair]:
    """What says that a model typed over a file's is that model: the file's preset does not carry over.

    A file holds every argument. Without this, resnet20's file with `--model plain56` would be a resnet20 by that name.
    """
    given = dict(pairs)
    typed = (given.get("--model") or "").rpartition(".")[2]
    sources = [value for name, value in pairs if name in CONFIG and value is not None]
    before = next((model for model in map(_model_in, reversed(sources)) if model), typed)
    if before == typed or not {before, typed} <= MODELS.keys():
        return []
    from zoo.registry import model_class  # seconds of imports, which this command needs anyway

    keys = {**model_info(before).defaults, **model_info(typed).defaults}.keys() - FOLLOWS_DATA
    parameters = inspect.signature(model_class(typed)).parameters
    own = {key: parameters[key].default for key in parameters if key in keys and f"--model.{key}" not in given}
    return [(f"--model.{key}", value if isinstance(value, str) else json.dumps(value)) for key, value in own.items()]


def _model_in(source: str) -> str:
    """The name of the model in a configuration; empty if there is none. What is wrong with it, the parser says."""
    from zoo.cli.config_file import read_config

    model = read_config(source).get("model", "")
    return str(model.get("class_path", "") if isinstance(model, dict) else model).rpartition(".")[2]


def _complete(pairs: list[Pair]) -> list[Pair]:
    """Read the configuration of a run that is resumed by its folder; say early that the model is missing."""
    given = dict(pairs)
    if given.get("--resume_inexact") == "true" and not given.keys() & {"--resume", "--ckpt_path"}:
        pairs, given["--resume"] = [*pairs, ("--resume", "true")], "true"
    folder = given.get("--run_dir")
    if given.get("--resume") == "true" and folder and "--config" not in given:
        config = Path(folder, "config.yaml")
        return [("--config", str(config)), *pairs] if config.is_file() else pairs
    if not given.keys() & {"--model", "--config", "-c", "--help", "-h", "--model.help", "--data.help"}:
        raise UserError(f"zoo fit needs a model: --model NAME. Known: {', '.join(MODELS)}.")
    return pairs


PRETRAINED = "--pretrained"
"""Weights are no argument of a network, since a checkpoint needs none when it is loaded: they are the command's."""
SWITCHES = ("--no_test", "--resume", "--resume_inexact", "--compile", "--profile")
INNER = re.compile(r"^(--model|--data)\.(?:init_args|dict_kwargs|class_path)\b")
"""Words of the parser's own within a name: `--model.init_args.norm` is `--model.norm`."""
HYPHENS = {"--no-test": "--no_test", "--resume-inexact": "--resume_inexact"}
SHORT_FORMS = {
    "--recipe": "--recipe.name",
    "--finetune": "--finetune.method",
    "--ckpt": "--ckpt_path",
    "--model.pretrained": PRETRAINED,
}


def _expand(args: list[str]) -> list[str]:
    """Write out the short forms: `--recipe paper`, `--finetune linear`, `--no-test`, `--resume`, `--ckpt`."""
    words = []
    for position, word in enumerate(args):
        following = args[position + 1] if position + 1 < len(args) else "--"
        name, equals, value = word.partition("=")
        name = INNER.sub(r"\1", HYPHENS.get(name, name))
        words.append(SHORT_FORMS.get(name, name) + equals + value)
        is_bare_switch = name in SWITCHES and not equals and following.lower() not in ("true", "false")
        if is_bare_switch or (words[-1] == PRETRAINED and following.startswith("--")):
            words.append("true")
    return words


def _pairs(args: list[str]) -> list[Pair]:
    """Options with their values; a word without an option stands alone."""
    pairs: list[Pair] = []
    words = iter(args)
    for word in words:
        if not word.startswith("-") or word in ("-h", "--help") or word.startswith("--print_config"):
            pairs.append((word, None))
        elif "=" in word:
            name, _, value = word.partition("=")
            pairs.append((name, value))
        else:
            value = next(words, "")
            if not value or value.startswith("--"):
                raise UserError(f"option {word} needs a value")
            pairs.append((word, value))
    return pairs


def plain(args: Sequence[str]) -> list[str]:
    """The arguments as `--name=value`, short forms written out, nothing checked."""
    pairs = [pair for typed in _pairs(_expand([*args])) for pair in _backbone(*typed)]
    return [name if value is None else f"{name}={value}" for name, value in pairs]


def split_images(args: list[str]) -> tuple[list[str], list[str]]:
    """Options, and the words that are no options: image files and folders."""
    return [a for a in args if a.startswith("-")], [a for a in args if not a.startswith("-")]


def option(args: list[str], *names: str) -> str | None:
    """The value that was typed for an option in `prepare`'s form, the last of several; None if none was."""
    values = [word.partition("=")[2] for word in args if word.partition("=")[0] in names and "=" in word]
    return values[-1] if values else None


def config_folder(args: list[str]) -> Path | None:
    """The folder of the last `--config FILE`, if there is one."""
    file = option(args, "--config", "-c")
    return None if file is None else Path(file).parent


def check_idle(verb: str, arguments: list[str], *, is_rebuilt: bool) -> None:
    """Look for options that are typed in vain.

    Which images the model was trained on can still decide about mean and deviation, unless these come from it.

    Args:
        verb: What is done with the model.
        arguments: The options as `prepare` returns them.
        is_rebuilt: Whether all that the model knows about its data comes with it.

    Raises:
        UserError: If there is one.
    """
    names = list(IDLE)
    if is_rebuilt and option(arguments, "--data.normalize") is None:
        names += {"validate": OF_TRAINING_IMAGES, "test": OF_TRAINING_IMAGES + OF_VALIDATION_IMAGES}.get(verb, ())
        if verb == "validate" and option(arguments, "--data") is None:
            names.append("seed_everything")  # which images are for validation is the checkpoint's data.seed
    for name in names:
        value = option(arguments, f"--{name}")
        if value is not None:
            raise UserError(f"{name} is {value}: it changes nothing in zoo {verb}, leave it out")
