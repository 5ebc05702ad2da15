"""Options that would change nothing, or quietly change something else: each is refused, with the one to use."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from jsonargparse import Namespace

from zoo.cli import front
from zoo.cli.errors import UserError
from zoo.recipe import Recipe
from zoo.registry import nearest

OF_TRAINING = (
    *("max_epochs", "min_epochs", "max_steps", "min_steps", "max_time", "limit_train_batches", "val_check_interval"),
    *("check_val_every_n_epoch", "num_sanity_val_steps", "log_every_n_steps", "enable_checkpointing"),
    *("accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "sync_batchnorm", "detect_anomaly"),
    *("reload_dataloaders_every_n_epochs", "enable_autolog_hparams", "enable_model_summary"),
)
"""The trainer's options that nothing but `zoo fit` uses."""
SPLITS = {"fit": ("val", "test"), "validate": ("val",), "test": ("test",), "predict": ("predict",)}
"""Which batches, beside those of training, a command can be limited to."""
NEVER = {
    "overfit_batches": "which images there are is the data's choice: --data.train_size N",
    "use_distributed_sampler": "the data's own samplers count every image once: leave it out",
    "model_registry": "checkpoints are files: --ckpt_path FILE",
}
LEAST = {"accumulate_grad_batches": 1, "check_val_every_n_epoch": 1, "num_nodes": 1, "log_every_n_steps": 0}
INSTEAD = {
    "GradientAccumulationScheduler": "use --trainer.accumulate_grad_batches",
    "EMAWeightAveraging": "set --recipe.ema",
    "WeightAveraging": "set --recipe.ema or --recipe.swa",
    "LearningRateFinder": "set --recipe.lr",
    "BatchSizeFinder": "set --recipe.batch_size",
    "StochasticWeightAveraging": "set --recipe.swa",
    "BackboneFinetuning": "use --finetune gradual",
    "OnExceptionCheckpoint": "last.ckpt is written without it, and --resume reads it",
}
"""Callbacks of Lightning's that would change what the recipe says, or take up another run, without a word."""
MONITORED = [f"{stage}/{metric}" for stage in ("train", "val") for metric in ("loss", "acc")]
WATCHERS = ("EarlyStopping", "ModelCheckpoint")
OF_FITTING = (*WATCHERS, "LearningRateMonitor", "ModelPruning", "ModelSummary", "RichModelSummary", "Timer")
"""Callbacks that do nothing but in training."""
OF_VALIDATION = ("val_check_interval", "check_val_every_n_epoch", "num_sanity_val_steps")
OF_DRY_RUN = (
    *("max_epochs", "max_steps", "max_time", "limit_train_batches", "limit_val_batches", "limit_test_batches"),
    "limit_predict_batches",
)
"""What `fast_dev_run` would override."""
OF_HIDDEN = {"norm": "none", "dropout": 0, "activation": "relu"}
"""Arguments of the perceptrons that are for hidden layers, and the values at which they do nothing."""
MAXOUT_PIECES = 5
"""Of MLP, where it is not said."""
CLUSTERS = ("MASTER_", "NODE_RANK", "GROUP_RANK", "TORCHELASTIC_", "SLURM_", "LSB_", "OMPI_", "PMI_", "KUBERNETES_")
"""How variables begin by which the nodes of a run know each other."""
WORKERS_PER_PROCESSOR, MANY_WORKERS = 8, 64


def check_effects(verb: str, config: Namespace, defaults: Mapping[str, Any], arguments: list[str]) -> None:
    """Look for settings without effect.

    Args:
        verb: fit, validate, test or predict.
        config: All settings, with defaults.
        defaults: The defaults of those of the trainer.
        arguments: The command line.

    Raises:
        UserError: If there is one.
    """
    trainer = config.trainer
    said = {name: value for name, value in trainer.items() if name in defaults and value != defaults[name]}
    for name, reason in _unused(verb, said):
        raise UserError(f"trainer.{name} is {said[name]}: {reason}")
    for name, least in LEAST.items():
        if isinstance(said.get(name), int | float) and said[name] < least:
            raise UserError(f"trainer.{name} is {said[name]}: it must be at least {least}")
    if trainer.get("val_check_interval") is not None and not _is_positive(trainer.val_check_interval):
        raise UserError(f"trainer.val_check_interval is {trainer.val_check_interval}: it must be greater than 0")
    callbacks = list(_callbacks(trainer))
    for callback in callbacks:
        _check_callback(callback, callbacks, verb, validates=trainer.limit_val_batches != 0)
    _check_length(said, arguments)
    _check_nodes(trainer.num_nodes)
    if verb == "fit":
        _check_run(config, callbacks)
        _check_start(config, arguments)
        _check_place(config, arguments)
        _check_hidden(config.get("model.init_args") or {})
    _check_workers(config.get("data.init_args.num_workers"))


def _unused(verb: str, said: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in said:
        split = name.removeprefix("limit_").removesuffix("_batches")
        if name in NEVER:
            yield name, NEVER[name]
        elif name == "barebones" and verb in ("validate", "test"):
            yield name, f"zoo {verb} would have no result to show, leave it out"
        elif name == "default_root_dir" and verb != "fit" and not said.get("logger"):
            yield name, f"zoo {verb} writes nothing there, leave it out"
        elif name in OF_TRAINING and verb != "fit":
            yield name, f"zoo {verb} does not train, leave it out"
        elif split in ("val", "test", "predict") and name.startswith("limit_") and split not in SPLITS[verb]:
            yield name, f"zoo {verb} has no such batches, leave it out"


def _is_positive(value: object) -> bool:
    return not isinstance(value, int | float) or value > 0


def _callbacks(trainer: Namespace) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The callbacks' classes, and their arguments."""
    said = trainer.get("callbacks")
    for callback in said if isinstance(said, list) else [said]:
        if callback is not None:
            yield str(callback.class_path), callback.get("init_args") or {}


def _check_callback(
    callback: tuple[str, Mapping[str, Any]],
    callbacks: list[tuple[str, Mapping[str, Any]]],
    verb: str,
    *,
    validates: bool,
) -> None:
    path, arguments = callback
    name, monitor = path.rpartition(".")[2], arguments.get("monitor")
    if name in INSTEAD:
        raise UserError(f"the callback {name} does not go with a recipe: {INSTEAD[name]}")
    knows_metrics = all(other.startswith("lightning.") for other, _ in callbacks)  # one of the user's may log more
    if name in OF_FITTING and verb != "fit":
        raise UserError(f"the callback {name} is for training, and zoo {verb} does not train: leave it out")
    if name in WATCHERS and knows_metrics and monitor is not None and monitor not in MONITORED:
        raise UserError(f"the monitor of {name} is '{monitor}'.{nearest(str(monitor), MONITORED)}")
    if name == "EarlyStopping" and (patience := arguments.get("patience", 0)) < 0:
        raise UserError(f"the patience of {name} is {patience}: it must be at least 0")
    if name in WATCHERS and str(monitor).startswith("val/") and not validates:
        raise UserError(f"the monitor of {name} is '{monitor}', but trainer.limit_val_batches is 0: choose")


def _check_length(said: Mapping[str, Any], arguments: list[str]) -> None:
    """Of settings that say how long a run is, or how often it validates, those that others leave nothing to do.

    To try a file that says how long a run is, is what a dry run is for: only what is typed with it is refused.
    """
    typed = {name: value for name, value in said.items() if front.option(arguments, f"--trainer.{name}") is not None}
    for names, owner, settings in (
        (OF_VALIDATION, "limit_val_batches", said if said.get("limit_val_batches") == 0 else {}),
        ((*OF_DRY_RUN, *OF_VALIDATION), "fast_dev_run", typed if typed.get("fast_dev_run") else {}),
    ):
        for name in names:
            if name in settings:
                raise UserError(f"trainer.{name} is {said[name]}, and trainer.{owner} is {said[owner]}: choose")


def _check_nodes(number: int) -> None:
    """Several nodes wait for each other: without a word of where the others are, for ever."""
    if number > 1 and not any(name.startswith(CLUSTERS) for name in os.environ):
        how = "start it with torchrun or Slurm, or set MASTER_ADDR, MASTER_PORT and NODE_RANK"
        raise UserError(f"trainer.num_nodes is {number}, and nothing says where the other nodes are: {how}")


def _check_hidden(arguments: Mapping[str, Any]) -> None:
    """Of a network that may have no hidden layers: what is for these, and for one of their activations."""
    for name, off in OF_HIDDEN.items() if arguments.get("hidden") == [] else ():
        if arguments.get(name, off) != off:
            raise UserError(f"model.{name} is {arguments[name]}: it is for hidden layers, of which there are none")
    activation, pieces = arguments.get("activation"), arguments.get("maxout_pieces", MAXOUT_PIECES)
    if pieces != MAXOUT_PIECES and activation != "maxout":
        raise UserError(f"model.maxout_pieces is {pieces}: the activation {activation} has none, leave it out")


def _check_run(config: Namespace, callbacks: list[tuple[str, Mapping[str, Any]]]) -> None:
    trainer = config.trainer
    for name in ("run_dir", "ckpt_path"):
        if config.get(name) == "":
            raise UserError(f"{name} is empty: name a place, or leave it out")
    names = {path.rpartition(".")[2] for path, _ in callbacks}
    if config.get("recipe.early_stopping") and "EarlyStopping" in names:
        raise UserError(
            f"recipe.early_stopping is {config.recipe.early_stopping}, and EarlyStopping among the callbacks: choose"
        )
    if trainer.max_steps == 0:
        raise UserError("trainer.max_steps is 0: there is nothing to train")
    if trainer.max_time is not None and not re.search("[1-9]", str(trainer.max_time)):
        raise UserError(f"trainer.max_time is {trainer.max_time}: there is no time to train")
    for name, value in (("profile", config.get("profile")), ("trainer.logger", trainer.logger)):
        if trainer.barebones and value:
            raise UserError(
                f"{name} is {str(value).lower()}, and trainer.barebones is true, which measures nothing: choose"
            )
    if trainer.log_every_n_steps and not callbacks:
        raise UserError(
            f"trainer.log_every_n_steps is {trainer.log_every_n_steps}: metrics are logged once an epoch, and there is "
            "no callback that logs more often: leave it out"
        )
    if config.no_test and trainer.limit_test_batches is not None:
        raise UserError(f"trainer.limit_test_batches is {trainer.limit_test_batches}, and no_test is true: choose")
    without = {"enable_checkpointing": trainer.enable_checkpointing is False, "barebones": trainer.barebones}
    without["fast_dev_run"] = bool(trainer.fast_dev_run)
    for name in (name for name, is_so in without.items() if is_so):
        what = f"trainer.{name} is {str(trainer[name]).lower()}, with which nothing is kept"
        if config.get("checkpoint_every"):
            raise UserError(f"checkpoint_every is {config.checkpoint_every}, and {what}: choose")
        if config.get("resume"):
            raise UserError(f"{what}: a run that is resumed keeps its checkpoints, leave it out")


def _check_start(config: Namespace, arguments: list[str]) -> None:
    """A checkpoint holds later weights than those that a run began with, which only fine-tuning still needs."""
    typed, finetune = front.option(arguments, "--pretrained"), config.get("finetune")
    is_plain = finetune in (None, "none") or config.get("finetune.method") == "none"
    if typed is not None and config.get("pretrained") and config.get("ckpt_path") and is_plain:
        raise UserError(f"ckpt_path is {config.ckpt_path} and pretrained is {typed}: say one of them")


def check_batches(settings: Namespace, sizes: Mapping[str, int], batch_size: int, epochs: int | None) -> None:
    """Look for limits that leave nothing, and for lengths that the run does not have.

    Args:
        settings: The trainer's, as the user gave them.
        sizes: Images in each split.
        batch_size: Images in a step, over all devices.
        epochs: Length of the run; None or below 0 if something else ends it.

    Raises:
        UserError: If there is one.
    """
    batches = {split: -(-size // batch_size) for split, size in sizes.items()}
    batches["train"] = _training_batches(sizes, batch_size)
    for split, number in batches.items():
        limit = settings.get(f"limit_{split}_batches")
        if isinstance(limit, float) and 0 < limit < 1 and number * limit < 1:
            raise UserError(f"trainer.limit_{split}_batches is {limit}: of {number} batches, that is none")
    steps, interval = _limited(batches["train"], settings.limit_train_batches), settings.val_check_interval
    if isinstance(interval, int) and settings.check_val_every_n_epoch is not None and interval > steps:
        raise UserError(f"trainer.val_check_interval is {interval}: an epoch has {steps} batches")
    every = settings.check_val_every_n_epoch
    if every is not None and epochs is not None and every > epochs > 0:
        what = f"the run has {epochs} epochs, and would never be validated"
        raise UserError(f"trainer.check_val_every_n_epoch is {every}: {what}")
    last = _last_step(settings, steps, epochs)
    if settings.min_steps is not None and last is not None and settings.min_steps > last:
        raise UserError(f"trainer.min_steps is {settings.min_steps}: the run ends after {last} steps")


def idle_notices(
    config: Namespace, recipe: Recipe, sizes: Mapping[str, int], epochs: int | None, devices: int
) -> Iterator[str]:
    """What is asked for and never happens in this run, though it would in a longer one or on other devices.

    Args:
        config: All settings.
        recipe: How the model is trained.
        sizes: Images in each split.
        epochs: Length of the run; None or below 0 if something else ends it.
        devices: How many there are.
    """
    settings = config.trainer
    if settings.sync_batchnorm and devices == 1:
        yield "trainer.sync_batchnorm changes nothing on one device"
    steps = _limited(_training_batches(sizes, recipe.batch_size), settings.limit_train_batches)
    last = _last_step(settings, steps, epochs)
    if last is None:
        return
    if config.checkpoint_every > last:
        yield f"checkpoint_every is {config.checkpoint_every}: the run ends after {last} steps"
    validations = last * settings.accumulate_grad_batches // steps // (settings.check_val_every_n_epoch or 1)
    if settings.val_check_interval in (None, 1.0) and recipe.early_stopping >= max(1, validations):
        yield f"recipe.early_stopping is {recipe.early_stopping}: the run is validated {validations} times"


def _training_batches(sizes: Mapping[str, int], batch_size: int) -> int:
    return max(1, sizes.get("train", 0) // batch_size)


def _last_step(settings: Namespace, batches: int, epochs: int | None) -> int | None:
    """The step after which a run of epochs of so many batches ends; None if it has no end."""
    ends = [settings.max_steps, (epochs or -1) * -(-batches // settings.accumulate_grad_batches)]
    return min((end for end in ends if end > 0), default=None)


def _limited(batches: int, limit: float | None) -> int:
    if limit is None:
        return batches
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)


def _check_place(config: Namespace, arguments: list[str]) -> None:
    """Runs are kept below the root folder; one that is to be in a folder of its own is not. What is typed wins."""
    own, root = config.run_dir, config.trainer.default_root_dir
    typed = [front.option(arguments, f"--{name}") for name in ("run_dir", "trainer.default_root_dir")]
    if own is not None and root is not None and (all(typed) or not any(typed)):
        raise UserError(f"run_dir is {own} and trainer.default_root_dir is {root}: say one of them")


def _check_workers(number: object) -> None:
    """More processes than any machine can hold would bring it down before anything is said."""
    most = max(MANY_WORKERS, WORKERS_PER_PROCESSOR * (os.cpu_count() or 1))
    if isinstance(number, int) and number > most:
        raise UserError(f"data.num_workers is {number}: it must be at most {most} here")
