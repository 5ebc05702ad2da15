"""`zoo features`: what a trained model's last layer is given for each image of a data set, as one file of arrays."""

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from zoo.cli import front
from zoo.cli.errors import UserError, user_errors
from zoo.cli.listing import Parser
from zoo.cli.output import check_output, replacing

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from zoo.classifier import ImageClassifier
    from zoo.datamodules.base import ImageDataModule

    Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]

SPLITS = ("train", "val", "test")
DATA_OPTIONS = (
    "Without --data, the images are those that the model was trained on. --data NAME --data.root DIR and the "
)
DATA_OPTIONS += "other options of data sets name others, with any classes: zoo fit --help lists them."


def run(words: list[str]) -> int:
    """Write the features of a data set's images to a file; the exit status."""
    own, of_data = divide(words)
    front.check_idle("features", of_data, is_rebuilt=True)
    options = _parser().parse_args(own)
    if options.ckpt_path is None:
        raise UserError("zoo features needs a trained model: --ckpt_path runs/.../checkpoints/best.ckpt")
    path = check_output(options.output, (".npz",))
    arrays = compute(options.ckpt_path, of_data, splits_of(options.splits))
    import numpy as np

    with user_errors(OSError), replacing(path, "wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's hint takes the names for its own options
    print(f"{describe(arrays)}\n{path}: {path.stat().st_size / 1e6:,.1f} MB\nnext:  zoo probe {path}")
    return 0


def _parser() -> Parser:
    text = "What a trained model's last layer is given for each image, without augmentation, as arrays of numpy: "
    text += (
        "train_features (N, D), train_labels (N,), the same of val and test, class_names, and as JSON model and data."
    )
    parser = Parser(prog="zoo features", allow_abbrev=False, description=text, epilog=DATA_OPTIONS)
    parser.add_argument(
        "--output", default="features.npz", metavar="FILE", help="the file, NAME.npz (default: %(default)s)"
    )
    add_source(parser)
    return parser


def add_source(parser: Parser) -> None:
    """The options that say which model's features, and of which images."""
    text = "a checkpoint such as runs/.../best.ckpt, listed weights such as lenet5.mnist, or hf-hub:user/name"
    parser.add_argument("--ckpt_path", metavar="MODEL", help=text)
    parser.add_argument("--splits", metavar="NAMES", help=f"some of {','.join(SPLITS)} (default: all that there are)")


def divide(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """A command's own words, and the options `--data...`."""
    arguments = front.prepare("data", [*words])
    is_data = [word.startswith(("--data=", "--data.")) for word in arguments]
    own, of_data = (
        [w for w, belongs in zip(arguments, is_data, strict=True) if belongs == kind] for kind in (False, True)
    )
    return own, of_data


def splits_of(text: str | None) -> list[str]:
    """The splits that are asked for in the order of `SPLITS`; none: all that there are."""
    asked = [] if text is None else [name.strip() for name in text.split(",")]
    for name in asked:
        front.check_choice("split", name, SPLITS)
    return [name for name in SPLITS if name in asked]


def compute(where: str, of_data: Sequence[str], splits: Sequence[str]) -> "Arrays":
    """The arrays that the file holds.

    Args:
        where: What `zoo.load` takes.
        of_data: The options `--data...`.
        splits: The splits; none: all that there are.

    Raises:
        UserError: If there is no such model, or if its features cannot be taken of these images.
    """
    import numpy as np

    from zoo.cli.trained import data_for, load_trained

    model = load_trained(where)
    stage = {"test": "test", "val": "validate"}.get(",".join(splits), "fit")
    data = data_for(model, where, of_data, stage, same_classes=False)
    if data.in_channels != model.in_channels:
        raise UserError(
            f"images of {data.spec.name} have {data.in_channels} channels, '{where}' takes {model.in_channels}"
        )
    arrays = _all_splits(model, data, splits or [name for name in SPLITS if name in data.splits])
    for notice in data.notices:
        print(f"note: {notice}")
    arrays["class_names"] = np.array(data.class_names, dtype=np.str_)
    for name, facts in (("model", model.description()), ("data", data.describe())):
        arrays[name] = np.array(json.dumps(facts))
    return arrays


def _all_splits(model: "ImageClassifier", data: "ImageDataModule", splits: Sequence[str]) -> "Arrays":
    """Features and labels of each split."""
    import torch
    from rich.progress import MofNCompleteColumn

    from zoo.cli.progress_bar import progress_bar
    from zoo.features import extract_features

    model.to(torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu")
    sizes = [data.sizes.get(name) for name in splits]
    total = None if None in sizes else sum(filter(None, sizes))
    arrays: Arrays = {}
    done = 0
    with progress_bar("features", MofNCompleteColumn()) as bar, user_errors(ValueError, OSError):
        for name in splits:

            def advance(count: int, before: int = done) -> None:
                bar(before + count, total)

            found = extract_features(model, _batches(data, name, model.device), advance)
            arrays[f"{name}_features"], arrays[f"{name}_labels"] = found.features.numpy(), found.labels.numpy()
            done += len(found.labels)
    return arrays


def _batches(data: "ImageDataModule", name: str, device: "torch.device") -> Iterator[tuple["Tensor", "Tensor"]]:
    """The normalised images of a split in order, without augmentation."""
    for images, labels in data.ordered_loader(name):
        yield data.on_after_batch_transfer((images.to(device), labels), 0)


def describe(arrays: "Arrays") -> str:
    """One line: which model, which data, how many features of how many images."""
    model, data = (json.loads(str(arrays[name])) for name in ("model", "data"))
    network = model["args"].get("backbone", model["name"])
    found = [(name, arrays[f"{name}_features"]) for name in SPLITS if f"{name}_features" in arrays]
    images = ", ".join(f"{len(features):,} {name}" for name, features in found)
    return f"{network} on {data['name']}: {found[0][1].shape[1]:,} features of {images} images"
