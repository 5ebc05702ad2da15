"""The command in this process, for tests that interrupt it or go on with what an interrupted one left."""

import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import Outcome
from tests.kill_cases import SHORT
from tests.pulse import SIGNALS
from zoo.cli import main

MODEL = ("--model=mlp", "--model.norm=batch", "--model.dropout=0.2", "--recipe.ema=0.9")
FIT = ("fit", *MODEL, *SHORT, "--trainer.callbacks+=tests.pulse.Signals")
"""A run with all that must not be lost: statistics, random numbers, an average of the weights."""
RESUME = ("fit", "--config=run/config.yaml", "--resume")


def run_here(folder: Path, *words: str, signals: str = "") -> int:
    """The exit status of a command in this process, started in a folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["zoo", *words])
        patch.setenv("ZOO_ALLOW_IMPORTS", "tests")
        patch.setenv(SIGNALS, signals)
        for variable in ("PL_GLOBAL_SEED", "ZOO_RUN_DIR"):
            patch.delenv(variable, raising=False)
        return main(words)


def step(checkpoint: Path) -> int:
    """The step at which a checkpoint was written."""
    return int(torch.load(checkpoint, weights_only=True)["global_step"])


def assert_one_line(outcome: Outcome, *texts: str) -> None:
    """Wrong input: these texts in one line, status 2."""
    assert outcome.status == 2, outcome.err
    assert outcome.err.count("\n") == 1, outcome.err
    for text in texts:
        assert text in outcome.err
