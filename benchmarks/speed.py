"""How fast data come, and how much of a bare PyTorch loop's speed `zoo fit` keeps: `python -m zoo.benchmarks.speed`.

Everything is a ratio of two things measured in turns in one run; medians. Each job writes
`benchmarks/results/speed/<job>.json`; `precision`, one file for each kind of CPU.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from zoo.benchmarks.environment import environment

RESULTS = Path(__file__).resolve().parent / "results" / "speed"
ROUNDS = 5
FIT_OPTIONS = ["--data.augment", "none", "--trainer.limit_val_batches", "0", "--no_test", "true"]


def images_per_second(batches: Iterable[Any]) -> float:
    """Take all batches, do nothing with them."""
    started, images = time.perf_counter(), 0
    for _, labels in batches:
        images += len(labels)
    return images / (time.perf_counter() - started)


def in_turns(things: dict[str, Callable[[], float]], rounds: int = ROUNDS) -> dict[str, float]:
    """The median of each measurement; they take turns, after one turn that does not count."""
    for measure in things.values():
        measure()
    taken = [{name: measure() for name, measure in things.items()} for _ in range(rounds)]
    return {name: statistics.median(turn[name] for turn in taken) for name in things}


def loader() -> dict[str, Any]:
    """Images of CIFAR-10's number and size in memory, `flip_crop`, one process, one thread: three ways to load them."""
    import numpy as np
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    from zoo.datamodules import Fake
    from zoo.datamodules.augment import AlbumentationsAugment

    torch.set_num_threads(1)
    data = Fake(num_samples=50_000, augment="flip_crop", num_workers=0, val_size=0.1)
    fast, seeded = data.train_dataloader(), data.train_dataloader()
    seeded.dataset.augment = AlbumentationsAugment(  # type: ignore[attr-defined]  # an ImageDataset
        "flip_crop", seed=0, image_size=32, in_channels=3
    )
    images = data.splits["train"].square(np.arange(10_000), 32)
    script = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize((0.5,) * 3, (0.25,) * 3),
        ]
    )

    class Public(Dataset[Any]):
        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return script(Image.fromarray(images[index])), 0

    public = DataLoader(Public(), batch_size=128, shuffle=True, drop_last=True)
    return in_turns(
        {
            "flip_crop on the batch": lambda: images_per_second(fast),
            "flip_crop by albumentations, seeded for every image": lambda: images_per_second(seeded),
            "torchvision transforms on every image": lambda: images_per_second(public),
        }
    )


def fit(options: list[str]) -> dict[str, Any]:
    """`zoo fit` with these options against the bare loop (`zoo.benchmarks.alternate`)."""
    with tempfile.TemporaryDirectory() as folder:
        figures, run = Path(folder, "figures.json"), Path(folder, "run")
        callback = ["--trainer.callbacks", "zoo.benchmarks.alternate.Alternate"]
        words = [*options, *FIT_OPTIONS, "--run_dir", str(run), *callback]
        subprocess.run(
            [sys.executable, "-m", "zoo", "fit", *words, "--trainer.callbacks.output", str(figures)], check=True
        )
        return {"command": " ".join(["zoo fit", *options, *FIT_OPTIONS]), **json.loads(figures.read_text())}


def memory(options: list[str]) -> dict[str, Any]:
    """Peak memory of `zoo fit` against a bare script's, which is given the size of the data set on top."""
    with tempfile.TemporaryDirectory() as folder:
        words = [*options, "--run_dir", str(Path(folder, "run")), *FIT_OPTIONS]
        ours = _peak_bytes([sys.executable, "-m", "zoo", "fit", *words])
    bare = _peak_bytes([sys.executable, "-c", _BARE])
    return {"command": " ".join(["zoo fit", *words[: len(options)]]), "zoo_bytes": ours, "bare_bytes": bare}


_BARE = """
import torch, torchvision
net = torchvision.models.resnet18(num_classes=10)
optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
for _ in range(20):
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(net(torch.randn(128, 3, 32, 32)), torch.zeros(128, dtype=torch.long)).backward()
    optimizer.step()
"""


def _peak_bytes(command: list[str]) -> int:
    """The largest resident memory of a command."""
    script = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", script, *command], capture_output=True, text=True, check=True)
    kibibytes = 1024 if platform.system() == "Linux" else 1  # macOS counts in bytes
    return int(done.stdout.split()[-1]) * kibibytes


def folder(root: str) -> dict[str, Any]:
    """A tree of image files: seconds of the first epoch, which decodes all, of a later one, and of a public script."""
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    from zoo.datamodules import Folder

    script = transforms.Compose([transforms.Resize(32), transforms.ToTensor()])
    public = DataLoader(datasets.ImageFolder(str(Path(root, "train")), script), batch_size=128, num_workers=2)
    firsts, seconds, scripts = [], [], []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as cache:
            os.environ["ZOO_CACHE"] = cache
            data = Folder(root, image_size=32, augment="flip_crop", num_workers=0, drop_last=False)
            started = time.perf_counter()
            loaded = data.train_dataloader()
            count = sum(len(labels) for _, labels in loaded)
            firsts.append(time.perf_counter() - started)
            seconds.append(count / images_per_second(loaded))
            scripts.append(count / images_per_second(public))
    return {
        "images": sum(data.sizes.values()),
        "training_images": count,
        "first_epoch_seconds": statistics.median(firsts),
        "later_epoch_seconds": statistics.median(seconds),
        "script_epoch_seconds": statistics.median(scripts),
        "first_over_later": statistics.median(first / later for first, later in zip(firsts, seconds, strict=True)),
    }


def linear(root: str) -> dict[str, Any]:
    """An epoch of training ResNet-18's last layer on images, and on features computed once, and computing these."""
    import logging

    import lightning as L
    from lightning.pytorch.callbacks import Timer

    import zoo
    from zoo.cached import cache_features
    from zoo.datamodules import Folder
    from zoo.weight_files import write_weights

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    data = Folder(root, image_size=32, augment="none", num_workers=0, train_size=10_000, batch_size=128)
    data.setup("fit")
    model = zoo.create_model("resnet18", image_size=32)
    with tempfile.TemporaryDirectory() as place:
        write_weights(Path(place, "start.safetensors"), model.state_dict(), model.description())
        model = zoo.create_model("resnet18", pretrained=str(Path(place, "start.safetensors")))
    model.finetune = zoo.Finetune("linear")
    quiet: dict[str, Any] = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}

    def epoch(*, on_features: bool) -> float:
        data.use_features({})
        if on_features:
            cache_features(model, data)
        epochs, timer = 20 if on_features else 1, Timer()
        trainer = L.Trainer(max_epochs=epochs, limit_val_batches=0, logger=False, callbacks=[timer], **quiet)
        trainer.fit(model, data)
        return timer.time_elapsed("train") / epochs

    def features() -> float:
        data.use_features({})
        started = time.perf_counter()
        cache_features(model, data)
        return time.perf_counter() - started

    seconds = in_turns(
        {
            "epoch_on_images_seconds": lambda: epoch(on_features=False),
            "epoch_on_features_seconds": lambda: epoch(on_features=True),
            "computing_features_seconds": features,
        },
        rounds=3,
    )
    ratio = seconds["epoch_on_images_seconds"] / seconds["epoch_on_features_seconds"]
    return {"training_images": data.sizes["train"], **seconds, "ratio": ratio}


def jobs(mnist: str, tree: str, rounds: int) -> dict[str, Callable[[], dict[str, Any]]]:
    """What can be measured, by name.

    Args:
        mnist: The folder that holds MNIST/raw.
        tree: Class folders of 32-pixel images, train/ and test/.
        rounds: Epochs of each contender that count, where contenders take turns.
    """
    from zoo.benchmarks import speed_growth, speed_table

    of_mnist = ["--model", "lenet5", "--data", "mnist", "--data.root", mnist, "--recipe.batch_size", "128"]
    of_tree = ["--data", "folder", "--data.root", tree, "--data.image_size", "32", "--recipe.batch_size", "128"]
    of_resnet20 = ["--model", "resnet20", *of_tree, "--data.train_size", "6400", "--recipe.epochs", "13"]
    return {
        "loader": loader,
        "lenet5": lambda: fit([*of_mnist, "--recipe.epochs", "9"]),
        "resnet20": lambda: fit(of_resnet20),
        "memory": lambda: memory(
            ["--model", "resnet18", *of_tree, "--data.train_size", "2560", "--recipe.epochs", "1"]
        ),
        "folder": lambda: folder(tree),
        "linear": lambda: linear(tree),
        "image-files": lambda: speed_table.image_files(Path(tree), rounds),
        "vgg16": lambda: speed_table.vgg16(rounds),
        "lightning": lambda: speed_table.lenet5(Path(mnist), rounds),
        "startup": lambda: speed_table.startup(rounds),
        "precision": lambda: speed_table.precision(rounds),
        "growth": lambda: speed_growth.growth(rounds),
    }


def main() -> None:
    """Run the jobs that are named, one file each."""
    parser = argparse.ArgumentParser(prog="python -m zoo.benchmarks.speed", description=__doc__)
    parser.add_argument("jobs", nargs="+", choices=[*jobs("", "", 0)])
    parser.add_argument("--mnist", default="data", help="the folder that holds MNIST/raw")
    parser.add_argument("--tree", default="cifar", help="class folders of 32-pixel images: train/ and test/")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"epochs that count (default: {ROUNDS})")
    options = parser.parse_args()
    known = jobs(str(Path(options.mnist).absolute()), str(Path(options.tree).absolute()), options.rounds)
    threads = torch.get_num_threads()
    for name in options.jobs:
        torch.set_num_threads(threads)  # the job before may have wanted one
        figures = {**known[name](), **environment()}
        RESULTS.mkdir(exist_ok=True)
        text = re.sub(r"--data\.root \S+", "--data.root DIR", json.dumps(figures, indent=2))
        file = f"{name}-{figures['instructions']}" if name == "precision" else name
        (RESULTS / f"{file}.json").write_text(text + "\n")
        if name == "growth":
            write_growth(figures)
        sys.stdout.write(f"{name}: {json.dumps({k: v for k, v in figures.items() if k not in environment()})}\n")


def write_growth(figures: dict[str, Any]) -> None:
    """The pictures of the job `growth`, and the page that explains them."""
    from zoo.benchmarks.speed_growth import page, write_pictures

    write_pictures(figures, RESULTS)
    hardware, versions = figures["hardware"], figures["versions"]
    place = f"{hardware['processor']}, {hardware['cores']} cores; torch {versions['torch']}"
    (RESULTS / "growth.md").write_text(page(figures, place))


if __name__ == "__main__":
    main()
