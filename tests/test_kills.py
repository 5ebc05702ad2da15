"""A few of the cases of `tests/kills.py`: killed or stopped, resumed, equal to a run that nothing interrupted."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.conftest import Zoo
from tests.here import assert_one_line, run_here
from tests.kill_cases import Case, differences, finish, first_words, start, try_case, wait_for_step
from tests.kills import random_case


@pytest.mark.parametrize(
    "case",
    [
        Case("ema", workers=2, every=3, steps=(13,), delay=0.01),
        Case("lenet5", steps=(20,)),
        Case("gradual", workers=0, every=3, steps=(12,), delay=0.03, precision="64-true"),
    ],
    ids=lambda case: case.configuration,
)
def test_killed_anywhere_and_resumed_equals_uninterrupted(case: Case, tmp_path: Path) -> None:
    """REQ-R1: weights, their average, the optimiser and the metrics, bit for bit."""
    (tmp_path / "whole").mkdir()
    plain = Case(case.configuration, precision=case.precision)
    assert run_here(tmp_path / "whole", *plain.words, "--run_dir=run") == 0
    result = try_case(case, tmp_path / "whole", tmp_path / "case")
    assert result.faults == []
    assert result.resumed_from[0] <= result.killed_at[0] + 1


def test_a_signal_stops_two_processes_after_the_same_step(tmp_path: Path, zoo_main: Zoo) -> None:
    """REQ-R1, REQ-R2, REQ-R5: one of them gets SIGTERM; resumed on two they end alike, on one only if that is said."""
    case, whole, stopped = Case("ema", devices=2), tmp_path / "whole", tmp_path / "stopped"
    expected = start([*case.words, "--run_dir=run"], whole)  # the processors have little to do while libraries are read
    process = start(first_words(case.words), stopped)
    assert wait_for_step(process, stopped, 12)
    process.send_signal(signal.SIGTERM)
    printed = process.communicate(timeout=600)[0]
    assert process.returncode == 143, printed
    assert printed.splitlines()[-1] == "interrupted. To go on: zoo fit --config run/config.yaml --resume"
    finish(expected)
    shutil.copytree(stopped / "run", tmp_path / "run")
    alone = ("fit", "--config=run/config.yaml", "--trainer.devices=1", "--trainer.strategy=auto")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_ALLOW_IMPORTS", "tests")
        patch.setenv("ZOO_TEST_PULSE", os.devnull)
        assert_one_line(zoo_main(*alone, "--resume"), "devices was 2 and is 1")
        outcome = zoo_main(*alone, "--resume-inexact")
    assert outcome.status == 0, outcome.err
    assert "note: not an exact resume: devices was 2 and is 1" in outcome.out
    finish(start(["fit", "--config=run/config.yaml", "--resume"], stopped))
    assert differences(whole / "run", stopped / "run") == []


def test_the_cases_of_the_long_run_cover_all_settings() -> None:
    cases = [random_case(number, 0, 1) for number in range(60)]
    assert len({(case.configuration, case.workers, case.every) for case in cases}) == 24
    assert any(len(case.steps) == 2 for case in cases)
    distributed = [random_case(number, 0, 2) for number in range(10)]
    assert sum(case.every > 0 for case in distributed) == 5
    assert len({(case.configuration, case.every) for case in distributed}) == 10
