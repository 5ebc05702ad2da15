"""`zoo list` and `zoo info`: what is known about the models; torch is imported only to count at another image size."""

import argparse
import fnmatch
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any, NoReturn

from rich.console import Console
from rich.table import Table

from zoo.cli.describe import beside, describe
from zoo.cli.errors import UserError, user_errors
from zoo.cli.front import check_choice
from zoo.registry import MODELS, ModelInfo, closest, families, list_models, model_info, nearest
from zoo.summary import Summary, stored_summary

TIMM = "timm/"
"""Names that begin like this are timm's."""


class Once(argparse.Action):
    """What an option without an action does: keep its value, but refuse another one instead of dropping the first."""

    typed: Any = None

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Keep the value; raise UserError if the same command line has another one."""
        if option_string is not None and self.typed not in (None, values):
            first, second = (" ".join(v) if isinstance(v, list) else str(v) for v in (self.typed, values))
            choice = "name all after one of them" if self.nargs == argparse.ONE_OR_MORE else "say one of them"
            raise UserError(f"{option_string} is given twice, as {first} and {second}: {choice}")
        self.typed = values
        setattr(namespace, self.dest, values)


class Parser(argparse.ArgumentParser):
    """The standard parser with our kind of message, for one command line."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name in (None, "store"):
            self.register("action", name, Once)

    def error(self, message: str) -> NoReturn:
        """Raise UserError with one line."""
        raise UserError(f"{message}: see {self.prog} --help")


def run(verb: str, words: list[str]) -> int:
    """Print the list, or the facts about each named model; the exit status."""
    if verb == "list":
        _list(_list_parser().parse_args(words))
    else:
        _info(_info_parser().parse_args(words))
    return 0


def _list_parser() -> Parser:
    parser = Parser(prog="zoo list", allow_abbrev=False, description="The models, all or those that were asked for.")
    parser.add_argument("patterns", nargs="*", metavar="PATTERN", help="names such as 'res*'; 'timm/*' lists timm's")
    parser.add_argument("--family", help=f"one of {', '.join(families())}")
    parser.add_argument(
        "--max-params", type=_number, metavar="N", help="at most so many parameters, such as 500k or 1M"
    )
    parser.add_argument("--min-year", type=int, metavar="YEAR", help="published in this year or later")
    parser.add_argument("--json", action="store_true", help="print the facts as JSON")
    return parser


def _info_parser() -> Parser:
    text = "Paper, layers, parameters, published results, deviations from the paper; several models side by side."
    parser = Parser(prog="zoo info", allow_abbrev=False, description=text)
    parser.add_argument("names", nargs="*", metavar="NAME", help="names from zoo list, or timm/NAME")
    parser.add_argument("--image-size", type=int, metavar="N", help="count at this height and width in pixels")
    parser.add_argument("--num-classes", type=int, metavar="N", help="count with so many classes")
    parser.add_argument("--in-channels", type=int, metavar="N", help="count with so many channels")
    return parser


def _number(text: str) -> int:
    """Numbers as people write them: 1000000, 500k, 1.5M."""
    scale = {"k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9}.get(text[-1:].lower(), 1)
    try:
        return int(float(text if scale == 1 else text[:-1]) * scale)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"'{text}' is no number such as 500k or 1M") from None


# zoo list


def _list(options: argparse.Namespace) -> None:
    if any(pattern.startswith(TIMM) for pattern in options.patterns):
        _list_timm(options)
        return
    if options.family is not None:
        check_choice("family", options.family, families())
    check_patterns("model", options.patterns, MODELS)
    limits = {"family": options.family, "max_parameters": options.max_params, "min_year": options.min_year}
    names = [name for pattern in options.patterns or ["*"] for name in list_models(pattern, **limits)]
    if not names:
        raise UserError(f"no model matches{_asked(options)}. Known: {', '.join(MODELS)}.")
    infos = [model_info(name) for name in dict.fromkeys(names)]
    if options.json:
        print(json.dumps([_facts(info) for info in infos], indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("name", "parameters", "MACs", "counted at", "paper"):
        right = heading in ("parameters", "MACs")
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    for info in infos:
        macs = _readable(stored_summary(info.name).macs)
        paper = f"{info.paper.authors} {info.year}"
        table.add_row(info.name, f"{info.parameters:,}", macs, str(info.reference), paper)
    show(table)


def check_patterns(what: str, patterns: Iterable[str], known: Iterable[str]) -> None:
    """Raise UserError with the nearest name unless each pattern matches one."""
    names = list(known)
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise UserError(f"no {what} matches '{pattern}'.{nearest(pattern, names)}")


def _readable(number: int) -> str:
    return f"{number / 1e6:,.1f} M" if number >= 1e6 else f"{number / 1e3:,.1f} k"


def _asked(options: argparse.Namespace) -> str:
    """What was asked for, for a message that nothing matches it."""
    words = [f"'{pattern}'" for pattern in options.patterns]
    words += [f"--family {options.family}"] if options.family else []
    words += [f"--max-params {options.max_params:,}"] if options.max_params is not None else []
    words += [f"--min-year {options.min_year}"] if options.min_year is not None else []
    return " " + " ".join(words)


def _list_timm(options: argparse.Namespace) -> None:
    """The names of timm's networks; counting each would mean building it."""
    for option in ("family", "max_params", "min_year"):
        if getattr(options, option) is not None:
            name = option.replace("_", "-")
            raise UserError(f"--{name} does not filter timm's networks: zoo info timm/NAME counts one")
    check_patterns("model", (pattern for pattern in options.patterns if not pattern.startswith(TIMM)), MODELS)
    import timm

    names: dict[str, None] = {}
    for pattern in options.patterns:
        is_timms = pattern.startswith(TIMM)
        found = timm.list_models(pattern.removeprefix(TIMM)) if is_timms else list_models(pattern)
        if not found:
            near = closest(pattern.removeprefix(TIMM), timm.list_models())
            hint = f" Did you mean '{TIMM}{near}'?" if near else ""
            raise UserError(f"no model matches '{pattern}'.{hint} zoo list 'timm/*' lists all of timm's")
        names |= dict.fromkeys(TIMM + name if is_timms else name for name in found)
    print(json.dumps([{"name": name} for name in names], indent=2) if options.json else "\n".join(names))


def _facts(info: ModelInfo) -> dict[str, Any]:
    """What `--json` prints of a model."""
    return {
        "name": info.name,
        "family": info.family_name,
        "summary": info.summary,
        "parameters": info.parameters,
        "macs": stored_summary(info.name).macs,
        "counted_at": asdict(info.reference),
        "paper": asdict(info.paper),
        "recipes": {name: recipe.as_dict() for name, recipe in info.recipes.items()},
        "published": [asdict(result) for result in info.published],
        "weights": [asdict(weights) for weights in info.weights],
        "deviations": [asdict(deviation) for deviation in info.deviations],
    }


# zoo info


def _info(options: argparse.Namespace) -> None:
    if not options.names:
        raise UserError(f"zoo info needs a name. Known: {', '.join(MODELS)}.")
    for name in options.names:
        if not name.startswith(TIMM):
            check_choice("model", name, MODELS)
    counted = [_count(name, options) for name in dict.fromkeys(options.names)]
    if len(counted) > 1:
        show(beside(counted))
        return
    ((info, summary),) = counted
    for part in describe(info, summary):
        show(part)


def _count(name: str, options: argparse.Namespace) -> tuple[ModelInfo, Summary]:
    """The facts about a model and its layer table, at its own input size or at the one asked for."""
    changes = {
        key: value
        for key in ("image_size", "num_classes", "in_channels")
        if (value := getattr(options, key)) is not None
    }
    if name in MODELS and not changes:
        return model_info(name), stored_summary(name)
    from zoo.cli.quiet import quiet
    from zoo.summary import summarize

    quiet()
    with user_errors(ValueError):
        if name.startswith(TIMM):
            from zoo.timm_backbone import timm_info

            info = timm_info(name.removeprefix(TIMM))
        else:
            info = model_info(name)
        at = replace(info.reference, **changes)
        backbone = {"backbone": name.removeprefix(TIMM)} if name.startswith(TIMM) else {}
        summary = summarize(name.partition("/")[0], **asdict(at), **backbone)
    return replace(info, parameters=summary.parameters, reference=at), summary


def show(content: Table | str) -> None:
    """Print for a terminal as wide as it is, or for a pipe without cutting anything."""
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 200  # a pipe has no width: nothing is cut
    console.print(content, markup=False) if isinstance(content, str) else console.print(content)
