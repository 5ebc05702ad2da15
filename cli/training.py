"""`zoo fit`: train, test once, leave a run folder."""

import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from zoo.checkpoint import load_weights, read_checkpoint
from zoo.classifier import DivergedError
from zoo.cli import front
from zoo.cli.app import ZooCLI
from zoo.cli.best import BestCheckpoint
from zoo.cli.errors import UserError
from zoo.cli.folder import environment, make_run_folder, write_json
from zoo.cli.metrics_log import Events, MetricsCSV, plot_curves
from zoo.cli.progress import readable_time

DIVERGED_STATUS, INTERRUPTED_STATUS, TERMINATED_STATUS = 1, 130, 143


class FitCLI(ZooCLI):
    """The command line of `fit`: a run folder, loggers and checkpoints around the trainer."""

    folder: Path
    resume_from: Path | None = None
    best: BestCheckpoint | None = None

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Everything has been checked: make the run folder and the trainer that writes to it."""
        self._load_data()
        super().instantiate_trainer(logger=False, enable_checkpointing=False)  # what is wrong with it is said now
        self._choose_folder()
        settings = self.config_init.trainer
        callbacks, logger = list(settings.callbacks or []), settings.logger
        if not settings.fast_dev_run and settings.enable_checkpointing is not False:
            callbacks += self._checkpoints()
        if logger in (None, True):
            logger = [MetricsCSV(self.folder, self._resume_step()), Events(self.folder, name="", version="")]
        return super().instantiate_trainer(
            callbacks=callbacks, logger=logger, default_root_dir=str(self.folder), **kwargs
        )

    def _load_data(self) -> None:
        """Read the data now, so that what is wrong with it is said before anything is written."""
        self.datamodule.prepare_data()
        self.datamodule.setup("fit")

    def _choose_folder(self) -> None:
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
            self.checkpoint = read_checkpoint(self.config.ckpt_path or self.resume_from)
            load_weights(self.model, self.checkpoint, self.resume_from)
            if "optimizer_states" not in self.checkpoint:
                raise UserError(f"'{self.resume_from}' holds weights only: training cannot go on from it")
        if not self.config.resume:
            default = Path("runs") / f"{self.model_name}-{self.datamodule.spec.name}"
            self.folder = make_run_folder(self.config.run_dir, default)

    def _resume_step(self) -> int | None:
        return int(self.checkpoint["global_step"]) if self.config.resume else None

    def _checkpoints(self) -> list[ModelCheckpoint]:
        """Two callbacks: with one, `last.ckpt` would be as old as the best epoch."""
        folder = self.folder / "checkpoints"
        same: dict[str, Any] = {"dirpath": folder, "enable_version_counter": False, "auto_insert_metric_name": False}
        last = ModelCheckpoint(filename="last", save_on_train_epoch_end=True, save_on_exception=True, **same)
        if self.config_init.trainer.limit_val_batches == 0:
            return [last]
        images = self.datamodule.sizes["val"]
        self.best = BestCheckpoint(images, filename="best", save_weights_only=True, **same)
        return [self.best, last]


def fit(arguments: list[str]) -> int:
    """Train as the options say; the exit status."""
    cli = FitCLI("fit", arguments)
    trainer, model, data = cli.trainer, cli.model, cli.datamodule
    record = start_record(cli)
    if trainer.is_global_zero:
        announce(cli)
        save_config(cli)
        write_json(cli.folder / "run.json", record)
    started = time.monotonic()
    try:
        trainer.fit(model, datamodule=data, ckpt_path=cli.resume_from, weights_only=True)
    except DivergedError as error:
        finish_record(cli, record, "diverged", started)
        print(f"zoo: {error}\nthe last finite weights are in {cli.folder / 'checkpoints' / 'last.ckpt'}")
        return DIVERGED_STATUS
    except SystemExit as end:  # Lightning's way to stop after SIGTERM and, once it has shut down, after Ctrl-C
        finish_record(cli, record, "interrupted", started)
        if trainer.is_global_zero:
            print(f"interrupted. To go on: zoo fit --config {cli.folder / 'config.yaml'} --resume")
        return TERMINATED_STATUS if isinstance(end, SIGTERMException) else INTERRUPTED_STATUS
    record["seconds_training"] = round(time.monotonic() - started, 2)
    if not cli.config.no_test and not cli.config.trainer.fast_dev_run:
        test_best(cli)
    finish_record(cli, record, "finished", started)
    if trainer.is_global_zero:
        print(summary(cli, record))
    return 0


def test_best(cli: FitCLI) -> None:
    """Evaluate the best epoch, or without a validation split the last one, on the test set."""
    if cli.best is not None and cli.best.best_model_path:
        load_weights(cli.model, read_checkpoint(cli.best.best_model_path), cli.best.best_model_path)
    cli.trainer.test(cli.model, datamodule=cli.datamodule, verbose=False)


def announce(cli: FitCLI) -> None:
    """What will be trained, on what, how, and where it is written."""
    recipe, sizes, data = cli.model.recipe, cli.datamodule.sizes, cli.datamodule
    images = ", ".join(f"{count:,} {split}" for split, count in sizes.items())
    parameters = sum(p.numel() for p in cli.model.parameters() if p.requires_grad)
    print(f"{cli.model_name}: {parameters:,} parameters")
    print(f"{data.spec.name}: {images} images of {data.in_channels} x {data.image_size} x {data.image_size}")
    for notice in cli.notices:
        print(f"note: {notice}")
    epochs = cli.trainer.max_epochs
    length = plural(epochs, "epoch") if epochs and epochs > 0 else plural(cli.trainer.max_steps, "step")
    print(
        f"recipe {cli.recipe_name}: {recipe.optimizer}, rate {recipe.lr:g} ({recipe.schedule}), "
        f"batch {recipe.batch_size}, {length}, seed {cli.config.seed_everything}"
    )
    print(f"run folder: {cli.folder}")


def save_config(cli: FitCLI) -> None:
    """Write config.yaml: every setting as resolved, so that `--config` repeats the run whatever defaults become."""
    config = cli.config.clone()
    config.resume, config.run_dir, config.ckpt_path = False, None, None
    for name, value in cli.recipe.as_dict().items():
        if name != "source":
            config[f"recipe.{name}"] = value
    config.recipe.name = cli.recipe_name
    config.pop("config", None)
    text = cli.parser.dump(config, skip_unset=True, skip_validation=True)
    path = cli.folder / "config.yaml"
    unfinished = path.with_suffix(".yaml.part")
    unfinished.write_text(f"# zoo fit --config {path}\n{text}")
    unfinished.replace(path)


def start_record(cli: FitCLI) -> dict[str, Any]:
    """run.json as it stands while the run goes on."""
    return {
        "status": "running",
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "model": cli.model_name,
        "data": cli.datamodule.spec.name,
        "arguments": dict(cli.model.hparams),
        "recipe": {"name": cli.recipe_name, **cli.model.recipe.as_dict()},
        "seed": cli.config.seed_everything,
        "parameters": sum(p.numel() for p in cli.model.parameters()),
        "images": cli.datamodule.sizes,
        "precision": str(cli.trainer.precision),
        "devices": cli.trainer.num_devices * cli.trainer.num_nodes,
        **environment(),
    }


def finish_record(cli: FitCLI, record: dict[str, Any], status: str, started: float) -> None:
    """Complete run.json and draw curves.png."""
    trainer = cli.trainer
    record |= {
        "status": status,
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "seconds": round(time.monotonic() - started, 2),
        "metrics": {key: value.item() for key, value in trainer.callback_metrics.items()},
    }
    if cli.best is not None and cli.best.best_model_score is not None:
        record["best_val_acc"] = cli.best.best_model_score.item()
    if trainer.is_global_zero:
        write_json(cli.folder / "run.json", record)
        plot_curves(cli.folder, f"{record['model']} on {record['data']}")


def summary(cli: FitCLI, record: dict[str, Any]) -> str:
    """The last lines of a run: what was reached, in what time, where it is, what to type next."""
    metrics, model = record["metrics"], cli.model
    if "test/acc" in metrics:
        count = cli.datamodule.sizes["test"]
        reached = f"test accuracy {accuracy(metrics['test/acc'], count)}, loss {metrics['test/loss']:.4f}"
    elif "best_val_acc" in record:
        reached = f"validation accuracy {100 * record['best_val_acc']:.2f} %"
    else:
        reached = "trained"
    files = [name for name in ("curves.png", "metrics.csv", "run.json", "config.yaml") if (cli.folder / name).exists()]
    lines = [
        f"\n{type(model).__name__} on {record['data']}: {reached}",
        f"{plural(record['epochs'], 'epoch')}, {plural(record['steps'], 'step')} in {readable_time(record['seconds'])}",
        f"files: {cli.folder} ({', '.join(files)})",
    ]
    best = cli.folder / "checkpoints" / "best.ckpt"
    if best.exists():
        lines.append(f"next:  zoo predict --ckpt_path {best} IMAGE...")
    return "\n".join(lines)


def accuracy(share: float, count: int) -> str:
    """`97.22 % (350 of 360)`."""
    return f"{100 * share:.2f} % ({round(share * count):,} of {count:,})"


def plural(number: int, noun: str) -> str:
    """`1 epoch`, `2 epochs`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
