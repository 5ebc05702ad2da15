"""`zoo probe`: how well other learners classify from a trained model's features, as `zoo features` takes them."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table

from zoo.cli import features, front
from zoo.cli.errors import UserError, user_errors
from zoo.cli.learners import LEARNERS, Part, Result, probe
from zoo.cli.listing import Parser, show
from zoo.cli.output import check_output, replacing

Arrays = dict[str, npt.NDArray[Any]]


def run(words: list[str]) -> int:
    """Train the learners on features and print what they reach; the exit status."""
    own, of_data = features.divide(words)
    options = _parser().parse_args(own)
    front.check_choice("learner", options.learner, [*LEARNERS, "both"])
    names = list(LEARNERS) if options.learner == "both" else [options.learner]
    path = None if options.output is None else check_output(options.output, (".json",))
    parts = read_parts(_arrays(options, of_data))
    remarks: list[str] = []
    results = [probe(name, parts, remarks) for name in names]
    rule = _rule(parts)
    _show(results, "val" if "val" in parts else f"{parts['train'].folds}-fold")
    show("\n".join(["", rule, *(f"note: {remark}" for remark in dict.fromkeys(remarks))]))
    if path is not None:
        record = {
            "source": str(options.file or options.ckpt_path),
            "images": {name: len(part) for name, part in parts.items()},
            "how": rule,
            "results": [asdict(result) for result in results],
        }
        with user_errors(OSError), replacing(path) as file:
            file.write(json.dumps(record, indent=2) + "\n")
    return 0


def _parser() -> Parser:
    text = "Logistic regression and nearest neighbours on the features of a trained model: zoo probe features.npz, or "
    text += "zoo probe --ckpt_path MODEL, which takes the features itself."
    parser = Parser(prog="zoo probe", allow_abbrev=False, description=text, epilog=features.DATA_OPTIONS)
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="what zoo features wrote")
    parser.add_argument("--learner", default="both", metavar="NAME", help="logistic, knn or both (default: both)")
    parser.add_argument("--output", metavar="FILE", help="write the results to this file too, NAME.json")
    features.add_source(parser)
    return parser


def _arrays(options: argparse.Namespace, of_data: Sequence[str]) -> Arrays:
    """The arrays of the file, or those that the model gives now."""
    if (options.file is None) == (options.ckpt_path is None):
        raise UserError("zoo probe needs one of the two: a file of zoo features, or --ckpt_path MODEL")
    if options.file is None:
        arrays = features.compute(options.ckpt_path, of_data, features.splits_of(options.splits))
        show(features.describe(arrays) + "\n")
        return arrays
    if of_data or options.splits is not None:
        raise UserError(f"'{options.file}' holds features already: --data and --splits go with --ckpt_path")
    return read_arrays(options.file)


def read_arrays(path: Path) -> Arrays:
    """The arrays of an .npz file; pickled objects are refused.

    Raises:
        UserError: If there is no such file, or it is damaged or of another kind.
    """
    if not path.is_file():
        raise UserError(f"no file of features at '{path}': zoo features writes one")
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except PermissionError:
        raise UserError(f"'{path}' may not be read") from None
    except Exception as error:  # reading a damaged file raises whatever the damage leads to
        raise UserError(f"'{path}' is no .npz file, is damaged, or holds more than plain arrays") from error


def read_parts(arrays: Arrays) -> dict[str, Part]:
    """The splits that the arrays hold.

    Raises:
        UserError: If they do not fit together, are not finite, or are too few to learn from.
    """
    parts = {name: _part(arrays, name) for name in features.SPLITS if f"{name}_features" in arrays}
    if "train" not in parts:
        raise UserError("there are no train_features to learn from: zoo features --splits train,val,test writes them")
    widths = {name: part.features.shape[1] for name, part in parts.items()}
    if len(set(widths.values())) > 1:
        raise UserError(f"the splits have different numbers of features, so they are not of one model: {widths}")
    if len(np.unique(parts["train"].labels)) < 2:
        raise UserError(f"the {len(parts['train']):,} training images are all of one class: learners need two")
    if "val" not in parts and parts["train"].folds < 2:
        raise UserError("a class has one training image: without val_features, every class needs two")
    return parts


def _part(arrays: Arrays, name: str) -> Part:
    rows, labels = arrays[f"{name}_features"], arrays.get(f"{name}_labels")
    if labels is None:
        raise UserError(f"there are {name}_features but no {name}_labels: zoo features writes both")
    are_numbers = rows.dtype.kind == "f" and labels.dtype.kind in "iu"
    if not are_numbers or rows.ndim != 2 or labels.shape != rows.shape[:1] or 0 in rows.shape:
        found = f"{rows.dtype} {rows.shape} and {labels.dtype} {labels.shape}"
        raise UserError(f"{name}_features and {name}_labels are {found}: they must be floats (N, D) and integers (N,)")
    if not np.isfinite(rows).all():
        raise UserError(f"{name}_features are not all finite numbers: has the model's training diverged?")
    return Part(rows.astype(np.float64), labels.astype(np.int64))


def _rule(parts: dict[str, Part]) -> str:
    """How the settings were chosen, in a line."""
    if "val" in parts:
        return "settings: the best on val after learning from train; for the test, learnt again from train and val"
    folds = parts["train"].folds
    return f"settings: the best in a {folds}-fold cross-validation of train; for the test, learnt from train"


def _show(results: list[Result], chosen_on: str) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("learner", "setting", f"{chosen_on} accuracy", "test accuracy"):
        table.add_column(heading, justify="right" if heading.endswith("accuracy") else "left", no_wrap=True)
    for result in results:
        ((key, value),) = result.setting.items()
        test = "no test images"
        if result.test_accuracy is not None:
            right = round(result.test_accuracy * result.test_images)
            test = f"{100 * result.test_accuracy:.2f} % ({right:,} of {result.test_images:,})"
        table.add_row(result.learner, f"{key} = {value:g}", f"{100 * result.val_accuracy:.2f} %", test)
    show(table)
