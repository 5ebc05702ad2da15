"""Parts of the command that are worth testing alone."""

import doctest
import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import lightning as L
import pytest
import torch

from tests.conftest import ROOT
from zoo.checkpoint_io import AtomicCheckpointIO
from zoo.cli.checkpoints import BestCheckpoint
from zoo.cli.front import prepare
from zoo.cli.messages import shorten
from zoo.cli.metrics_log import MetricsCSV, plot_curves, read_metrics
from zoo.cli.progress import readable_time

MODULES = [
    f"{package}.{path.stem}".removesuffix(".__init__")
    for folder, package in (("zoo", "zoo"), ("cli", "zoo.cli"), ("datamodules", "zoo.datamodules"))
    for path in sorted((ROOT / folder).glob("*.py"))
    if ">>>" in path.read_text()
]


def test_there_are_examples() -> None:
    assert len(MODULES) >= 4


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0


def keep(checkpoint: BestCheckpoint, accuracy: float, loss: float) -> bool:
    trainer = cast(L.Trainer, SimpleNamespace(callback_metrics={"val/loss": torch.tensor(loss)}))
    return checkpoint.check_monitor_top_k(trainer, torch.tensor(accuracy))


def test_best_epoch_is_the_most_accurate_and_among_equals_the_one_with_the_lowest_loss(tmp_path: Path) -> None:
    checkpoint = BestCheckpoint(144, dirpath=tmp_path)
    assert keep(checkpoint, 0.50, 1.5)
    assert keep(checkpoint, 0.98, 0.1)
    assert not keep(checkpoint, 0.90, 0.05), "a lower loss does not make up for much lower accuracy"
    assert not keep(checkpoint, 0.985, 0.2), "one image more is within the standard error: the loss decides"
    assert keep(checkpoint, 0.978, 0.08), "one image less is within the standard error too"
    assert not keep(checkpoint, 0.978, 0.09)


def test_best_epoch_survives_a_restart(tmp_path: Path) -> None:
    checkpoint, resumed = BestCheckpoint(144, dirpath=tmp_path), BestCheckpoint(144, dirpath=tmp_path)
    keep(checkpoint, 0.98, 0.1)
    resumed.load_state_dict(checkpoint.state_dict())
    assert not keep(resumed, 0.97, 0.2)
    assert keep(resumed, 0.98, 0.05)


def test_large_splits_tell_small_differences_apart(tmp_path: Path) -> None:
    checkpoint = BestCheckpoint(50_000, dirpath=tmp_path)
    assert keep(checkpoint, 0.760, 1.0)
    assert keep(checkpoint, 0.763, 1.2)


def test_metrics_have_one_row_an_epoch_and_go_on_after_a_resume(tmp_path: Path) -> None:
    log = MetricsCSV(tmp_path)
    for epoch in range(3):
        log.log_metrics({"epoch": epoch, "val/loss": 1.0 / (epoch + 1)}, step=10 * epoch + 9)
        log.log_metrics({"epoch": epoch, "train/loss": 2.0 / (epoch + 1)}, step=10 * epoch + 9)
    rows = read_metrics(tmp_path / "metrics.csv")
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [row["step"] for row in rows] == ["9", "19", "29"]
    resumed = MetricsCSV(tmp_path, resume_step=20)
    resumed.log_metrics({"epoch": 2, "val/loss": 0.1}, step=29)
    rows = read_metrics(tmp_path / "metrics.csv")
    assert [(row["epoch"], row["val/loss"]) for row in rows] == [("1", "1.0"), ("2", "0.5"), ("3", "0.1")]


def test_the_row_of_an_epoch_whose_run_was_killed_before_it_was_written_is_in_its_checkpoint(tmp_path: Path) -> None:
    log = MetricsCSV(tmp_path)
    log.log_metrics({"epoch": 0, "val/loss": 0.5}, step=9)
    row = {"epoch": 1, "step": 9, "train/loss": 0.25}
    MetricsCSV(tmp_path, 10, row)
    expected = {"epoch": "1", "step": "9", "train/loss": "0.25", "val/loss": "0.5"}
    assert read_metrics(tmp_path / "metrics.csv") == [expected]
    MetricsCSV(tmp_path, 10, row)
    assert read_metrics(tmp_path / "metrics.csv") == [expected], "it is there already"
    MetricsCSV(tmp_path / "new", 10, row)
    assert read_metrics(tmp_path / "new/metrics.csv") == [{"epoch": "1", "step": "9", "train/loss": "0.25"}]


def test_curves_need_something_to_draw(tmp_path: Path) -> None:
    assert plot_curves(tmp_path, "nothing") is None
    log = MetricsCSV(tmp_path)
    log.log_metrics({"epoch": 0, "train/loss": 1.0, "train/acc": 0.5}, step=1)
    assert plot_curves(tmp_path, "one epoch, no validation") == tmp_path / "curves.png"


def test_a_failed_write_leaves_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, path)

    def fill_disk(_: object, file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        try:
            raise OSError(28, "No space left on device")
        finally:
            raise RuntimeError("unexpected pos 960 vs 854")  # as torch does

    monkeypatch.setattr(torch, "save", fill_disk)
    with pytest.raises(OSError, match=r"No space left on device: '.*last\.ckpt'"):
        AtomicCheckpointIO().save_checkpoint({"step": 2}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--model.norm none --model vgg16", "--data=D.digits --model=M.vgg16 --model.norm=none"),
        ("--model mlp --config a.yaml", "--data=D.digits --config=a.yaml --model=M.mlp"),
        (
            "--model mlp --recipe paper --no-test --resume",
            "--data=D.digits --model=M.mlp --recipe.name=paper --no_test=true --resume=true",
        ),
        ("--config a --resume false --data mnist", "--data=D.digits --config=a --data=D.mnist --resume=false"),
        ("--model timm/resnet18.a1_in1k", "--data=D.digits --model=M.timm --model.backbone=resnet18.a1_in1k"),
        ("--model my.package.Net", "--data=D.digits --model=my.package.Net"),
    ],
)
def test_arguments_are_tidied(words: str, expected: str) -> None:
    text = expected.replace("D.", "zoo.datamodules.names.").replace("M.", "zoo.names.")
    assert " ".join(prepare("fit", words.split())) == text


def test_messages_keep_what_matters() -> None:
    options = ["--model.norm", "--trainer.max_epochs"]
    assert shorten("unrecognized arguments: --trainer.max_epoch=3", [], options) == (
        "unknown option --trainer.max_epoch. Did you mean --trainer.max_epochs?"
    )
    assert shorten("Option 'nrom' is not accepted", ["--model.nrom=x"], options).startswith(
        "unknown option --model.nrom. Did you mean --model.norm?"
    )
    assert len(shorten("something else " * 100, [], options)) < 320


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min 00 s"), (3599, "59 min 59 s"), (7500, "2 h 05 min")]
)
def test_times_are_readable(seconds: float, text: str) -> None:
    assert readable_time(seconds) == text
