"""`zoo fit`: train, test once, leave a run folder."""

import copy
import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.nn.modules.batchnorm import _BatchNorm

from zoo.activation_checkpointing import checkpoint_activations
from zoo.cached import cache_features, why_not_cached
from zoo.checkpoint import load_weights, read_checkpoint
from zoo.checkpoint_io import LAST, PREVIOUS
from zoo.cli import front
from zoo.cli.app import ZooCLI, as_list, namespace
from zoo.cli.checkpoints import BestCheckpoint, LastCheckpoint, lost_best
from zoo.cli.effects import check_batches, idle_notices
from zoo.cli.errors import UserError, describe, user_errors
from zoo.cli.failing import hint_for, how_to_go_on, patience
from zoo.cli.folder import hold, make_run_folder
from zoo.cli.listing import show
from zoo.cli.metrics_log import Events, MetricsCSV
from zoo.cli.profile import step_table
from zoo.cli.progress_bar import progress_bar, read_data
from zoo.cli.report import announce, finish_record, save_config, start_record, summary
from zoo.cli.resuming import check_checkpoint, check_exactness, checkpoint_files, newest_checkpoint
from zoo.cli.stopping import EXIT_STATUS, StopAfterStep
from zoo.compiling import compile_forward
from zoo.divergence import DivergedError
from zoo.profiler import StepTimes
from zoo.weight_files import remove_unfinished

FAILED_STATUS = 1


class FitCLI(ZooCLI):
    """The command line of `fit`: a run folder, loggers and checkpoints around the trainer."""

    folder: Path
    trial: L.Trainer
    resume_from: Path | None = None
    stop: StopAfterStep
    best: BestCheckpoint | None = None
    held: ExitStack
    step_times: StepTimes | None = None

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Everything has been checked: make the run folder and the trainer that writes to it."""
        read_data(self.datamodule, "fit")
        settings = self.config_init.trainer
        self._check_batches()
        self._compile()
        self.held = ExitStack()
        self._choose_folder()
        self.stop = StopAfterStep()
        callbacks, logger = [*as_list(settings.callbacks), self.stop], settings.logger
        if not (settings.fast_dev_run or settings.barebones or settings.enable_checkpointing is False):
            callbacks += self._checkpoints()
        if logger in (None, True) and not settings.barebones:
            logger = [MetricsCSV(self.folder, *self._resume_row()), Events(self.folder, name="", version="")]
        if self.config.profile:
            kwargs["profiler"] = self._profiler()
        return super().instantiate_trainer(
            callbacks=callbacks, logger=logger, default_root_dir=str(self.folder), **kwargs
        )

    def _profiler(self) -> StepTimes:
        """What `--profile` asks for; a trainer has one profiler."""
        if self.config.trainer.profiler is not None:
            raise UserError("--profile and trainer.profiler are both given: a run has one profiler, say one of them")
        self.step_times = StepTimes()
        return self.step_times

    def _check_batches(self) -> None:
        """Build a trainer for trial, which finds what is wrong with the settings, and count its devices."""
        batch_size = self.recipe.batch_size
        # Settings of its own: callbacks and strategies that one trainer has used do not fit into another.
        fresh = self.parser.instantiate(namespace(trainer=self.config.trainer.clone())).trainer
        self.trial = self.make_trainer({**fresh, "logger": False})
        devices = self.trial.world_size
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
        if self.config.checkpoint_every < 0:
            raise UserError(f"checkpoint_every is {self.config.checkpoint_every}: it must be 0 or a number of steps")
        if self.config.trainer.limit_train_batches == 0:
            raise UserError("trainer.limit_train_batches is 0: there is nothing to train on")
        if not self.config.trainer.fast_dev_run:
            epochs = self.config_init.trainer.max_epochs
            check_batches(self.config.trainer, self.datamodule.sizes, batch_size, epochs)
            self.notices += idle_notices(self.config, self.recipe, self.datamodule.sizes, epochs, devices)
        self.model.check_recipe(self.trial)

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

    def _compile(self) -> None:
        if self.config.compile and self.config.checkpoint_activations:
            raise UserError("compile and checkpoint_activations are both true: choose one")
        if self.config.checkpoint_activations:
            checkpoint_activations(self.model)
        if self.config.compile:
            with user_errors(RuntimeError):
                compile_forward(self.model)

    def _choose_folder(self) -> None:
        """The folder of the run that is resumed, or a new one; and the checkpoint to go on from, if there is one."""
        if self.config.resume and self.config.ckpt_path:
            raise UserError("--resume goes on from the run's last.ckpt: leave --ckpt_path out")
        if self.config.resume:
            folder = self.config.run_dir or front.config_folder(self.arguments)
            if folder is None:
                raise UserError("--resume needs the run: --config runs/.../config.yaml, or --run_dir")
            self.folder = Path(folder)
            checkpoint_files(self.folder)  # nothing is written where there is nothing to resume
            self.held.enter_context(hold(self.folder))
            self.resume_from, self.checkpoint, faults = newest_checkpoint(self.folder)
            self.notices += faults
        elif self.config.ckpt_path:
            self.checkpoint = read_checkpoint(self.config.ckpt_path, must_be_registered=False)
            self.resume_from = Path(self.config.ckpt_path)
        elif self.config.resume_inexact:
            raise UserError("--resume-inexact needs the run: --config runs/.../config.yaml, --run_dir, or --ckpt_path")
        if self.resume_from is not None:
            check_checkpoint(self, self.resume_from, self.checkpoint)
            self.notices += check_exactness(self, self.checkpoint)
            self.notices += lost_best(self.folder, self.checkpoint) if self.config.resume else []
        if self.config.resume:
            self._tidy()
        else:
            place = Path(self.config_init.trainer.default_root_dir or "") / "runs"
            default = place / f"{self.model_name}-{self.datamodule.spec.name}"
            self.folder = make_run_folder(self.config.run_dir, default)
            self.held.enter_context(hold(self.folder))

    @rank_zero_only
    def _tidy(self) -> None:
        """Remove what an earlier part of the run, when it was killed, left half-written or damaged."""
        checkpoints = self.folder / "checkpoints"
        for folder in (self.folder, checkpoints):
            remove_unfinished(folder)
        if self.resume_from == checkpoints / PREVIOUS:  # or the next one to be saved would push it out
            (checkpoints / LAST).unlink(missing_ok=True)

    def _resume_row(self) -> tuple[int | None, dict[str, float] | None]:
        """At which step metrics.csv goes on, and what its last row before that must have."""
        return (int(self.checkpoint["global_step"]), self.checkpoint.get("row")) if self.config.resume else (None, None)

    def _checkpoints(self) -> list[ModelCheckpoint]:
        """Two callbacks: with one, `last.ckpt` would be as old as the best epoch."""
        folder = self.folder / "checkpoints"
        same: dict[str, Any] = {"dirpath": folder, "enable_version_counter": False, "auto_insert_metric_name": False}
        last = LastCheckpoint(self.config.checkpoint_every, **same)
        if self.config_init.trainer.limit_val_batches == 0:
            return [last]
        images, is_averaged = self.datamodule.sizes.get("val"), bool(self.recipe.ema or self.recipe.swa)
        # Lightning puts an average in place of the weights only when it saves a whole checkpoint.
        self.best = BestCheckpoint(images, filename="best", save_weights_only=not is_averaged, **same)
        return [self.best, last]


def fit(arguments: list[str]) -> int:
    """Train as the options say; the exit status."""
    cli = FitCLI("fit", arguments)
    with user_errors(OSError), cli.held:  # such as a disk that is full, or a folder that may not be written to
        return train(cli)


def train(cli: FitCLI) -> int:
    """Train, test once, keep the record; the exit status."""
    trainer, model, data = cli.trainer, cli.model, cli.datamodule
    model.preprocessing = data.preprocessing()  # that of the weights, and what the user set instead
    if trainer.is_global_zero:
        announce(cli)
        save_config(cli)
    record = start_record(cli)
    started = time.monotonic()
    try:
        use_cached_features(cli)
        if cli.resume_from is not None:  # Lightning does so only after it has loaded weights, to 32 bits
            trainer.precision_plugin.convert_module(model)
        trainer.fit(model, datamodule=data, ckpt_path=cli.resume_from, weights_only=True)
        if cli.stop.received is not None and trainer.world_size == 1:  # it came while the last epoch was saved
            raise SystemExit
        record["seconds_training"] = round(time.monotonic() - started, 2)
        if not cli.config.no_test and not cli.config.trainer.fast_dev_run:
            test_best(cli)
    except (RuntimeError, MemoryError, ConnectionError, EOFError) as error:
        hint = hint_for(error)
        with patience():
            finish_record(cli, record, "diverged" if isinstance(error, DivergedError) else "failed", started)
            if hint is None or os.environ.get("ZOO_TRACEBACK") == "1":
                raise
            if trainer.is_global_zero:
                print(f"zoo: {hint}")
                print(how_to_go_on(cli.folder))
            elif not isinstance(error, DivergedError) and not trainer.received_sigterm:  # all processes know of these
                print(f"zoo: process {trainer.global_rank}: {hint}")
        return FAILED_STATUS
    except (ValueError, OSError, MisconfigurationException, ModuleNotFoundError) as error:  # such as a full disk
        finish_record(cli, record, "failed", started)
        if os.environ.get("ZOO_TRACEBACK") == "1":
            raise
        raise UserError(describe(error)) from error
    except KeyboardInterrupt:  # before the trainer has begun, while features are computed
        finish_record(cli, record, "interrupted", started)
        raise
    except SystemExit as end:  # Lightning's way to stop, once it has shut down
        finish_record(cli, record, "interrupted", started)
        if trainer.is_global_zero:
            print(f"interrupted. {how_to_go_on(cli.folder)}")
        in_test = signal.SIGTERM if isinstance(end, SIGTERMException) else signal.SIGINT
        return EXIT_STATUS[cli.stop.received or in_test]
    finish_record(cli, record, "finished", started)
    if trainer.is_global_zero:
        if cli.step_times is not None:
            show(step_table(cli.step_times, cli.recipe.batch_size, cli.folder))
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
    for name in ("compile", "checkpoint_activations"):
        if cli.config[name] and cli.trainer.is_global_zero:
            print(f"note: {name} changes nothing in training: features of the frozen layers are computed once")


def test_best(cli: FitCLI) -> None:
    """Evaluate the best epoch, or without a validation split the last one, on the test set if there is one."""
    if "test" not in cli.datamodule.splits:
        return
    if cli.best is not None and cli.best.best_model_path:
        path = cli.best.best_model_path
        load_weights(cli.model, read_checkpoint(path, must_be_registered=False), path)
    # A run by steps that was killed after its last one has no step to take: Lightning would count an epoch less.
    epochs = cli.trainer.fit_loop.epoch_progress.current
    epochs.completed = epochs.processed  # type: ignore[attr-defined]  # which a _ProcessedTracker has
    cli.trainer.test(cli.model, datamodule=cli.datamodule, verbose=False)
