"""`zoo benchmark speed`: what models cost to train on this machine, beside a loop without us."""

import argparse
import json
from pathlib import Path
from typing import Any

from rich.table import Table

from zoo.benchmarks.turns import Measured, ratio
from zoo.cli.errors import UserError, user_errors
from zoo.cli.front import check_choice
from zoo.cli.listing import Parser, show
from zoo.cli.output import check_output, replacing
from zoo.datamodules.registry import DATASETS, DatasetSpec, dataset_spec
from zoo.precision import AUTO, PRECISIONS
from zoo.registry import MODELS, model_info

CHOICES = (AUTO, *PRECISIONS)
STEPS = (10, 500)
"""The least and the most steps of an epoch, unless the user says how many."""
WORK = 5e10
"""Multiply-adds of an epoch's forward passes, between these: about a second on two cores, beside which the
milliseconds that an epoch costs whatever its length do not count."""


def run(words: list[str]) -> int:
    """Measure every model with every precision and print a table; the exit status."""
    options = _parser().parse_args(words)
    path = None if options.output is None else check_output(options.output, (".json",))
    for name in options.model:
        check_choice("model", name, MODELS)
    check_choice("data", options.data, DATASETS)
    for name in options.precision:
        check_choice("precision", name, CHOICES)
    rows = []
    for model in options.model:
        for precision in options.precision:
            show(f"{model}, {precision} ...")
            try:
                rows.append(measure(model, precision, options))
            except RuntimeError as error:  # what the program that failed said last
                raise UserError(str(error).splitlines()[-1]) from error
    _show(rows)
    if path is not None:
        from zoo.benchmarks.environment import environment

        with user_errors(OSError), replacing(path) as file:
            file.write(json.dumps({"results": rows, **environment()}, indent=2) + "\n")
    return 0


def _parser() -> Parser:
    text = "Images a second, peak memory and seconds to the first step of zoo fit, and of a bare float32 loop over "
    text += "random tensors in memory; both train epochs in turns, medians."
    parser = Parser(prog="zoo benchmark speed", allow_abbrev=False, description=text)
    parser.add_argument("--model", nargs="+", default=["lenet5", "resnet20"], metavar="NAME", help="names of zoo list")
    parser.add_argument("--data", default="fake", metavar="NAME", help="a name from zoo data list (default: fake)")
    parser.add_argument("--data.root", dest="root", metavar="DIR", help="the folder of the data")
    parser.add_argument("--precision", nargs="+", default=["32-true"], metavar="NAME", help=", ".join(CHOICES))
    parser.add_argument(
        "--image-size", type=_number, metavar="N", help="in pixels (default: the data's, or what the model needs)"
    )
    parser.add_argument("--batch-size", type=_number, default=64, metavar="N", help="default: 64")
    parser.add_argument(
        "--steps", type=_number, metavar="N", help="of an epoch (default: 10, up to 500 of a small network)"
    )
    parser.add_argument("--rounds", type=_number, default=5, metavar="N", help="epochs that count (default: 5)")
    parser.add_argument("--output", metavar="FILE", help="write the figures to this file too, NAME.json")
    return parser


def _number(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' must be a whole number, at least 1")
    return int(text)


def measure(model: str, precision: str, options: argparse.Namespace) -> dict[str, Any]:
    """Both programs' figures for one model and precision.

    Args:
        model: A registered name.
        precision: Of `zoo fit`; the loop has float32.
        options: As they were typed.
    """
    from zoo.benchmarks.turns import fake_images, loop_over_tensors, take_turns, zoo_fit

    spec, batch, epochs = dataset_spec(options.data), options.batch_size, options.rounds + 1
    channels, size = spec.in_channels, options.image_size or default_image_size(model, spec)
    steps = options.steps or default_steps(model, channels, size, batch)
    if options.data == "fake":
        data = fake_images(steps * batch, image_size=size, in_channels=channels)
    else:
        data = ["--data", options.data, "--data.image_size", str(size), "--trainer.limit_train_batches", str(steps)]
    data += ["--data.root", str(Path(options.root).absolute())] if options.root else []
    recipe = ["--recipe.batch_size", str(batch), "--recipe.epochs", str(epochs), "--precision", precision]
    loop = loop_over_tensors(
        model, in_channels=channels, image_size=size, batch_size=batch, images=steps * batch, epochs=epochs
    )
    found = take_turns({"zoo": zoo_fit("--model", model, *data, *recipe), "bare": loop}, options.rounds)
    return row(model, precision, size, batch, found)


def default_image_size(model: str, spec: DatasetSpec) -> int:
    """In pixels: the data's, or that of the model's paper where they have all sizes; at least what the model needs."""
    info = model_info(model)
    return max(info.reference.image_size if spec.any_size else spec.image_size, info.image_size)


def default_steps(model: str, in_channels: int, image_size: int, batch_size: int) -> int:
    """Steps of an epoch that takes long enough to be timed, and no longer."""
    from zoo.benchmarks.networks import multiply_adds

    each = multiply_adds(model, json.dumps({"in_channels": in_channels, "image_size": image_size}))
    least, most = STEPS
    return max(least, min(most, round(WORK / (batch_size * (each or WORK)))))


def row(model: str, precision: str, size: int, batch: int, found: dict[str, Measured]) -> dict[str, Any]:
    """The figures as they stand in the file."""
    settings = {"model": model, "precision": precision, "image_size": size, "batch_size": batch}
    figures = {name: measured.as_dict() for name, measured in found.items()}
    return {**settings, **figures, "ratio": ratio(found["zoo"], found["bare"])}


def _show(rows: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False)
    headings = ["model", "precision", "size", "batch", "images/s", "bare loop", "ratio", "peak memory", "bare loop"]
    for heading in [*headings, "first step"]:
        table.add_column(heading, justify="left" if heading in ("model", "precision") else "right", no_wrap=True)
    for found in rows:
        ours, bare = found["zoo"], found["bare"]
        rates = [f"{ours['images_per_second']:,.0f}", f"{bare['images_per_second']:,.0f}", f"{found['ratio']:.2f}"]
        peaks = [f"{each['peak_bytes'] / 2**20:,.0f} MiB" for each in (ours, bare)]
        first = f"{ours['first_step_seconds']:.1f} s"
        settings = [found["model"], found["precision"], str(found["image_size"]), str(found["batch_size"])]
        table.add_row(*settings, *rates, *peaks, first)
    show(table)
    show("\nmedians; the bare loop trains in float32, augments and records nothing")
