"""`zoo export`: a trained model as a file for other programs, written only if it computes what the model computes."""

import os
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli import front
from zoo.cli.errors import UserError, user_errors
from zoo.cli.listing import Parser
from zoo.cli.output import check_output

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.classifier import ImageClassifier
    from zoo.datamodules.base import ImageDataModule
    from zoo.export import Parity

DATA = "Images to compare on are those of the test set of the data that the model was trained on; --data NAME "
DATA += "--data.root DIR and the other options of data sets name others, with any classes (zoo fit --help lists them)."


def run(words: list[str]) -> int:
    """Export a model, compare the file with it, and keep the file if both agree.

    Args:
        words: What was typed after `zoo export`.

    Returns:
        The exit status: 0, or 1 if the file computes something else.

    Raises:
        UserError: The arguments are wrong, or the model cannot be exported.
    """
    own, of_data = _divide(words)
    options = _parser().parse_args(own)
    target = _target(options)
    from zoo.cli.trained import load_trained

    model = load_trained(options.model)
    images, of_what = _images(model, options, front.prepare("data", of_data))
    result = _write(model, target, options.format, images)
    if not result.holds:
        print(f"parity fails: {_verdict(result, of_what)}\nno file was written")
        return 1
    print(f"{target}: {type(model).__name__} as {options.format}, {target.stat().st_size / 1e6:,.2f} MB")
    if options.format != "safetensors":  # whose facts `zoo.load` reads from the file itself
        from zoo.cli.folder import write_json
        from zoo.export import facts

        with user_errors(OSError):
            write_json(_facts_file(target), facts(model))
        print(f"{_facts_file(target)}: preprocessing, class names, description")
    print(f"parity holds: {_verdict(result, of_what)}")
    return 0


def _parser() -> Parser:
    text = "A trained model as a file for other programs, compared with the original on real images. Files of ONNX and "
    text += "torch.export map normalised images (N, C, H, W) to logits (N, classes), for any N."
    parser = Parser(prog="zoo export", allow_abbrev=False, description=text, epilog=DATA)
    parser.add_argument("model", metavar="MODEL", help="a checkpoint, MODEL.WEIGHTS as lenet5.mnist, hf-hub:user/name")
    parser.add_argument("--format", required=True, metavar="FORMAT", help="safetensors, onnx or torch_export")
    parser.add_argument("--output", metavar="FILE", help="the file (default: beside the checkpoint, with its name)")
    parser.add_argument("--images", type=int, default=256, metavar="N", help="images to compare (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="replace files that are there already")
    return parser


def _divide(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The command's own words, and the options `--data...` with their values."""
    own: list[str] = []
    of_data: list[str] = []
    rest = iter(words)
    for word in rest:
        if word.partition("=")[0] != "--data" and not word.startswith("--data."):
            own.append(word)
        else:
            of_data += [word] if "=" in word else [word, *(value for value in [next(rest, None)] if value is not None)]
    return own, of_data


def _target(options: Namespace) -> Path:
    """The file to write; it says early if that is not allowed."""
    from zoo.export import SUFFIXES

    front.check_choice("format", options.format, SUFFIXES)
    if options.images < 1:
        raise UserError(f"images is {options.images}: it must be at least 1")
    suffix, where = SUFFIXES[options.format], options.model
    if options.output is not None:
        target = check_output(options.output, (suffix,))
    elif Path(where).is_file():
        target = Path(where).with_suffix(suffix)
    else:  # hf-hub:user/name, or the name of weights
        target = Path(where.rpartition(":")[2].rpartition("/")[2] + suffix)
    for file in (target, _facts_file(target)):
        if file.exists() and not options.force:
            raise UserError(f"'{file}' is there already: --force replaces it, --output FILE names another")
    return target


def _facts_file(target: Path) -> Path:
    return target.with_name(f"{target.name}.json")


def _write(model: "ImageClassifier", target: Path, kind: str, images: "Tensor") -> "Parity":
    """Write beside the target; only what computes the same gets its name."""
    from zoo.export import export, parity

    unfinished = target.with_name(f".{target.stem}.{os.getpid()}.unchecked{target.suffix}")
    with user_errors(ValueError, OSError):
        try:
            export(model, unfinished, kind)
            result = parity(model, unfinished, kind, images)
            if result.holds:
                unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
    return result


def _verdict(result: "Parity", of_what: str) -> str:
    same = round(result.top1_agreement * result.images)
    return (
        f"the same class for {same:,} of {result.images:,} {of_what}, "
        f"largest difference of a logit {result.max_difference:.1e} (tolerance {result.tolerance:.1e})"
    )


def _images(model: "ImageClassifier", options: Namespace, of_data: list[str]) -> tuple["Tensor", str]:
    """What to compare on, and what it is: real images, or random ones where none were named and none are found."""
    from zoo.cli.trained import data_for

    try:
        data = data_for(model, options.model, of_data, "test", same_classes=False)
        if data.in_channels != model.in_channels:
            name, found = data.spec.name, data.in_channels
            raise UserError(f"images of {name} have {found} channels, '{options.model}' takes {model.in_channels}")
        split = "test" if "test" in data.splits else "val"
        return _spread(data, split, options.images), f"{split} images of {data.spec.name}"
    except UserError as error:
        if of_data:
            raise
        import torch

        print(f"note: random images are compared: {error}")
        shape = (options.images, model.in_channels, model.image_size, model.image_size)
        return torch.randn(shape, generator=torch.Generator().manual_seed(0)), "random images"


def _spread(data: "ImageDataModule", split: str, number: int) -> "Tensor":
    """Images from all over a split, since the classes of some come one after another; of a stream the first ones."""
    import numpy as np

    with user_errors(ValueError, OSError):
        if data.is_stream:
            data.batch_size = number
            batch = next(iter(data.ordered_loader(split)))
        else:
            dataset = data.make_dataset(split)
            batch = dataset[np.linspace(0, len(dataset) - 1, min(number, len(dataset))).round().astype(np.int64), 0]
        images: Tensor = data.on_after_batch_transfer(batch, 0)[0]
    return images
