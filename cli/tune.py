"""`zoo tune`: Lightning's finders of a learning rate and of a batch size, with the options of `zoo fit`."""

import io
import logging
import shlex
import sys
import tempfile
import time
import warnings
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.tuner.tuning import Tuner
from torch import Tensor

from zoo.classifier import ImageClassifier
from zoo.cli import front
from zoo.cli.app import ZooCLI
from zoo.cli.errors import UserError, user_errors
from zoo.cli.folder import write_json
from zoo.cli.listing import Parser
from zoo.cli.search_check import Rehearsal
from zoo.cli.tune_curve import Curve, draw, steepest, unbiased
from zoo.cli.tune_memory import bytes_per_image, free_memory
from zoo.cli.whole import check_folder, filled
from zoo.divergence import DivergedError
from zoo.recipe import Recipe

PLACE = Path("runs/tune")
FINDS = ("lr", "batch_size", "both")
LEAST_RATE, GREATEST_RATE, RATES = 1e-6, 10.0, 100
OFF: dict[str, Any] = {
    "schedule": "constant",
    "warmup_epochs": 0.0,
    "layer_decay": 1.0,
    "ema": 0.0,
    "swa": 0.0,
    "early_stopping": 0,
}
"""What of a recipe changes the rate, or ends or averages a run: not during the test of rates."""
FIRST_SIZE, MOST_IMAGES = 2, 2**13
SHARE_OF_MEMORY = 0.8
"""How much of the free memory a batch may fill."""


class Tunable(ImageClassifier):
    """A model for which it is an end, and not an error, that its loss is no number any more."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor | None:  # type: ignore[override]  # None: Lightning takes no step
        """Loss of a batch; the test ends where there is none."""
        try:
            return super().training_step(batch, batch_idx)
        except DivergedError:
            self.trainer.should_stop = True
            return None

    def on_train_epoch_end(self) -> None:
        """Log the epoch; weights that are no numbers end the test."""
        try:
            super().on_train_epoch_end()
        except DivergedError:
            self.trainer.should_stop = True


class TuneCLI(Rehearsal):
    """The command line of `fit` with a trainer for the finders, which writes into a temporary folder alone.

    Args:
        arguments: As `zoo.cli.front.prepare` returns them.
        scratch: The temporary folder.
    """

    def __init__(self, arguments: list[str], scratch: Path) -> None:
        self.scratch = scratch
        super().__init__(arguments)

    def _build(self, key: str) -> Any:
        built = super()._build(key)
        if key == "model":
            built.__class__ = type(type(built).__name__, (Tunable, type(built)), {})
        return built

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Everything has been checked: a trainer on one device that goes on until the finder stops it."""
        settings = self.config_init.trainer
        for name, value in (("resume", self.config.resume), ("ckpt_path", self.config.ckpt_path)):
            if value:
                raise UserError(f"{name} is {value}: zoo tune tests rates from the first step on, leave it out")
        if settings.fast_dev_run:
            raise UserError(f"trainer.fast_dev_run is {settings.fast_dev_run}: the finders take steps, leave it out")
        if settings.devices not in (1, "1", "auto"):
            raise UserError(f"trainer.devices is {settings.devices}: zoo tune works on one, leave it out")
        self.config.trainer.devices = settings.devices = 1
        super().instantiate_trainer(**kwargs)
        own = {"logger": False, "enable_checkpointing": False, "check_val_every_n_epoch": sys.maxsize}
        endless = {"max_epochs": -1, "max_steps": -1, "max_time": None}
        return ZooCLI.instantiate_trainer(self, default_root_dir=str(self.scratch), **own, **endless)


@dataclass(frozen=True)
class Size:
    """What a test of batch sizes found: the largest power of two that works, and what stopped it."""

    images: int
    reason: str


def run(words: list[str]) -> int:
    """Find a rate, a batch size or both, and say which command uses them; the exit status."""
    options, rest = _parser().parse_known_args(words)
    front.check_choice("thing to find", options.find, FINDS)
    with tempfile.TemporaryDirectory(prefix="zoo-tune-") as scratch:
        cli = TuneCLI(front.prepare("fit", rest), Path(scratch))
        with user_errors(ValueError, OSError):
            return _find(cli, options, rest)


def _parser() -> Parser:
    text = "Find a learning rate (the loss while the rate grows), the largest batch that fits into memory, or both."
    note = "All other options are those of zoo fit: --model NAME --data NAME --recipe.optimizer adamw ..."
    parser = Parser(prog="zoo tune", allow_abbrev=False, description=text, epilog=note)
    parser.add_argument("--find", default="lr", metavar="WHAT", help=f"{', '.join(FINDS)} (default: lr)")
    return parser


def _find(cli: TuneCLI, options: Namespace, words: list[str]) -> int:
    folder = _folder(cli)
    for notice in cli.notices:
        print(f"note: {notice}")
    found: dict[str, Any] = {}
    record = {"model": cli.model_name, "data": cli.datamodule.spec.name, "seed": cli.config.seed_everything}
    tuner = Tuner(cli.trainer)
    if options.find != "lr":
        size = find_batch_size(cli, tuner)
        print(f"batch size: {size.images:,} images ({size.reason}); the recipe has {cli.recipe.batch_size:,}")
        record["batch_size"] = {"found": size.images, "reason": size.reason}
        found["recipe.batch_size"] = size.images
        cli.datamodule.batch_size = size.images
    curve = find_rate(cli, tuner) if options.find != "batch_size" else None
    if curve is not None:
        rate = float(f"{curve.suggestion:.2g}")
        print(f"rate: {rate:g}, where the loss falls fastest; the recipe has {cli.recipe.lr:g}")
        record["lr"] = {"found": rate, "rates": curve.rates, "losses": curve.losses}
        found["recipe.lr"] = rate
        if cli.said.get("recipe.scale_lr"):  # the rate was found with this batch size, and is for it
            found["recipe.scale_lr"] = "false"
    with filled(folder) as place:
        write_json(place / "tune.json", record)
        if curve is not None:
            what = f"{record['model']} on {record['data']}, {cli.recipe.optimizer}"
            draw(curve, cli.recipe.lr, what, place / "lr.png")
    print(f"files: {folder} ({'lr.png, ' if curve else ''}tune.json)\nnext:  {fit_command(words, found)}")
    return 0


def _folder(cli: TuneCLI) -> Path:
    """Where the files will be: it says before the tests if they cannot be."""
    default = PLACE / f"{cli.model_name}-{cli.datamodule.spec.name}" / time.strftime("%Y-%m-%d_%H-%M-%S")
    folder = Path(cli.config.run_dir or default)
    check_folder(folder)
    return folder


def find_rate(cli: TuneCLI, tuner: Tuner) -> Curve:
    """Train with a rate that grows from step to step, and put the first weights back.

    Raises:
        UserError: If the recipe has no rate to find, or if the run is too short to say anything.
    """
    if cli.recipe.optimizer == "lbfgs":
        raise UserError("recipe.optimizer is lbfgs: its line search finds the rate of each step")
    if cli.recipe.layer_decay != 1 or cli.finetune.head_lr:
        print("note: all layers have the same rate in the test: recipe.layer_decay and finetune.head_lr are off")
    changes = {field.name: OFF[field.name] for field in fields(Recipe) if field.name in OFF}
    cli.model.recipe = cli.recipe.replace(**changes)
    with _quiet():
        finder = tuner.lr_find(
            cli.model,
            datamodule=cli.datamodule,
            min_lr=LEAST_RATE,
            max_lr=GREATEST_RATE,
            num_training=RATES,
            update_attr=False,
        )
    assert finder is not None
    losses = unbiased(finder.results["loss"])
    best = steepest(losses)
    if best is None:
        raise UserError(f"the loss does not fall between rates of {LEAST_RATE:g} and {GREATEST_RATE:g}: none is best")
    return Curve(finder.results["lr"][: len(losses)], losses, finder.results["lr"][best])


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what Lightning says of each step: its bar is for terminals, and a step may have no loss."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings(), redirect_stderr(sys.stderr if sys.stderr.isatty() else io.StringIO()):
        warnings.filterwarnings("ignore", ".*training_step. returned .None.*")
        yield


def find_batch_size(cli: TuneCLI, tuner: Tuner) -> Size:
    """Double the batch until memory is full, or until there are no more images."""
    images = cli.datamodule.sizes.get("train")
    limit, reason = (images, f"there are {images:,} training images") if images else (MOST_IMAGES, "no more were tried")
    if cli.trainer.strategy.root_device.type == "cpu" and (free := free_memory()) is not None:
        need = bytes_per_image(cli.model)
        what = f"about {need / 2**20:,.2g} MiB for an image, {free / 2**30:,.1f} GiB free"
        print(f"note: a CPU has no limit of its own, so the machine's memory decides: {what}")
        if (fits := int(SHARE_OF_MEMORY * free / need)) < limit:
            limit, reason = max(FIRST_SIZE, fits), "more would fill the memory"
    with _quiet():
        # Lightning does not try the last size. This one is not allowed, so that each that can be found was tried.
        beyond = 2 ** limit.bit_length()
        found = tuner.scale_batch_size(cli.model, datamodule=cli.datamodule, init_val=FIRST_SIZE, max_val=beyond)
    assert found is not None
    tried = min(found, beyond // 2)
    return Size(tried, reason if 2 * tried > limit else "twice as many do not fit into memory")


def fit_command(words: list[str], settings: dict[str, Any]) -> str:
    """The command of `zoo fit` with the user's options and these settings in their places."""
    from zoo.cli.recipes import OTHER_OPTIONS

    taken = {f"--{name}" for name in [*settings, "run_dir"]}
    taken |= {
        "--" + OTHER_OPTIONS.get(name.removeprefix("recipe."), name).replace("init_args.", "") for name in settings
    }
    typed = [word.partition("=")[::2] for word in front.plain(words)]
    kept = [(name, value) for name, value in typed if name not in taken]
    parts = [*kept, *((f"--{name}", str(value)) for name, value in settings.items())]
    return shlex.join(["zoo", "fit", *(word for pair in parts for word in pair)])
