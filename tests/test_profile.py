"""`zoo fit --profile`: the parts of a step are what they say they are, and add up to it."""

import json
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tests.conftest import Zoo
from zoo import profiler
from zoo.profiler import PARTS, StepTimes, typical_step


class Clock:
    """A clock that stands still unless it is moved on."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(profiler, "time", clock)
    return clock


class Images(Dataset[Tensor]):
    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def __len__(self) -> int:
        return 4

    def __getitem__(self, row: int) -> Tensor:
        self.clock.now += 1
        return torch.ones(2)


class Slow(Callback):
    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_train_batch_end(self, *_: Any) -> None:
        self.clock.now += 32

    def on_validation_epoch_end(self, *_: Any) -> None:
        self.clock.now += 1000


class Module(L.LightningModule):
    """Each part of its step moves the clock on by a time of its own."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
        self.clock = clock

    def on_after_batch_transfer(self, batch: Tensor, dataloader_idx: int) -> Tensor:
        self.clock.now += 2
        return batch

    def training_step(self, batch: Tensor) -> Tensor:
        self.clock.now += 4
        return self.layer(batch).sum()

    def validation_step(self, batch: Tensor) -> None:
        self.clock.now += 1000

    def backward(self, loss: Tensor) -> None:
        self.clock.now += 8
        loss.backward()

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        self.clock.now += 16

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def test_every_part_is_counted_where_it_belongs(clock: Clock, tmp_path: Path) -> None:
    times = StepTimes()
    images = DataLoader(Images(clock))
    trainer = L.Trainer(
        max_epochs=2,
        profiler=times,
        callbacks=[Slow(clock)],
        default_root_dir=tmp_path,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(Module(clock), images, images)
    parts = {"data": 1, "transfer": 2, "forward": 4, "backward": 8, "optimiser": 16, "logging": 32, "rest": 0}
    assert times.steps == [parts] * 6  # of two epochs of four, all that another one followed; no validation


def test_what_is_in_no_part_is_the_rest(clock: Clock) -> None:
    times = StepTimes()
    for _ in range(2):
        times.start("[_TrainingEpochLoop].train_dataloader_next")
        clock.now += 1
        times.stop("[_TrainingEpochLoop].train_dataloader_next")
        clock.now += 5
        times.start("[LightningModule]lenet5.on_before_zero_grad")  # a hook that is no part of its own
        clock.now += 2
        times.stop("[LightningModule]lenet5.on_before_zero_grad")
    assert times.steps == [{**dict.fromkeys(PARTS, 0), "data": 1, "rest": 7}]


def test_a_typical_step_adds_up_and_leaves_out_warm_up_and_stragglers() -> None:
    step = dict.fromkeys(PARTS, 1.0)
    slow = dict.fromkeys(PARTS, 100.0)
    found, count = typical_step([slow] * 10 + [step] * 20 + [slow] * 5)
    assert found == step
    assert count == 25


def test_a_typical_step_of_two_is_their_mean() -> None:
    found, count = typical_step([dict.fromkeys(PARTS, 1.0), dict.fromkeys(PARTS, 3.0)])
    assert found == dict.fromkeys(PARTS, 2.0)
    assert count == 2


def test_fit_shows_and_writes_where_the_time_goes(zoo_main: Zoo, tmp_path: Path) -> None:
    done = zoo_main("fit", "--model", "mlp", "--recipe.epochs", "2", "--run_dir", "run", "--no-test", "--profile")
    assert done.status == 0, done.err
    record = json.loads((tmp_path / "run/profile.json").read_text())
    assert [*record["milliseconds"]] == [*PARTS]
    assert sum(record["milliseconds"].values()) == pytest.approx(record["step_milliseconds"], abs=0.001)
    assert min(record["milliseconds"].values()) >= 0
    table = [line.split() for line in done.out.splitlines()]
    shown = {words[0]: float(words[1]) for words in table if words and words[0] in (*PARTS, "all")}
    assert shown == {
        **{name: pytest.approx(value, abs=0.006) for name, value in record["milliseconds"].items()},
        "all": pytest.approx(record["step_milliseconds"], abs=0.006),
    }


def test_without_the_option_nothing_is_timed(zoo_main: Zoo, tmp_path: Path) -> None:
    done = zoo_main("fit", "--model", "mlp", "--trainer.max_steps", "2", "--run_dir", "run", "--no-test")
    assert done.status == 0, done.err
    assert not (tmp_path / "run/profile.json").exists()
    assert "waiting for the batch" not in done.out


def test_an_epoch_of_one_step_says_why_there_is_no_table(zoo_main: Zoo, tmp_path: Path) -> None:
    words = ("fit", "--model", "mlp", "--trainer.max_steps", "1", "--run_dir", "run", "--no-test", "--profile")
    done = zoo_main(*words)
    assert done.status == 0, done.err
    assert "no step was timed" in done.out
    assert not (tmp_path / "run/profile.json").exists()


def test_two_profilers_are_refused(zoo_main: Zoo) -> None:
    done = zoo_main("fit", "--model", "mlp", "--profile", "--trainer.profiler", "simple")
    assert done.status == 2
    assert "--profile and trainer.profiler are both given" in done.err
