"""`zoo data`: the data sets, what augmentation does to them, what is wrong with a folder, getting things ready."""

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from zoo.cli import front
from zoo.cli.errors import UserError, user_errors
from zoo.cli.listing import Parser, check_patterns, show
from zoo.datamodules.registry import DATASETS, list_datasets

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from zoo.datamodules.base import ImageDataModule

VERBS = {
    "list": "the data sets, and what is known about them",
    "show": "a picture of training images: originals above, augmented below",
    "check": "look at every file of a folder for what would hurt training",
    "prepare": "download a data set, decode its files once, say what is in it",
}

OWN = {
    "show": "  --images N    --output FILE.png\n",
    "prepare": "  What is not there is fetched, except with --data.download false. Of training alone, and refused:\n"
    "  --data.batch_size, num_workers, sampler, drop_last, and augment unless the images are files of any size.\n\n",
}
"""What the help of a verb says besides the options of data sets."""
OF_BATCHES = ("batch_size", "num_workers", "sampler", "drop_last")
"""Options that change nothing before batches are made."""


def run(words: list[str]) -> int:
    """Run a verb of `zoo data`; the exit status."""
    if not words or words[0] in ("-h", "--help"):
        show("usage: zoo data COMMAND [options]\n\n" + "\n".join(f"  {v:<10}{text}" for v, text in VERBS.items()))
        return 0
    verb, rest = words[0], words[1:]
    front.check_choice("data command", verb, VERBS)
    if verb == "list":
        return _list(rest)
    if verb == "check":
        from zoo.cli import data_check

        return data_check.check(rest)
    from zoo.cli.quiet import quiet

    quiet()
    return _show(rest) if verb == "show" else _prepare(rest)


def _list(words: Sequence[str]) -> int:
    text = "The data sets, all or those that were asked for."
    parser = Parser(prog="zoo data list", allow_abbrev=False, description=text)
    parser.add_argument("patterns", nargs="*", metavar="PATTERN", help="names such as 'cifar*'")
    parser.add_argument("--json", action="store_true", help="print the facts as JSON")
    options = parser.parse_args(words)
    check_patterns("data set", options.patterns, list_datasets())
    names = dict.fromkeys(name for pattern in options.patterns or ["*"] for name in list_datasets(pattern))
    if options.json:
        print(json.dumps([asdict(DATASETS[name]) for name in names], indent=2))
    else:
        show(_table(names))
    return 0


def _table(names: Iterable[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("name", "classes", "images", "mean", "std", "augmentation", "what"):
        table.add_column(heading, no_wrap=heading != "what", justify="right" if heading == "classes" else "left")
    for name in names:
        spec = DATASETS[name]
        size = "any size" if spec.any_size else f"{spec.in_channels} x {spec.image_size} x {spec.image_size}"
        mean, std = (
            " ".join(f"{value:.4f}" for value in values) or "from the data" for values in (spec.mean, spec.std)
        )
        classes = str(spec.num_classes) if spec.class_names else ""
        table.add_row(name, classes, size, mean, std, spec.augment, spec.title)
    return table


def _parse(verb: str, words: list[str]) -> "Namespace":
    """The options `--data...` and the verb's own; to prepare is to fetch, unless `--data.download false` is typed."""
    from lightning import seed_everything

    from zoo.cli.parser import DATA_FLAGS, restrict_imports
    from zoo.cli.parser import Parser as DataParser
    from zoo.datamodules.base import ImageDataModule

    restrict_imports()
    if {"-h", "--help"} & set(words):
        usage = f"usage: zoo data {verb} --data NAME [options]\n\n{VERBS[verb].capitalize()}.\n"
        own = OWN.get(verb, "")
        show(f"{usage}\n{own}{DATA_FLAGS.format(verb='fit')}\n  Known: {', '.join(DATASETS)}")
        raise SystemExit(0)
    arguments = front.prepare("data", words)
    parser = DataParser(prog=f"zoo data {verb}", description=VERBS[verb])
    if front.option(arguments, "--data") is None:
        raise UserError(f"zoo data {verb} needs a data set: --data NAME. Known: {', '.join(DATASETS)}.")
    if verb == "prepare":
        _check_idle(arguments)
    parser.arguments = arguments
    parser.add_subclass_arguments(ImageDataModule, "data", required=True)
    parser.add_argument("--seed_everything", type=int, default=0, help="Seed of the splits and the augmentation.")
    if verb == "show":
        parser.add_argument("--images", type=int, default=8, help="How many images to show.")
        parser.add_argument("--output", type=str | None, default=None, help="The PNG file. Default: DATA-POLICY.png")
    config = parser.parse_args(arguments)
    with user_errors(ValueError):
        seed_everything(config.seed_everything, verbose=False)
    is_asked = front.option(arguments, "--data.download") is None and verb == "prepare"
    if is_asked and "init_args.download" in config.data:
        config.data.init_args.download = True
    return config


def _check_idle(arguments: list[str]) -> None:
    """Look for options that are typed in vain; image files are kept whole or cut as the augmentation needs them."""
    spec = DATASETS.get((front.option(arguments, "--data") or "").rpartition(".")[2])
    for name in OF_BATCHES if spec is None or spec.any_size else ("augment", *OF_BATCHES):
        value = front.option(arguments, f"--data.{name}")
        if value is not None:
            raise UserError(f"data.{name} is {value}: it changes nothing in zoo data prepare, leave it out")


def _load(config: "Namespace") -> "ImageDataModule":
    """Build the data module, get its files ready, load it."""
    import importlib

    from zoo.cli.progress_bar import read_data

    module, _, name = config.data.class_path.rpartition(".")
    arguments = config.data.get("init_args")
    settings = {} if arguments is None else arguments.as_dict()
    with user_errors(ValueError, TypeError, OSError, ModuleNotFoundError):
        data: ImageDataModule = getattr(importlib.import_module(module), name)(**settings)
        read_data(data, "fit")
    return data


def _show(words: list[str]) -> int:
    config = _parse("show", words)
    if config.images < 1:
        raise UserError(f"images is {config.images}: it must be at least 1")
    data = _load(config)
    policy = data.augment if isinstance(data.augment, str) else "own"
    path = Path(config.output or f"{data.spec.name}-{policy}.png")
    with user_errors(ValueError, OSError):
        from zoo.cli.picture import draw

        draw(data, config.images, path, policy)
    print(f"{path}: {data.spec.name}, augmentation {policy}")
    return 0


def _prepare(words: list[str]) -> int:
    from zoo.cli.report import plural

    data = _load(_parse("prepare", words))
    for notice in data.notices:
        print(f"note: {notice}")
    images = ", ".join(f"{count:,} {split}" for split, count in data.sizes.items())
    mean, std = (" ".join(f"{value:.4f}" for value in values) for values in (data.spec.mean, data.spec.std))
    print(f"{data.spec.name}: {images} images, {data.num_classes} classes, {plural(data.in_channels, 'channel')}")
    print(f"mean {mean}, standard deviation {std} ({data.normalize})")
    with suppress(ValueError):  # not known of shards on the network
        counts = sorted(zip(data.class_counts, data.class_names, strict=True))
        (least, smallest), (most, largest) = counts[0], counts[-1]
        print(f"training images of a class: {least:,} ({smallest}) to {most:,} ({largest})")
    if data.cached is not None:
        size = f"{data.image_size} x {data.image_size}"
        print(f"kept decoded in {data.cached}, for training at {size} (--data.image_size)")
    return 0
