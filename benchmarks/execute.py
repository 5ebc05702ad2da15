"""One run: build, train, test once, measure; the result as plain values.

The weights of the last epoch are tested, unless the settings choose the epoch by its validation loss: nothing is ever
chosen on test images. Everything random follows from the seed, and a run that was interrupted goes on from its last
checkpoint with the numbers that it would have had.
"""

import json
import logging
import os
import shutil
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from zoo.allocator import keep_freed_memory
from zoo.benchmarks.data import build_data
from zoo.benchmarks.environment import environment
from zoo.benchmarks.jobs import Job
from zoo.benchmarks.measures import MEASURES
from zoo.benchmarks.networks import build_model, multiply_adds
from zoo.benchmarks.passes import answers, share
from zoo.benchmarks.recorder import Recorder, rounded
from zoo.benchmarks.results import new_result, write_result
from zoo.benchmarks.settings import Settings
from zoo.cached import cache_features, why_not_cached
from zoo.checkpoint_io import AtomicCheckpointIO
from zoo.classifier import ImageClassifier
from zoo.datamodules.base import ImageDataModule
from zoo.datamodules.machine import available_cpus
from zoo.divergence import DivergedError
from zoo.weight_files import atomic_file

PROGRESS = "progress.json"


def run_job(job: Job) -> Path:
    """Do one job and write its result; the result file. Wrong settings and divergence are results too."""
    quiet()
    keep_freed_memory()
    settings, facts = Settings(**job.settings), new_result(job)
    torch.set_num_threads(settings.protocol["threads"] or available_cpus())
    job.work.mkdir(parents=True, exist_ok=True)
    try:
        Run(settings, job, facts).execute()
    except DivergedError as error:
        facts |= {"status": "diverged", "error": str(error)}
    except Exception as error:  # whatever it is, it ends this run only
        if os.environ.get("ZOO_TRACEBACK") == "1":
            raise
        facts |= {"status": "failed", "error": " ".join(f"{type(error).__name__}: {error}".split())[:300]}
    write_result(job.path, facts | {"environment": environment()})
    shutil.rmtree(job.work, ignore_errors=True)
    return job.path


def quiet() -> None:
    """Spare whoever watches a hundred runs what Lightning says of each."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\.|torch\.optim\.lr_scheduler")


class Run:
    """One run while it is being done.

    Args:
        settings: What is run.
        job: Where, and with which seed.
        facts: The result, which grows.
    """

    def __init__(self, settings: Settings, job: Job, facts: dict[str, Any]) -> None:
        self.settings, self.job, self.facts = settings, job, facts
        self.protocol = settings.protocol

    def execute(self) -> None:
        """Train and measure."""
        members, started = self.protocol["members"], time.monotonic()
        total = []
        for member in range(members):
            model, data = self.prepare(member)
            if member == 0:
                self.describe(model, data)
                self.measure(model, data, before=True)
            if self.protocol["train"]:
                self.train(model, data, member)
            if members > 1:
                known = answers(model, data, "test")
                total.append(known.logits.softmax(dim=1))
        if members > 1:  # what is known of the last one is not of all
            self.facts |= {"curve": [], "metrics": {}}
            self.add({"test/acc": share(torch.stack(total).sum(dim=0).argmax(dim=1) == known.labels)})
        elif self.protocol["train"]:
            trainer = self.trainer(model, [])
            self.add(trainer.test(model, data, verbose=False)[0])
            model.to(trainer.strategy.root_device)  # from which Lightning has moved it
        else:
            model.to(self.trainer(model, []).strategy.root_device)
        self.measure(model, data, before=False)
        if not self.protocol["train"]:
            self.facts["seconds"] = round(time.monotonic() - started, 2)

    def prepare(self, member: int) -> tuple[ImageClassifier, ImageDataModule]:
        """The network as it is before training, and its data."""
        settings, seed = self.settings, self.job.seed
        L.seed_everything(seed if member == 0 else 1000 * (seed + 1) + member, verbose=False)
        data = build_data(settings, seed, self.job.root)
        model = build_model(settings, data)
        data.prepare_data()
        data.setup("fit" if self.protocol["train"] else "test")
        if self.protocol["members"] > 1:  # each sees a bootstrap sample (Breiman 1996, Bagging predictors)
            train = data.splits["train"]
            rows = np.random.default_rng((seed, member)).integers(len(train), size=len(train))
            data.splits["train"] = train.take(rows)
        return model, data

    def describe(self, model: ImageClassifier, data: ImageDataModule) -> None:
        """Add what is known before training."""
        self.facts["data"] |= {
            "images": data.sizes,
            "num_classes": data.num_classes,
            "image_size": data.image_size,
        }
        self.facts["parameters"] = sum(parameter.numel() for parameter in model.parameters())
        self.facts["macs"] = multiply_adds(self.settings.model, json.dumps(dict(model.hparams)))

    def train(self, model: ImageClassifier, data: ImageDataModule, member: int) -> None:
        """Train from the start or from the last checkpoint; add the curve."""
        folder, members = self.job.work / str(member), self.protocol["members"]
        if self.settings.finetune["method"] == "linear" and not why_not_cached(model, data):
            cache_features(model, data)
        if self.protocol["curve"] == "test":
            data.val_dataloader = data.test_dataloader  # type: ignore[method-assign]  # seen, but nothing follows
        recorder = Recorder(
            folder / "last.ckpt", self.protocol["curve"], lambda share: self.report((member + share) / members)
        )
        best = ModelCheckpoint(
            dirpath=folder, filename="best", monitor="val/loss", save_weights_only=True, enable_version_counter=False
        )
        # The recorder comes last: its checkpoint must know which epoch is the best so far.
        trainer = self.trainer(model, [best, recorder] if self.protocol["select"] == "best" else [recorder])
        start = folder / "last.ckpt"
        try:
            trainer.fit(model, data, ckpt_path=start if start.is_file() else None, weights_only=True)
        finally:
            self.facts["curve"] = recorder.curve
            self.facts["seconds"] = round(self.facts["seconds"] + recorder.seconds, 2)
            self.facts["steps"] += trainer.global_step
        if self.protocol["select"] == "best":
            state = torch.load(folder / "best.ckpt", weights_only=True)["state_dict"]
            model.load_state_dict(state)
        first, last = recorder.curve[0], recorder.curve[-1]
        self.add(known_of(last, but="test/"))
        self.add({f"first/{name}": value for name, value in known_of(first).items()})

    def trainer(self, model: ImageClassifier, callbacks: list[Any]) -> L.Trainer:
        """A trainer that writes nothing but our checkpoints."""
        return L.Trainer(
            accelerator="auto",
            devices=1,
            precision=self.protocol["precision"],
            max_epochs=model.recipe.epochs,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO()],
            logger=False,
            enable_checkpointing=bool(callbacks),
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    def measure(self, model: ImageClassifier, data: ImageDataModule, *, before: bool) -> None:
        """Add what the settings want to be measured before training, or after it."""
        for name in self.protocol["measure"]:
            if MEASURES[name].before == before:
                metrics, extra = MEASURES[name].function(model, data)
                self.add(metrics)
                if extra is not None:
                    self.facts["extra"][name] = extra

    def add(self, metrics: Mapping[str, float]) -> None:
        """Add to the result's metrics."""
        known = {name: rounded(float(value)) for name, value in metrics.items()}
        self.facts["metrics"] |= {name: value for name, value in known.items() if value is not None}

    def report(self, share: float) -> None:
        """Tell whoever waits how much of the run is done."""
        with atomic_file(self.job.work / PROGRESS) as file:
            file.write(json.dumps({"done": round(share, 4)}).encode())


def known_of(point: Mapping[str, Any], but: str = "-") -> dict[str, float]:
    """The metrics of a point of the curve that are numbers, but for those whose names start with `but`."""
    return {
        name: value for name, value in point.items() if "/" in name and value is not None and not name.startswith(but)
    }
