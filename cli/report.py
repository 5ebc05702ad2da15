"""What `zoo fit` says and writes about a run: the first lines, config.yaml, run.json, curves.png, the last lines."""

import json
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.benchmarks.environment import environment
from zoo.cli import front
from zoo.cli.app import ZooCLI, namespace
from zoo.cli.errors import UserError
from zoo.cli.folder import write_json, write_text
from zoo.cli.metrics_log import plot_curves
from zoo.cli.progress import readable_time

if TYPE_CHECKING:
    from zoo.cli.training import FitCLI


OF_EARLIER = ("command", "started", "status", "seconds", "steps", "best_val_acc", "metrics")
"""What run.json keeps of the parts of a run that was resumed."""


def announce(cli: "FitCLI") -> None:
    """What will be trained, on what, how, and where it is written."""
    recipe, sizes, data = cli.model.recipe, cli.datamodule.sizes, cli.datamodule
    images = ", ".join(f"{count:,} {split}" for split, count in sizes.items())
    parameters = sum(p.numel() for p in cli.model.parameters())
    print(f"{cli.model_name}: {parameters:,} parameters")
    print(f"{data.spec.name}: {images} images of {data.in_channels} x {data.image_size} x {data.image_size}")
    for notice in cli.notices:
        print(f"note: {notice}")
    epochs = cli.trainer.max_epochs
    length = plural(epochs, "epoch") if epochs and epochs > 0 else "epochs without end"
    if cli.trainer.max_steps > 0:
        length = f"at most {plural(cli.trainer.max_steps, 'step')}"
    print(
        f"recipe {cli.recipe_name}: {recipe.optimizer}, rate {recipe.lr:g} ({recipe.schedule}), "
        f"batch {recipe.batch_size}, {length}, seed {cli.config.seed_everything}"
    )
    if cli.finetune.method != "none":
        print(f"finetune {cli.finetune.method}: {what_is_trained(cli)}")
    print(f"run folder: {cli.folder}")


def what_is_trained(cli: "FitCLI") -> str:
    """Which part of the network learns, and from which epoch on."""
    stages, finetune = cli.model.tuned_stages(), cli.finetune
    if finetune.method == "linear":
        last = sum(p.numel() for p in stages[-1].parameters())
        return f"the last layer alone, {last:,} parameters"
    if not finetune.changes:
        return "everything is trained"
    epochs = cli.trainer.max_epochs if (cli.trainer.max_epochs or -1) > 0 else None
    begins: dict[int, int] = {}
    for epoch in range(epochs or 1000):
        begins.setdefault(finetune.trained_stages(len(stages), epoch, epochs), epoch + 1)
    return f"of {len(stages)} stages, the last " + ", ".join(f"{n} from epoch {epoch}" for n, epoch in begins.items())


def save_config(cli: "FitCLI") -> None:
    """Write config.yaml: every setting as resolved, so that `--config` repeats the run whatever defaults become."""
    config = cli.config.clone()
    config.resume, config.run_dir, config.ckpt_path = False, None, None
    config.pop("precision")  # trainer.precision has it
    config.finetune = namespace(**cli.finetune.as_dict())
    for name, value in cli.derived.items():  # another method may need something else
        config[name] = value
    for name in front.FOLLOWS_DATA:  # what follows from the data is found again
        if cli.said.get(f"model.init_args.{name}") is None:
            config.model.init_args.pop(name)
    for name, value in cli.recipe.as_dict().items():
        if name != "source" and not (name == "epochs" and (cli.ends_by_steps or cli.config.trainer.max_epochs == -1)):
            config[f"recipe.{name}"] = value
    config.recipe.name = cli.recipe_name
    config.pop("config", None)
    if not isinstance(cli.datamodule.augment, str):  # a policy of the user's own: its file may change or go
        config.data.init_args.augment = cli.datamodule.augment
    text = cli.parser.dump(config, skip_unset=True, skip_validation=True)
    path = cli.folder / "config.yaml"
    write_text(path, f"# zoo fit --config {path}\n{text}")


def start_record(cli: "FitCLI") -> dict[str, Any]:
    """Write run.json as it stands while the run goes on."""
    record = {
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
        "workers": cli.datamodule.num_workers,
        "command": shlex.join(["zoo", *sys.argv[1:]]),
        **environment(),
    }
    if cli.found is not None:
        record |= {"pretrained": cli.found.label, "finetune": cli.finetune.as_dict()}
    path = cli.folder / "run.json"
    if cli.config.resume and path.is_file():
        record["earlier"] = _earlier(path)
    if cli.trainer.is_global_zero:
        write_json(path, record)
    return record


def _earlier(path: Path) -> list[dict[str, Any]]:
    """What run.json says of the parts of a run that is resumed."""
    try:
        before = json.loads(path.read_text())
        part = {key: before.get(key) for key in OF_EARLIER if key in before}
        return [*before.get("earlier", []), part]
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise UserError(f"'{path}' is damaged: repair it, or delete it to go on without it") from error


def finish_record(cli: "FitCLI", record: dict[str, Any], status: str, started: float) -> None:
    """Complete run.json and draw curves.png."""
    trainer = cli.trainer
    record |= {
        "status": status,
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "seconds": round(time.monotonic() - started, 2),
        "notices": [*cli.notices, *cli.datamodule.notices],
        "metrics": {key: value.item() for key, value in trainer.callback_metrics.items()},
    }
    if cli.best is not None and cli.best.best_model_score is not None:
        record["best_val_acc"] = cli.best.best_model_score.item()
    if trainer.is_global_zero:
        write_json(cli.folder / "run.json", record)
        plot_curves(cli.folder, f"{record['model']} on {record['data']}")


def summary(cli: "FitCLI", record: dict[str, Any]) -> str:
    """The last lines of a run: what was reached, in what time, where it is, what to type next."""
    metrics, model = record["metrics"], cli.model
    if "test/acc" in metrics:
        count = evaluated(cli, "test")
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
    lines += [f"note:  {notice}" for notice in cli.datamodule.notices]
    early = cli.trainer.early_stopping_callback
    if early is not None and early.wait_count >= early.patience:
        lines.append(
            f"note:  ended early, after {plural(early.wait_count, 'validation')} without a better {early.monitor}"
        )
    best = cli.folder / "checkpoints" / "best.ckpt"
    if best.exists():
        lines.append(f"next:  zoo predict --ckpt_path {best} IMAGE...")
    return "\n".join(lines)


def evaluated(cli: ZooCLI, split: str) -> int | None:
    """How many images the evaluation counted: all of the split, or unknown if the user limited the batches."""
    limit = getattr(cli.trainer, f"limit_{split}_batches")  # 1 is one batch, and 1.0 all of them
    return cli.datamodule.sizes.get(split) if isinstance(limit, float) and limit == 1 else None


def accuracy(share: float, count: int | None) -> str:
    """`97.22 % (350 of 360)`."""
    counted = f"{round(share * count):,} of {count:,}" if count else "of the batches asked for"
    return f"{100 * share:.2f} % ({counted})"


def plural(number: int, noun: str) -> str:
    """`1 epoch`, `2 epochs`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
