"""What `zoo fit` costs beside programs that do the same without it: speed, peak memory, start-up.

Each job names its contenders, lets them take turns (`zoo.benchmarks.turns`) and states the ratios that the README
promises. Options of `zoo fit` are the same as the other program has: optimiser, batch, augmentation.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zoo.benchmarks.turns import Measured, bare, fake_images, loop_over_tensors, ratio, take_turns, zoo_fit
from zoo.precision import bfloat16_instructions

IMAGES = 10_000
"""Image files that ResNet-18 is trained on."""
FAMILIES = {
    "lenet5": ("lenet5", 32, 1, 128, 25_600),
    "resnet20": ("resnet20", 32, 3, 128, 2560),
    "resnet18": ("resnet18", 32, 3, 128, 5120),
    "vgg16": ("vgg16", 32, 3, 64, 640),
}
"""For each family: a model, the image size, channels, the batch and the images of an epoch."""
LIBRARIES = "import torch, lightning, torchvision, timm"
"""What start-up is compared with."""


def facts(measured: Mapping[str, Measured]) -> dict[str, Any]:
    """Each contender's medians."""
    return {name: found.as_dict() for name, found in measured.items()}


def memory_ratio(one: Measured, other: Measured) -> float:
    """How many times as much memory at its peak."""
    return round(one.peak_bytes / other.peak_bytes, 4)


@contextmanager
def smaller_tree(tree: Path, images: int) -> Iterator[Path]:
    """A temporary copy of class folders of image files: `images` for training, 500 for validation, 500 to test on.

    Args:
        tree: A folder that has train/ and test/, in each a folder for every class.
        images: As many are evenly taken of the classes.
    """
    with tempfile.TemporaryDirectory() as name:
        sources = {"train": ("train", 0, images), "val": ("test", 0, 500), "test": ("test", 500, 500)}
        for split, (source, skipped, number) in sources.items():
            classes = sorted(folder for folder in (tree / source).iterdir() if folder.is_dir())
            each, first = number // len(classes), skipped // len(classes)
            for folder in classes:
                (Path(name) / split / folder.name).mkdir(parents=True)
                for file in sorted(folder.iterdir())[first : first + each]:
                    shutil.copy(file, Path(name) / split / folder.name)
        yield Path(name)


def image_files(tree: Path, rounds: int, images: int = IMAGES) -> dict[str, Any]:
    """ResNet-18 (ImageNet's stem) at 32 pixels, batch 128, `flip_crop`, 10,000 JPEG files in class folders."""
    epochs = rounds + 1
    with smaller_tree(tree, images) as root:
        data = ["--data", "folder", "--data.root", str(root), "--data.image_size", "32", "--data.augment", "flip_crop"]
        words = ["--model", "resnet18", *data, "--recipe.batch_size", "128", "--recipe.epochs", str(epochs)]
        of_loop = ["--batch_size", "128", "--epochs", str(epochs)]
        found = take_turns(
            {
                "zoo": zoo_fit(*words),
                "public": bare("images", "--root", str(root / "train"), *of_loop),
                "tensors": bare("tensors", "--samples", str(images), *of_loop),
                "zoo_auto": zoo_fit(*words, "--precision", "auto"),
            },
            rounds,
        )
    return {
        "contenders": facts(found),
        "over_public": ratio(found["zoo"], found["public"]),
        "over_tensors": ratio(found["zoo"], found["tensors"]),
        "auto_over_public": ratio(found["zoo_auto"], found["public"]),
        "auto_over_tensors": ratio(found["zoo_auto"], found["tensors"]),
        "memory_over_public": memory_ratio(found["zoo"], found["public"]),
        "auto_memory_over_public": memory_ratio(found["zoo_auto"], found["public"]),
    }


def vgg16(rounds: int) -> dict[str, Any]:
    """VGG-16 at 32 pixels on the embedded digits, batch 64, `--precision auto`, against the float32 loop."""
    epochs, images = rounds + 1, 640
    words = ["--model", "vgg16", "--model.image_size", "32", "--data.train_size", str(images)]
    words += ["--recipe.batch_size", "64", "--recipe.epochs", str(epochs)]
    loop = loop_over_tensors("vgg16", in_channels=1, image_size=32, batch_size=64, images=images, epochs=epochs)
    found = take_turns({"zoo_auto": zoo_fit(*words, "--precision", "auto"), "tensors": loop}, rounds)
    return {
        "contenders": facts(found),
        "auto_over_tensors": ratio(found["zoo_auto"], found["tensors"]),
        "memory_over_tensors": memory_ratio(found["zoo_auto"], found["tensors"]),
    }


def lenet5(mnist: Path, rounds: int) -> dict[str, Any]:
    """LeNet-5 on MNIST, batch 128, against Lightning with torchvision's data set and transforms and two workers."""
    epochs = rounds + 1
    words = ["--model", "lenet5", "--data", "mnist", "--data.root", str(mnist), "--data.augment", "none"]
    words += ["--recipe.batch_size", "128", "--recipe.epochs", str(epochs)]
    plain = ["lightning", "--root", str(mnist), "--batch_size", "128", "--epochs", str(epochs)]
    found = take_turns({"zoo": zoo_fit(*words), "lightning": bare(*plain)}, rounds)
    return {
        "contenders": facts(found),
        "over_lightning": ratio(found["zoo"], found["lightning"]),
        "memory_over_lightning": memory_ratio(found["zoo"], found["lightning"]),
    }


def startup(rounds: int) -> dict[str, Any]:
    """Seconds from the command to the first training step, and those that a Python takes to import four libraries."""
    command = zoo_fit("--model", "lenet5", "--recipe.epochs", "1")
    first_steps, imports = [], []
    for turn in range(rounds + 1):
        ours = take_turns({"zoo": command}, rounds=0)["zoo"].first_step_seconds
        theirs = _seconds([sys.executable, "-c", LIBRARIES])
        if turn:  # the first one reads the files from the disk
            first_steps.append(ours)
            imports.append(theirs)
    return {
        "first_step_seconds": round(statistics.median(first_steps), 3),
        "imports_seconds": round(statistics.median(imports), 3),
        "ratio": round(statistics.median(a / b for a, b in zip(first_steps, imports, strict=True)), 4),
    }


def _seconds(command: Sequence[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, timeout=300, env=os.environ)
    return time.perf_counter() - started


def precision(rounds: int) -> dict[str, Any]:
    """How many times as fast bf16-mixed trains as 32-true, for a model of each family, on random images in memory.

    Raises:
        RuntimeError: If this CPU has no instructions for bfloat16.
    """
    instructions = bfloat16_instructions()
    if instructions is None:
        raise RuntimeError("this CPU only imitates bfloat16: there is nothing to measure")
    found = {}
    for family, (model, size, channels, batch, samples) in FAMILIES.items():
        data = fake_images(samples, image_size=size, in_channels=channels)
        recipe = ["--recipe.batch_size", str(batch), "--recipe.epochs", str(rounds + 1)]
        command = zoo_fit("--model", model, *data, *recipe)
        settings = ("32-true", "bf16-mixed")
        measured = take_turns({name: [*command, "--trainer.precision", name] for name in settings}, rounds)
        found[family] = {
            "model": model,
            "image_size": size,
            "batch_size": batch,
            "ratio": ratio(measured["bf16-mixed"], measured["32-true"]),
            "contenders": facts(measured),
        }
    gain = round(convolution_ratio(rounds), 4)
    return {"instructions": instructions, "families": found, "convolution_ratio": gain}


def convolution_ratio(rounds: int) -> float:
    """How many times as fast a convolution is in bfloat16 as in float32: more than that no network of them can gain.

    It is one of VGG's in the middle: 3 x 3, 256 channels, 64 images of 8 x 8.

    Args:
        rounds: Turns of each that count; at least 20, since one takes milliseconds.
    """
    import torch
    from torch.nn.functional import conv2d

    from zoo.benchmarks.speed import in_turns

    def seconds(dtype: torch.dtype) -> Callable[[], float]:
        images = torch.randn(64, 256, 8, 8, dtype=dtype).to(memory_format=torch.channels_last)
        weight = torch.randn(256, 256, 3, 3, dtype=dtype).to(memory_format=torch.channels_last)

        def convolve() -> float:
            started = time.perf_counter()
            conv2d(images, weight, padding=1)
            return time.perf_counter() - started

        return convolve

    found = in_turns({"single": seconds(torch.float32), "half": seconds(torch.bfloat16)}, max(rounds, 20))
    return found["single"] / found["half"]
