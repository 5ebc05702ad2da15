"""`zoo predict`: classes of image files, with the model, the preprocessing and the class names of a checkpoint."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.columns import Columns
from rich.table import Table
from rich.text import Text
from torch import Tensor

from zoo.classifier import ImageClassifier
from zoo.cli import front
from zoo.cli.app import ZooCLI
from zoo.cli.errors import UserError, user_errors
from zoo.cli.listing import show
from zoo.cli.output import check_output, replacing
from zoo.cli.trained import load_trained
from zoo.datamodules.images import ImageFiles, collect_images
from zoo.datamodules.layout import shown
from zoo.datamodules.registry import DATASETS

Row = tuple[str, list[tuple[str, float]]]
"""An image file, and its likeliest classes with their probabilities."""


def predict(arguments: list[str]) -> int:
    """Classify images: a table on the screen, and a CSV or JSON file if asked for."""
    options, words = front.split_images(arguments)
    cli = ZooCLI("predict", ["--trainer.devices=1", *options])  # each device would have a part of the table
    if cli.trainer.world_size > 1:
        raise UserError(f"predict runs on one device, not {cli.trainer.world_size}: leave --trainer.devices out")
    where, views = cli.config.ckpt_path, cli.config.tta
    if where is None or not words:
        raise UserError("usage: zoo predict --ckpt_path runs/.../checkpoints/best.ckpt IMAGES or folders...")
    if cli.config.top_k < 1:
        raise UserError(f"top_k is {cli.config.top_k}: it must be at least 1")
    output = None if cli.config.output is None else check_output(cli.config.output, (".csv", ".json"))
    model = load_trained(where)
    if not model.preprocessing:
        raise UserError(f"'{where}' does not say how its images were prepared")
    _check_views(views, model)
    with user_errors(ValueError, OSError):
        files = collect_images(words)
        data = ImageFiles(files, model.preprocessing, cli.config.batch_size, views=views)
        batches: Any = cli.trainer.predict(model, datamodule=data)
    if not batches:
        raise UserError("nothing to predict: the trainer is limited to no batches")
    rows = best_classes(batches, files, model, cli.config.top_k)
    if output is not None:
        with user_errors(OSError):
            _write(output, rows)
    show(_table(rows))
    if front.option(options, "--top_k") is not None and cli.config.top_k > model.num_classes:
        show(f"note: top_k is {cli.config.top_k}, but the model has {model.num_classes} classes: these are all of them")
    return 0


def _check_views(views: str, model: ImageClassifier) -> None:
    """Raise UserError if a mirrored image is another class in the data that the model was trained on."""
    spec = DATASETS.get(model.data.get("name", ""))
    if views != "none" and spec is not None and not spec.mirror:
        raise UserError(f"tta is {views}, which mirrors images: those of {spec.name} change their class. Leave it out")


def best_classes(
    batches: Sequence[tuple[Tensor, Tensor]], files: Sequence[Path], model: ImageClassifier, top_k: int
) -> list[Row]:
    """The likeliest classes of each file, by the average of its views' probabilities.

    Args:
        batches: What `Trainer.predict` gives: probabilities (N, num_classes) and positions in `files` (N,); a file with
            several views is there several times.
        files: The files.
        model: Names the classes. It can have more outputs than its data have classes: those have numbers.
        top_k: How many classes.
    """
    probabilities, positions = (torch.cat(parts).cpu() for parts in zip(*batches, strict=True))
    counts = positions.bincount(minlength=len(files))
    sums = torch.zeros(len(files), probabilities.shape[1]).index_add_(0, positions, probabilities)
    present = counts.nonzero()[:, 0]  # the user may have limited the batches
    names = [*model.class_names, *(str(k) for k in range(len(model.class_names), model.num_classes))]
    best = (sums / counts[:, None])[present].topk(min(top_k, len(names)), dim=1)
    return [
        (str(files[position]), [(names[k], share) for k, share in zip(classes, shares, strict=True)])
        for position, classes, shares in zip(present.tolist(), best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def _table(rows: list[Row]) -> Table:
    """A line for each image, or more where the screen is narrow: a class and its probability stay together."""
    table = Table(box=None, pad_edge=False)
    table.add_column("image", overflow="fold")
    table.add_column("classes, the likeliest first")
    for file, guesses in rows:
        cells = [Text(f"{shown(name)} {100 * share:.1f} %") for name, share in guesses]
        table.add_row(Text(shown(file)), Columns(cells, padding=(0, 2)))
    return table


def _write(path: Path, rows: list[Row]) -> None:
    # The name of a file may be bytes that are no text: in CSV they stay those bytes, in JSON they are escaped.
    with replacing(path, newline="", errors="surrogateescape") as file:
        if path.suffix.lower() == ".json":
            records = [
                {"image": image, "predictions": [{"class": name, "probability": share} for name, share in guesses]}
                for image, guesses in rows
            ]
            file.write(json.dumps(records, indent=2) + "\n")
            return
        writer = csv.writer(file)
        places = range(1, len(rows[0][1]) + 1)
        writer.writerow(["image", *(f"{what}_{k}" for k in places for what in ("class", "probability"))])
        writer.writerows([image, *(value for guess in guesses for value in guess)] for image, guesses in rows)
