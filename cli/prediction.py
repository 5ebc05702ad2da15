"""`zoo predict`: classes of image files, with the model, the preprocessing and the class names of a checkpoint."""

import csv
from pathlib import Path

from rich.console import Console
from rich.table import Table

from zoo.cli import front
from zoo.cli.app import ZooCLI
from zoo.cli.errors import UserError, user_errors
from zoo.cli.trained import load_trained
from zoo.datamodules.images import ImageFiles, collect_images


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
    model = load_trained(path)
    with user_errors(ValueError, OSError):
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
