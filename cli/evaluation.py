"""`zoo test`, `zoo validate` and `zoo predict`: model, preprocessing and class names come from the checkpoint."""

import csv
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from zoo.checkpoint import load, load_weights, read_checkpoint
from zoo.cli import front
from zoo.cli.app import ZooCLI
from zoo.cli.errors import UserError, user_errors
from zoo.cli.progress_bar import read_data
from zoo.cli.report import accuracy, evaluated
from zoo.datamodules.images import ImageFiles, collect_images
from zoo.datamodules.registry import DATASETS
from zoo.recipe import Recipe


def evaluate(verb: str, arguments: list[str]) -> int:
    """Evaluate a checkpoint on its data's test set or validation split, or on other data that is named."""
    if {"-h", "--help"} & set(arguments):
        ZooCLI(verb, ["--help"])
    path = front.option(arguments, "--ckpt_path")
    if path is None:
        raise UserError(f"{verb} needs a checkpoint: --ckpt_path runs/.../checkpoints/best.ckpt")
    with user_errors(ValueError, OSError):
        checkpoint = read_checkpoint(path)
        cli = ZooCLI(verb, [*_from_checkpoint(checkpoint["zoo"], arguments, path), *arguments])
        load_weights(cli.model, checkpoint, path)
        cli.model.recipe = Recipe(**checkpoint["zoo"]["recipe"])  # the loss is one of its fields
        preprocessing = checkpoint["zoo"]["data"].get("preprocessing")
        if preprocessing:
            size, typed = preprocessing["image_size"], front.option(arguments, "--data.image_size")
            if typed is not None and typed != str(size):
                raise UserError(f"data.image_size is {typed}, but '{path}' was trained on images of {size}")
            cli.datamodule.use_preprocessing(preprocessing)
        _check_classes(cli, checkpoint["zoo"]["data"].get("class_names"), path)
        read_data(cli.datamodule, verb)
        split = "test" if verb == "test" else "val"
        if split not in cli.datamodule.splits:
            other = "validate" if verb == "test" else "test"
            raise UserError(f"{cli.datamodule.root or cli.datamodule.spec.name} has no {split} images: zoo {other}?")
    run = cli.trainer.test if verb == "test" else cli.trainer.validate
    with user_errors(ValueError, OSError):  # a file may have gone since
        results = run(cli.model, datamodule=cli.datamodule, verbose=False)
    if not results:
        raise UserError(f"nothing to {verb}: the trainer is limited to no batches")
    metrics = results[0]
    if cli.trainer.is_global_zero:
        share, count = metrics[f"{split}/acc"], evaluated(cli, split)
        images = f"{count:,} {split} images" if count else f"some {split} images"
        print(f"{cli.model_name} on {cli.datamodule.spec.name}, {images}")
        print(f"{split}/acc  {share!r}   {accuracy(share, count)}")
        print(f"{split}/loss {metrics[f'{split}/loss']!r}")
    return 0


def _from_checkpoint(facts: dict[str, Any], arguments: list[str], path: str) -> list[str]:
    """The options that rebuild the checkpoint's model and data; the user's own come after them and win."""
    asked = front.option(arguments, "--model")
    if asked is not None and asked.rpartition(".")[2] != facts["name"]:
        raise UserError(f"'{path}' holds {facts['name']}, not {asked.rpartition('.')[2]}: leave --model out")
    words = [f"--model=zoo.names.{facts['name']}"]
    words += [f"--model.{key}={_text(value)}" for key, value in facts["args"].items()]
    data, asked = facts["data"], front.option(arguments, "--data")
    if "name" in data and asked is None:
        words.append(f"--data=zoo.datamodules.names.{data['name']}")
        words += [f"--data.{key}={_text(value)}" for key, value in data["args"].items() if value is not None]
    elif asked is not None and "classes" in data.get("args", {}) and _has_any_size(asked):
        words += [f"--data={asked}", f"--data.classes={_text(data['class_names'])}"]  # the labels that the model knows
    return words


def _has_any_size(data: str) -> bool:
    spec = DATASETS.get(data.rpartition(".")[2])
    return spec is not None and spec.any_size


def _check_classes(cli: ZooCLI, known: list[str] | None, path: str) -> None:
    """The same number of classes is not enough: they must be the same classes in the same order."""
    found = cli.datamodule.class_names
    if known and found != known:
        name = cli.datamodule.spec.name
        raise UserError(f"'{path}' was trained on the classes {shortened(known)}, but {name} has {shortened(found)}")


def shortened(names: list[str]) -> str:
    """The first few of many names."""
    return ", ".join(names[:5]) + (f", ... ({len(names)})" if len(names) > 5 else "")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def predict(arguments: list[str]) -> int:
    """Classify images: a table on the screen, and a CSV file if asked for."""
    options, words = front.split_images(arguments)
    cli = ZooCLI("predict", ["--trainer.devices=1", *options])  # each device would have a part of the table
    if cli.trainer.world_size > 1:
        raise UserError(f"predict runs on one device, not {cli.trainer.world_size}: leave --trainer.devices out")
    path, output = cli.config.ckpt_path, cli.config.output
    if path is None or not words:
        raise UserError("usage: zoo predict --ckpt_path runs/.../checkpoints/best.ckpt IMAGES or folders...")
    if cli.config.top_k < 1:
        raise UserError(f"top_k is {cli.config.top_k}: it must be at least 1")
    with user_errors(ValueError, OSError):
        model = load(path)
        if not model.preprocessing:
            raise UserError(f"'{path}' does not say how its images were prepared")
        files = collect_images(words)
        data = ImageFiles(files, model.preprocessing, cli.config.batch_size)
        batches = cli.trainer.predict(model, datamodule=data) or []
    # A model can have more outputs than its data has classes: those have numbers.
    names = [*model.class_names, *(str(k) for k in range(len(model.class_names), model.num_classes))]
    rows = []
    for probabilities, indices in batches:
        best = probabilities.topk(min(cli.config.top_k, len(names)), dim=1)
        for index, shares, classes in zip(indices.tolist(), best.values.tolist(), best.indices.tolist(), strict=True):
            guesses = [(names[k], share) for k, share in zip(classes, shares, strict=True)]
            rows.append((str(files[index]), guesses))
    _show(rows)
    if output:
        with user_errors(OSError):
            _write(Path(output), rows)
    return 0


Row = tuple[str, list[tuple[str, float]]]


def _show(rows: list[Row]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("image", "class", "probability", "next"):
        table.add_column(heading, justify="right" if heading == "probability" else "left", overflow="fold")
    for file, guesses in rows:
        others = "  ".join(f"{name} {100 * share:.1f} %" for name, share in guesses[1:])
        table.add_row(file, guesses[0][0], f"{100 * guesses[0][1]:.1f} %", others)
    Console(highlight=False).print(table)


def _write(path: Path, rows: list[Row]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        places = range(1, len(rows[0][1]) + 1)
        writer.writerow(["image", *(f"{what}_{k}" for k in places for what in ("class", "probability"))])
        writer.writerows([file_name, *(v for guess in guesses for v in guess)] for file_name, guesses in rows)
