"""jsonargparse explains a wrong value in up to twenty lines; here is what is left of them."""

import re
from collections.abc import Sequence

from zoo.datamodules.registry import DATASETS
from zoo.registry import MODELS, closest, nearest


def shorten(message: str, arguments: list[str], options: list[str]) -> str:
    """One line for the user.

    Args:
        message: What jsonargparse says.
        arguments: The command's arguments, to find the option that a partial key belongs to.
        options: Every known option, for the nearest one.
    """
    text = " ".join(message.split())
    if match := re.match(r"unrecognized arguments: (\S+)", text):
        return unknown_option(match.group(1).partition("=")[0], options)
    if match := re.search(r"(?:Option|[Kk]ey) '([\w.]+)' is not (?:accepted|expected)", text):
        return unknown_option(_full_name(match.group(1), arguments), options, arguments)
    if match := re.search(r"Group '([\w.]+)' does not accept option '([\w.]+)'", text):
        return unknown_option(f"--{match.group(1)}.{match.group(2)}", options)
    if match := re.search(r"Expected a dot import path string: (\w+)", text):
        return f"unknown name '{match.group(1)}'.{nearest(match.group(1), [*MODELS, *DATASETS])}"
    if match := re.search(r"File does not exist: (.+)$", text):
        return f"no configuration file at {match.group(1)}"
    if "Importing 'lightning.Callback' is not allowed" in text:  # jsonargparse looks for a class to give it to
        return "there is no callback for the options --trainer.callbacks.NAME: name its class before them"
    if match := re.search(r"Importing '([\w.]+)' is not allowed", text):
        package = match.group(1).partition(".")[0]
        return (
            f"class '{match.group(1)}' is not allowed: name its package in ZOO_ALLOW_IMPORTS={package} if you trust it"
        )
    if keys := list(re.finditer(r'Parser key "([\w.]+)":', text)):
        innermost = keys[-1]
        return wrong_value(_full_name(innermost.group(1), arguments), text[innermost.start() :])
    return text if len(text) < 300 else text[:300].rsplit(" ", 1)[0] + " ..."


def unknown_option(name: str, options: list[str], arguments: Sequence[str] = ()) -> str:
    """The message for an option that nobody knows, or that the chosen model or data set does not have."""
    if name.rpartition(".")[2].removeprefix("--") == "pretrained":
        return "pretrained is the command's: in a configuration file it stands beside model, not in it"
    if name in options:
        owner = f"{name.partition('.')[0]}="
        chosen = [word.rpartition(".")[2] for word in arguments if word.startswith(owner)]
        return f"{chosen[-1] if chosen else 'the chosen class'} has no option {name}"
    if not name.startswith("-"):
        return f"unexpected argument '{name}'"
    # From a file comes the last part only: look for the nearest last part.
    ends = {option if "." in name else option.rpartition(".")[2]: option for option in options}
    close = ends.get(closest(name if "." in name else name.removeprefix("--"), ends) or "")
    hint = f" Did you mean {close}?" if close else " --help lists the options."
    return f"unknown option {name}.{hint}"


def wrong_value(option: str, text: str) -> str:
    """The message for a value of the wrong kind: the choices or types are picked out of jsonargparse's text."""
    given = re.search(r"(?:Got value|Given value): (.*?)(?: - Expected| Given|$)", text)
    value = given.group(1).strip(" '\"") if given else "?"
    choices = [word.strip(" '") for group in re.findall(r"Literal\[(.*?)\]", text) for word in group.split(",")]
    if choices := list(dict.fromkeys(choices)):
        return f"{option} is '{value}'.{nearest(value, choices)}"
    if missing := re.search(r"Problem with given class_path '[\w.]+': (module '[\w.]+' has no attribute '\w+')", text):
        return f"{option} is '{value}': {missing[1]}"
    types = list(dict.fromkeys(re.findall(r"Expected an? <class '(\w+)'>", text)))
    if types:
        readable = {"NoneType": "null", "int": "a whole number", "float": "a number", "bool": "true or false"}
        return f"{option} is '{value}': it must be {' or '.join(readable.get(t, t) for t in types)}"
    reason = re.sub(r'^Parser key "[\w.]+": ', "", text)
    return f"{option}: {reason[:250]}"


def _full_name(key: str, arguments: list[str]) -> str:
    """`--model.norm` for the key `norm` that jsonargparse reports."""
    key = key.replace("init_args.", "")
    names = [argument.partition("=")[0] for argument in arguments]
    return next((name for name in names if name == f"--{key}" or name.endswith(f".{key}")), f"--{key}")
