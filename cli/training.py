"""`zoo fit`: train, test once, leave a run folder."""

import copy
import os
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.nn.modules.batchnorm import _BatchNorm

from zoo.cached import cache_features, why_not_cached
from zoo.checkpoint import load_weights, read_checkpoint
from zoo.cli import front
from zoo.cli.app import ZooCLI, as_list, namespace
from zoo.cli.checkpoints import BestCheckpoint, LastCheckpoint
from zoo.cli.errors import UserError, describe
from zoo.cli.folder import make_run_folder
from zoo.cli.metrics_log import Events, MetricsCSV
from zoo.cli.progress_bar import progress_bar, read_data
from zoo.cli.report import announce, finish_record, save_config, start_record, summary
from zoo.divergence import DivergedError
from zoo.optim import parameter_groups

DIVERGED_STATUS, INTERRUPTED_STATUS, TERMINATED_STATUS = 1, 130, 143
FIXED_ON_RESUME = ("optimizer", "lr", "momentum", "weight_decay", "decay_all", "layer_decay")
"""Part of the optimiser's state: the checkpoint's values would silently win."""


class FitCLI(ZooCLI):
    """The command line of `fit`: a run folder, loggers and checkpoints around the trainer."""

    folder: Path
    resume_from: Path | None = None
    best: BestCheckpoint | None = None

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Everything has been checked: make the run folder and the trainer that writes to it."""
        read_data(self.datamodule, "fit")
        settings = self.config_init.trainer
        self._check_batches()
        self._choose_folder()
        callbacks, logger = as_list(settings.callbacks), settings.logger
        if not (settings.fast_dev_run or settings.barebones or settings.enable_checkpointing is False):
            callbacks += self._checkpoints()
        if logger in (None, True) and not settings.barebones:
            logger = [MetricsCSV(self.folder, self._resume_step()), Events(self.folder, name="", version="")]
        return super().instantiate_trainer(
            callbacks=callbacks, logger=logger, default_root_dir=str(self.folder), **kwargs
        )

    def _check_batches(self) -> None:
        """Build a trainer for trial, which finds what is wrong with the settings, and count its devices."""
        batch_size = self.recipe.batch_size
        # Settings of its own: callbacks and strategies that one trainer has used do not fit into another.
        fresh = self.parser.instantiate(namespace(trainer=self.config.trainer.clone())).trainer
        devices = self.make_trainer({**fresh, "logger": False}).world_size
        if batch_size % devices:
            raise UserError(f"recipe.batch_size is {batch_size}: it must be a multiple of the {devices} devices")
        if batch_size == devices and not self._learns_from_one_image():
            raise UserError(f"recipe.batch_size is {batch_size}: batch normalisation needs two images on each device")
        rest = self.datamodule.sizes.get("train", 0) % batch_size
        if not self.datamodule.drop_last and 0 < rest < 2 * devices and not self._learns_from_one_image():
            raise UserError(
                f"data.drop_last is false: batch normalisation needs two images on each device, {rest} are left"
            )
        if self.recipe.class_weights == self.datamodule.sampler == "balanced":
            raise UserError("recipe.class_weights and data.sampler are both balanced: rare classes would count twice")
        if self.config.trainer.limit_train_batches == 0:
            raise UserError("trainer.limit_train_batches is 0: there is nothing to train on")

    def _learns_from_one_image(self) -> bool:
        """Try a copy: batch normalisation has no deviation where one image has one value in a channel."""
        if not any(isinstance(layer, _BatchNorm) for layer in self.model.modules()):
            return True
        model = copy.deepcopy(self.model).train()
        try:
            with torch.no_grad():
                model(torch.zeros(1, model.in_channels, model.image_size, model.image_size))
        except ValueError:
            return False
        return True

    def _choose_folder(self) -> None:
        """The folder of the run that is resumed, or a new one; and the checkpoint to go on from, if there is one."""
        if self.config.resume and self.config.ckpt_path:
            raise UserError("--resume goes on from the run's last.ckpt: leave --ckpt_path out")
        if self.config.resume:
            folder = self.config.run_dir or front.config_folder(self.arguments)
            if folder is None:
                raise UserError("--resume needs the run: --config runs/.../config.yaml, or --run_dir")
            self.folder, self.resume_from = Path(folder), Path(folder) / "checkpoints" / "last.ckpt"
            if not self.resume_from.is_file():
                raise UserError(f"nothing to resume in '{folder}': it has no checkpoints/last.ckpt")
        elif self.config.ckpt_path:
            self.resume_from = Path(self.config.ckpt_path)
        if self.resume_from is not None:
            self.checkpoint = self._check_checkpoint(self.resume_from)
        if not self.config.resume:
            place = Path(self.config_init.trainer.default_root_dir or "") / "runs"
            default = place / f"{self.model_name}-{self.datamodule.spec.name}"
            self.folder = make_run_folder(self.config.run_dir, default)

    def _check_checkpoint(self, path: Path) -> dict[str, Any]:
        """A checkpoint that training can go on from with the network and the recipe asked for."""
        checkpoint = read_checkpoint(path, must_be_registered=False)
        load_weights(self.model, checkpoint, path)
        if "optimizer_states" not in checkpoint:
            raise UserError(f"'{path}' holds weights only: training cannot go on from it")
        groups = len(list(parameter_groups(self.model, self.model.stages(), self.recipe, self.finetune.head_lr)))
        if len(checkpoint["optimizer_states"][0]["param_groups"]) != groups:
            raise UserError(
                f"'{path}' is of an older version, whose optimiser was divided otherwise: start the run anew"
            )
        before = checkpoint["zoo"]["recipe"]
        for name in FIXED_ON_RESUME:
            now = getattr(self.recipe, name)
            if before[name] != now:
                raise UserError(f"recipe.{name} was {before[name]} and is {now}: it cannot change within a run")
        follows_epochs = self.finetune.changes and not (self.finetune.unfreeze_every or self.finetune.probe_epochs)
        if follows_epochs and before["epochs"] != self.recipe.epochs:
            raise UserError(
                f"recipe.epochs was {before['epochs']} and is {self.recipe.epochs}: what is frozen follows from it"
            )
        for name, was in checkpoint["zoo"].get("finetune", {}).items():
            now = getattr(self.finetune, name)
            if was != now:
                raise UserError(f"finetune.{name} was {was} and is {now}: it cannot change within a run")
        return checkpoint

    def _resume_step(self) -> int | None:
        return int(self.checkpoint["global_step"]) if self.config.resume else None

    def _checkpoints(self) -> list[ModelCheckpoint]:
        """Two callbacks: with one, `last.ckpt` would be as old as the best epoch."""
        folder = self.folder / "checkpoints"
        same: dict[str, Any] = {"dirpath": folder, "enable_version_counter": False, "auto_insert_metric_name": False}
        last = LastCheckpoint(filename="last", save_on_train_epoch_end=True, save_on_exception=True, **same)
        if self.config_init.trainer.limit_val_batches == 0:
            return [last]
        images = self.datamodule.sizes.get("val")
        # With a moving average, Lightning puts it in place of the weights only when it saves a whole checkpoint.
        self.best = BestCheckpoint(images, filename="best", save_weights_only=not self.recipe.ema, **same)
        return [self.best, last]


def fit(arguments: list[str]) -> int:
    """Train as the options say; the exit status."""
    cli = FitCLI("fit", arguments)
    trainer, model, data = cli.trainer, cli.model, cli.datamodule
    model.preprocessing = data.preprocessing()  # that of the weights, and what the user set instead
    if trainer.is_global_zero:
        announce(cli)
        save_config(cli)
    record = start_record(cli)
    started = time.monotonic()
    try:
        use_cached_features(cli)
        trainer.fit(model, datamodule=data, ckpt_path=cli.resume_from, weights_only=True)
        record["seconds_training"] = round(time.monotonic() - started, 2)
        if not cli.config.no_test and not cli.config.trainer.fast_dev_run:
            test_best(cli)
    except (ValueError, OSError) as error:  # of the data, such as a file that has gone
        finish_record(cli, record, "failed", started)
        if os.environ.get("ZOO_TRACEBACK") == "1":
            raise
        raise UserError(describe(error)) from error
    except KeyboardInterrupt:  # before the trainer has begun, while features are computed
        finish_record(cli, record, "interrupted", started)
        raise
    except DivergedError as error:
        finish_record(cli, record, "diverged", started)
        if trainer.is_global_zero:
            print(f"zoo: {error}")
        return DIVERGED_STATUS
    except SystemExit as end:  # Lightning's way to stop after SIGTERM and, once it has shut down, after Ctrl-C
        finish_record(cli, record, "interrupted", started)
        if trainer.is_global_zero:
            print(f"interrupted. To go on: zoo fit --config {cli.folder / 'config.yaml'} --resume")
        return TERMINATED_STATUS if isinstance(end, SIGTERMException) else INTERRUPTED_STATUS
    finish_record(cli, record, "finished", started)
    if trainer.is_global_zero:
        print(summary(cli, record))
    return 0


def use_cached_features(cli: FitCLI) -> None:
    """Where only the last layer is trained, compute what it sees of each image once, if that changes nothing."""
    if cli.finetune.method != "linear":
        return
    model = cli.model.to(cli.trainer.strategy.root_device)
    if reason := why_not_cached(model, cli.datamodule, cli.trainer.world_size):
        if cli.trainer.is_global_zero:
            print(f"note: features are computed anew in every epoch: {reason}")
        return
    with progress_bar("features of the frozen layers") as report:
        cache_features(model, cli.datamodule, report)


def test_best(cli: FitCLI) -> None:
    """Evaluate the best epoch, or without a validation split the last one, on the test set if there is one."""
    if "test" not in cli.datamodule.splits:
        return
    if cli.best is not None and cli.best.best_model_path:
        path = cli.best.best_model_path
        load_weights(cli.model, read_checkpoint(path, must_be_registered=False), path)
    cli.trainer.test(cli.model, datamodule=cli.datamodule, verbose=False)
