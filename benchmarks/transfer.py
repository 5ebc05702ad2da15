"""Does training on other images help where there are few? `python -m zoo.benchmarks.transfer TASK`.

Tasks:
  digits   the embedded weights, trained on MNIST, against random ones, on 5, 10 and 50 digits of each class
  cifar    runs on five classes of the JPEG copy of CIFAR-10 (`--pretrained RUN...`), on 20 images of each of the other
           five

Each cell is trained with five seeds, which choose the images, the first weights and the order: all methods of a seed
see the same images. Every run takes STEPS steps, up to the end of an epoch; random weights also LONGER times as many.
Nothing is chosen on validation images: the weights of the last step are tested once, on all test images.
`benchmarks/results/transfer/<task>.json` grows run by run, and a second start goes on where the first one stopped.
"""

import argparse
import json
import logging
import math
import re
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch

import zoo
from zoo.benchmarks.environment import environment
from zoo.cached import cache_features
from zoo.datamodules import Digits, Folder
from zoo.datamodules.base import ImageDataModule
from zoo.finetune import Finetune

RESULTS = Path(__file__).resolve().parent / "results" / "transfer"
METHODS = ("scratch", "scratch, 4 x steps", "linear", "full", "gradual")
SEEDS = range(5)
STEPS, BATCH_SIZE = 300, 16
LONGER = 4
"""Random weights need more steps than trained ones: one column gives them so many times as many."""
LINEAR_RATE = 0.01
"""A last layer alone takes a higher rate than a whole network; fixed before the first run."""


@dataclass(frozen=True)
class Run:
    """One cell of the table, with one seed."""

    model: str
    per_class: int
    method: str
    seed: int
    accuracy: float
    test_images: int


@dataclass(frozen=True)
class Task:
    """What is transferred to what.

    Args:
        models: Names of models.
        per_class: Training images of each class.
        weights: What `create_model` takes as `pretrained`, by model.
        data: Builds the data module of the new classes from the number of training images and the seed.
        new_classes: Whether the classes are others than those of the weights, so that the last layer is new.
    """

    models: tuple[str, ...]
    per_class: tuple[int, ...]
    weights: dict[str, str]
    data: Callable[[int, int], ImageDataModule]
    new_classes: bool


def train(task: Task, name: str, per_class: int, method: str, seed: int) -> Run:
    """Train one model with one method and one seed; what it reaches on the test images."""
    L.seed_everything(seed, verbose=False)
    model = zoo.create_model(name, pretrained=task.weights[name])
    is_random = method.startswith("scratch")
    if is_random:
        preprocessing = model.preprocessing
        model = zoo.create_model(name, **model.hparams)
        model.preprocessing = preprocessing
    data = task.data(per_class, seed)
    data.use_preprocessing(model.preprocessing)
    data.augment = "none" if method == "linear" else data.augment
    if task.new_classes:
        model.reset_classifier(data.num_classes)
    data.setup("fit")
    steps = STEPS * (LONGER if method == METHODS[1] else 1)
    epochs = math.ceil(steps / max(1, len(data.splits["train"]) // BATCH_SIZE))
    model.recipe = model.recipe.replace(epochs=epochs, batch_size=BATCH_SIZE)
    if not is_random:
        model.finetune = Finetune(method, head_lr=LINEAR_RATE if method == "linear" else 0.0)
    if method == "linear":
        cache_features(model, data)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, data)
    accuracy = trainer.test(model, data, verbose=False)[0]["test/acc"]
    return Run(name, per_class, method, seed, accuracy, data.sizes["test"])


def digits_task() -> Task:
    """MNIST's digits to those of scikit-learn, which other people wrote: the same classes."""

    def data(per_class: int, seed: int) -> ImageDataModule:
        return Digits(train_size=10 * per_class, batch_size=BATCH_SIZE, seed=seed, num_workers=0)

    models = ("lenet5", "resnet20")
    return Task(models, (5, 10, 50), dict.fromkeys(models, "mnist"), data, new_classes=False)


def cifar_task(tree: Path, pretrained: list[Path]) -> Task:
    """Five classes of photographs to the other five."""
    weights, known = {}, set[str]()
    for run in pretrained:
        checkpoint = run / "checkpoints" / "best.ckpt"
        model = zoo.load(checkpoint)
        weights[type(model).__name__] = str(checkpoint)
        known |= set(model.class_names)
    others: list[str | int] = sorted({folder.name for folder in (tree / "train").iterdir()} - known)

    def data(per_class: int, seed: int) -> ImageDataModule:
        size = len(others) * per_class
        return Folder(str(tree), class_subset=others, train_size=size, batch_size=BATCH_SIZE, seed=seed, num_workers=0)

    return Task(tuple(weights), (20,), weights, data, new_classes=True)


def run(name: str, task: Task, facts: dict[str, Any]) -> None:
    """Train what is not in the result file yet, and write it after every run."""
    path = RESULTS / f"{name}.json"
    done = json.loads(path.read_text())["runs"] if path.is_file() else []
    cells = [(m, n, how, s) for m in task.models for n in task.per_class for how in METHODS for s in SEEDS]
    finished = {(r["model"], r["per_class"], r["method"], r["seed"]) for r in done}
    todo = [cell for cell in cells if cell not in finished]
    started = time.monotonic()
    for number, cell in enumerate(todo, 1):
        done.append(asdict(train(task, *cell)))
        left = (time.monotonic() - started) / number * (len(todo) - number)
        print(f"{number}/{len(todo)} {cell}: {100 * done[-1]['accuracy']:.2f} %, {left:.0f} s left", flush=True)
        write(path, facts, done)
    write(path, facts, done)
    plot(name)


def write(path: Path, facts: dict[str, Any], runs: list[dict[str, Any]]) -> None:
    """Replace the result file in one step."""
    content = {**facts, "steps": STEPS, "batch_size": BATCH_SIZE, **environment(), "runs": runs}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(content, indent=1) + "\n")
    unfinished.replace(path)


def cells(name: str) -> dict[tuple[str, int], dict[str, list[float]]]:
    """Accuracies in % by (model, images per class) and method, one for each seed."""
    table: dict[tuple[str, int], dict[str, list[float]]] = {}
    for row in json.loads((RESULTS / f"{name}.json").read_text())["runs"]:
        cell = table.setdefault((row["model"], row["per_class"]), {})
        cell.setdefault(row["method"], []).append(100 * row["accuracy"])
    return table


def table(name: str) -> str:
    """Mean and standard deviation over the seeds, as Markdown."""
    lines = [f"| model | images of each class | {' | '.join(METHODS)} |", "|---|---:|" + "---:|" * len(METHODS)]
    for (model, per_class), found in cells(name).items():
        means = {method: statistics.mean(values) for method, values in found.items()}
        best = max(means.values())
        shown = [
            f"{'**' if means[how] == best else ''}{means[how]:.1f} ± {statistics.stdev(found[how]):.1f}"
            f"{'**' if means[how] == best else ''}"
            for how in METHODS
        ]
        lines.append(f"| `{model}` | {per_class} | {' | '.join(shown)} |")
    return "\n".join(lines)


def plot(name: str) -> None:
    """Test accuracy against images per class, each method a line with the standard deviation over the seeds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = cells(name)
    models = list(dict.fromkeys(model for model, _ in found))
    figure = Figure(figsize=(4.5 * len(models), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, model in zip(figure.subplots(1, len(models), sharey=True, squeeze=False)[0], models, strict=True):
        sizes = [size for known, size in found if known == model]
        for shift, method in enumerate(METHODS):
            values = [found[model, size][method] for size in sizes]
            # A little beside each other, so that the bars do not hide one another.
            places = [size * 1.04 ** (shift - 1.5) for size in sizes]
            means, deviations = [statistics.mean(v) for v in values], [statistics.stdev(v) for v in values]
            axes.errorbar(places, means, yerr=deviations, fmt="o-", capsize=3, markersize=4, label=method)
        axes.set(title=model, xlabel="training images of each class", xscale="log")
        axes.set_xticks(sizes, labels=[str(size) for size in sizes])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("test accuracy (%), 5 seeds")
    figure.axes[0].legend(frameon=False)
    figure.savefig(RESULTS / f"{name}.png", dpi=120)


def main() -> None:
    """Run a task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("digits", "cifar"))
    parser.add_argument("--tree", type=Path, help="cifar: the JPEG copy, with train/CLASS and test/CLASS")
    parser.add_argument("--pretrained", type=Path, nargs="+", help="cifar: run folders of `zoo fit` on five classes")
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    torch.set_num_threads(1)  # networks and batches this small gain nothing from a second one
    if options.task == "digits":
        run("digits", digits_task(), {"pretrained": "the embedded weights lenet5.mnist and resnet20.mnist"})
        return
    if not options.tree or not options.pretrained:
        parser.error("cifar needs --tree and --pretrained")
    records = [json.loads((folder / "run.json").read_text()) for folder in options.pretrained]
    facts = [{key: r[key] for key in ("model", "epochs", "steps", "images", "recipe", "metrics")} for r in records]
    for fact, record in zip(facts, records, strict=True):
        command = re.sub(r" --run_dir \S+", "", record["command"])
        fact["command"] = re.sub(r"--data\.root \S+", "--data.root DIR", command)
    run("cifar", cifar_task(options.tree, options.pretrained), {"pretrained": facts})


if __name__ == "__main__":
    main()
