"""Signals at every stage of a run, once and twice, and a kill at the worst moment."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import ROOT, Zoo, command, environment
from tests.here import FIT, RESUME, run_here, step
from tests.kill_cases import differences
from tests.pulse import SIGNALS
from zoo.checkpoint_io import LAST
from zoo.cli.metrics_log import MetricsCSV, read_metrics
from zoo.cli.tune import Tunable

pytestmark = pytest.mark.usefixtures("own_handlers")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    assert run_here(folder, *FIT, "--run_dir=run") == 0
    return folder / "run"


@pytest.mark.parametrize(
    ("signals", "status", "saved"),
    [
        ("SIGINT train 12", 130, 12),
        ("SIGTERM train 12", 143, 12),
        ("SIGTERM train 16", 143, 16),  # the last step of an epoch: validation has begun when the run stops
        ("SIGINT validation 7", 130, 16),
        ("SIGTERM validation 10", 143, 16),  # the last batch of validation
        ("SIGINT test 2", 130, 32),
        ("SIGTERM test 2", 143, 32),
        ("SIGINT,SIGINT train 12", 130, 8),  # the second does not wait for the step, which could not be resumed
        ("SIGTERM,SIGTERM validation 7", 143, 16),
    ],
)
def test_a_signal_is_obeyed_and_the_run_goes_on_exactly(
    signals: str, status: int, saved: int, whole: Path, zoo_main: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REQ-R5: in training, validation and test, once and twice: 128 + its number, a checkpoint, how to go on."""
    monkeypatch.setenv(SIGNALS, signals)
    outcome = zoo_main(*FIT, "--run_dir=run")
    assert outcome.status == status, outcome.err
    assert outcome.out.splitlines()[-1] == "interrupted. To go on: zoo fit --config run/config.yaml --resume"
    assert step(tmp_path / "run/checkpoints" / LAST) == saved
    monkeypatch.delenv(SIGNALS)
    resumed = zoo_main(*RESUME)
    assert resumed.status == 0, resumed.err
    assert differences(whole, tmp_path / "run") == []


def test_slurms_warning_is_obeyed_too(
    whole: Path, zoo_main: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REQ-R5: in a job of Slurm's, USR1 comes before the time is up; nothing is put into the queue unasked."""
    programs, asked = tmp_path / "programs", tmp_path / "asked"
    programs.mkdir()
    (programs / "scontrol").write_text(f"#!/bin/sh\ntouch {asked}\n")
    (programs / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    for name, value in {"JOB_ID": 7, "NTASKS": 1, "JOB_NAME": "train", "PROCID": 0, "LOCALID": 0, "NODEID": 0}.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    monkeypatch.setenv(SIGNALS, "SIGUSR1 train 12")
    outcome = zoo_main(*FIT, "--run_dir=run")
    assert outcome.status == 138, outcome.err
    assert outcome.out.splitlines()[-1] == "interrupted. To go on: zoo fit --config run/config.yaml --resume"
    assert step(tmp_path / "run/checkpoints" / LAST) == 12
    assert not asked.exists()
    assert not list(tmp_path.rglob("hpc_ckpt*"))
    monkeypatch.delenv(SIGNALS)
    resumed = zoo_main(*RESUME)
    assert resumed.status == 0, resumed.err
    assert differences(whole, tmp_path / "run") == []


def test_a_signal_waits_for_gradients_that_are_added_up(
    zoo_main: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REQ-R5: a checkpoint does not hold them: the run stops after the optimiser's step."""
    added_up = (*FIT, "--trainer.accumulate_grad_batches=3")
    assert run_here(tmp_path, *added_up, "--run_dir=whole") == 0
    monkeypatch.setenv(SIGNALS, "SIGTERM train 10")
    assert zoo_main(*added_up, "--run_dir=run").status == 143
    assert step(tmp_path / "run/checkpoints" / LAST) == 4, "8 batches are 3 steps, and 3 more are one"
    monkeypatch.delenv(SIGNALS)
    assert zoo_main(*RESUME).status == 0
    assert differences(tmp_path / "whole", tmp_path / "run") == []


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
@pytest.mark.parametrize("verb", ["test", "validate", "predict", "tune"])
def test_a_signal_ends_what_is_no_run(
    verb: str, name: str, status: int, whole: Path, zoo_main: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REQ-R5: at once, without a result, with its own status: Lightning has 1 for the one, 0 for the other."""
    monkeypatch.setenv(SIGNALS, f"{name} {'validation' if verb == 'validate' else verb} 1")
    trained = ("--ckpt_path", whole / "checkpoints" / LAST, "--trainer.callbacks+=tests.pulse.Signals")
    words = {"predict": (*trained, "black.png", "--output", "out.csv"), "tune": ("--model", "mlp")}.get(verb, trained)
    Image.new("L", (8, 8)).save(tmp_path / "black.png")
    # Lightning's finder of rates lets no other callback see its steps.
    monkeypatch.setattr(Tunable, "training_step", lambda *_: os.kill(os.getpid(), signal.Signals[name]))
    outcome = zoo_main(verb, *words)
    assert (outcome.status, outcome.err.splitlines()[-1]) == (status, "interrupted")
    assert "/acc" not in outcome.out
    assert [path.name for path in tmp_path.iterdir()] == ["black.png"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_signal_during_start_up(number: signal.Signals, status: int, tmp_path: Path) -> None:
    """REQ-R5: while libraries are imported there is nothing to save; SIGTERM's own status is 143 in a shell."""
    words = [sys.executable, "-X", "importtime", *command(*FIT, "--run_dir=run")]
    own = environment() | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(words, cwd=tmp_path, env=own, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while "numpy" not in (line := process.stderr.readline()):
        assert line, "the command ended before its libraries were imported"
    process.send_signal(number)
    out, err = process.communicate(timeout=240)
    assert process.returncode == status, err[-2000:]
    assert out == ""
    assert not (tmp_path / "run").exists()


def test_a_kill_between_the_checkpoint_and_the_log(whole: Path, tmp_path: Path, zoo_main: Zoo) -> None:
    """REQ-R1: the averages of an epoch are in its checkpoint too; the log has every row when the run has gone on."""
    write = MetricsCSV.log_metrics

    def killed(self: MetricsCSV, metrics: dict[str, float], step: int | None = None) -> None:
        if "train/loss" in metrics and metrics["epoch"] == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        write(self, metrics, step)

    child = os.fork()
    if child == 0:
        MetricsCSV.log_metrics = killed  # type: ignore[method-assign]
        os._exit(run_here(tmp_path, *FIT, "--run_dir=run"))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert "train/loss" not in read_metrics(tmp_path / "run/metrics.csv")[-1]
    assert zoo_main(*RESUME).status == 0
    assert differences(whole, tmp_path / "run") == []
