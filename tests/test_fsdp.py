"""Weights divided among two processes: the run is that of DDP, and its checkpoints those of one process."""

import csv
import json
from pathlib import Path

import pytest
import torch

from tests.conftest import Zoo, run_two_processes
from tests.here import assert_one_line
from zoo.finetune import Finetune
from zoo.fsdp import check_sharding
from zoo.recipe import Recipe

SHARDED = ("--trainer.strategy=fsdp", "--trainer.accelerator=cpu")
CASES = [
    ["lenet5", {}, {"layer_decay": 0.5, "gradient_clip": 0.1}],  # adamw
    ["resnet20", {"image_size": 8}, {"optimizer": "nesterov", "lr": 0.01, "momentum": 0.9}],
]


def test_it_trains_as_ddp_does_and_each_goes_on_from_the_other(tmp_path: Path) -> None:
    printed = run_two_processes("fsdp_on_two_processes.py", str(tmp_path), json.dumps(CASES))
    results = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert [result["name"] for result in results] == ["lenet5", "resnet20"]
    for result in results:
        for ours, theirs in (result["metrics"], result["later"]):
            assert set(theirs) == {f"{stage}/{what}" for stage in ("train", "val", "test") for what in ("loss", "acc")}
            assert ours == pytest.approx(theirs, rel=1e-5)
        mine, whole = result["shares"]
        assert 0.4 * whole < mine < 0.6 * whole
        assert max(result["weights"]) < 1e-5
        assert result["optimizer"] < 1e-5


def test_the_command_trains_tests_and_leaves_checkpoints_of_one_process(
    zoo_command: Zoo, zoo_main: Zoo, tmp_path: Path
) -> None:
    words = ("--model=lenet5", "--data=digits", "--data.train_size=64", "--recipe.epochs=2", "--run_dir=run")
    outcome = zoo_command("fit", *words, *SHARDED, "--trainer.devices=2", timeout=120)
    assert outcome.status == 0, outcome.err
    with (tmp_path / "run/metrics.csv").open() as file:
        *_, last = csv.DictReader(file)
    tested = zoo_main("test", "--ckpt_path=run/checkpoints/best.ckpt")
    assert f"test/acc  {float(last['test/acc'])!r} " in tested.out, tested.err
    outcome = zoo_main(
        "fit", "--config=run/config.yaml", "--resume-inexact", "--trainer.devices=1", "--trainer.strategy=auto",
        "--recipe.epochs=3", "--no-test",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    assert "not an exact resume: devices was 2 and is 1" in outcome.out
    checkpoint = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["epoch"] == 2
    assert {int(state["step"]) for state in checkpoint["optimizer_states"][0]["state"].values()} == {3}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--recipe.ema=0.9"], "recipe.ema is 0.9, which needs whole weights: it must be 0 with the strategy fsdp"),
        (["--recipe.swa=0.5"], "recipe.swa is 0.5, which needs whole weights"),
        (
            ["--recipe.optimizer=lbfgs", "--recipe.momentum=0", "--recipe.weight_decay=0"],
            "recipe.optimizer is lbfgs, which needs whole weights",
        ),
        (["--pretrained=true", "--finetune=gradual"], "finetune.method is gradual: it must be none or full"),
    ],
)
def test_what_needs_whole_weights_is_refused_before_data_are_read(
    words: list[str], message: str, zoo_main: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.cli.training.read_data", lambda *_: pytest.fail("data were read"))
    assert_one_line(zoo_main("fit", "--model=lenet5", "--data=digits", *SHARDED, *words), message)


@pytest.mark.parametrize(
    ("recipe", "finetune", "precision", "message"),
    [
        (Recipe(l1=0.1), Finetune(), "32-true", "recipe.l1 is 0.1"),
        (Recipe(max_norm=2.0), Finetune(), "32-true", "recipe.max_norm is 2.0"),
        (Recipe(), Finetune("full", l2sp=0.1), "32-true", "finetune.l2sp is 0.1"),
        (Recipe(), Finetune(), "16-mixed", "use bf16-mixed"),
    ],
)
def test_so_is_what_a_share_cannot_give(recipe: Recipe, finetune: Finetune, precision: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_sharding(recipe, finetune, precision)


def test_sharding_that_lightning_alone_knows_is_refused(zoo_main: Zoo) -> None:
    outcome = zoo_main("fit", "--model=mlp", "--data=digits", "--trainer.strategy=fsdp_cpu_offload")
    assert_one_line(outcome, "trainer.strategy is fsdp_cpu_offload: use fsdp or ddp")
