"""Sound checkpoints and files of weights for `tests.fuzz_checkpoints`, and the command in a process of its own."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import zoo
from tests.isolation import Failure, isolated
from zoo.classifier import ImageClassifier
from zoo.cli import main
from zoo.datamodules import Digits

NETWORKS = {
    "lenet5": ["--model.dropout=0.1"],
    "resnet20": ["--model.depth=8"],
    "mlp": ["--model.hidden=[20,10]", "--model.norm=batch"],
}
FIT = [
    *("--data=digits", "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1", "--no-test"),
    *("--trainer.logger=false", "--trainer.enable_progress_bar=false", "--data.num_workers=0", "--run_dir=run"),
]


@dataclass
class Source:
    """A sound file, and what it gives.

    Args:
        network: Name of its model.
        kind: `ckpt` with the optimiser's state, exported `safetensors`, or `pt`, tensors alone.
        data: Its bytes.
        model: What is in it.
        answers: What each verb makes of it.
    """

    network: str
    kind: str
    data: bytes
    model: ImageClassifier
    answers: dict[str, str] = field(default_factory=dict)


def make_sources(folder: Path, networks: Sequence[str]) -> list[Source]:
    """Train small networks for two steps and keep them in each format, and 20 digits as pictures in `digits`."""
    (folder / "digits").mkdir()
    for position, image in enumerate(digits(8)[:, 0]):
        pixels = 255 * (image - image.min()) / (image.max() - image.min())
        Image.fromarray(pixels.round().byte().numpy()).save(folder / "digits" / f"{position:02}.png")
    sources = []
    for network in networks:
        work = folder / network
        work.mkdir()
        words = ["fit", f"--model={network}", *NETWORKS[network], *FIT, "--recipe.epochs=1"]
        _sound(work, *words)
        ckpt = work / "run" / "checkpoints" / "last.ckpt"
        _sound(work, "export", str(ckpt), "--format=safetensors", "--output=a.safetensors", "--images=2")
        model = zoo.load(ckpt)
        digits(model.image_size)  # now, so that no case has to
        torch.save(model.state_dict(), work / "a.pt")
        for kind, path in (("ckpt", ckpt), ("safetensors", work / "a.safetensors"), ("pt", work / "a.pt")):
            sources.append(Source(network, kind, path.read_bytes(), model))
    return sources


@cache
def digits(image_size: int) -> Tensor:
    """20 normalised digits (20, 1, S, S)."""
    data = Digits(image_size=image_size, num_workers=0)
    data.setup("test")
    images: Tensor = data.on_after_batch_transfer(data.make_dataset("test")[np.arange(20), 0], 0)[0]
    return images


def _sound(folder: Path, *words: str) -> None:
    found = isolated(lambda: command(folder, words))
    assert not isinstance(found, Failure) and found[0] == 0, found


def command(folder: Path, words: Sequence[str]) -> tuple[int, str, str]:
    """Run the command in this process, which does nothing else, in a folder; its status and what it printed."""
    os.chdir(folder)
    sys.argv = ["zoo", *words]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        for stream, number in ((out, 1), (err, 2)):
            os.dup2(stream.fileno(), number)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(list(words))
        texts = []
        for stream in (out, err):
            stream.flush()
            stream.seek(0)
            texts.append(stream.read())
    return status, texts[0], texts[1]
