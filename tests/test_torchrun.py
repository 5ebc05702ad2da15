"""The command under torchrun: on two machines as on one, and stopped by the scheduler's signal."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import PYTHON_PATH, Zoo, environment
from tests.kill_cases import wait_for_step
from tests.pulse import PULSE

FIT = ("fit", "--model=mlp", "--data=digits", "--recipe.batch_size=32", "--trainer.accelerator=cpu")
SHORT = (*FIT, "--data.train_size=128", "--recipe.epochs=3", "--recipe.swa=0.5", "--recipe.early_stopping=2")
TIMEOUT = 200


def torchrun(folder: Path, options: tuple[str, ...], words: tuple[str, ...]) -> subprocess.Popen[str]:
    """One agent of torchrun, and the processes that it starts, in a process group of its own."""
    own = {"PYTHONPATH": PYTHON_PATH, "ZOO_ALLOW_IMPORTS": "tests", PULSE: str(folder / "pulse")}
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *options, "-m", "zoo", *words, "--trainer.strategy=ddp"],
        cwd=folder,
        env=environment() | own,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What it printed; it is killed with all that it started if it does not end."""
    try:
        return process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise


def free_port() -> int:
    """A port that nothing listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_two_machines_train_as_one_process_does(zoo_main: Zoo, tmp_path: Path) -> None:
    """The same batches and averages: the loss is the same but for rounding, the test accuracy exactly; one speaks."""
    meeting = ("--nnodes=2", "--nproc_per_node=1", "--master_addr=127.0.0.1", f"--master_port={free_port()}")
    words = (*SHORT, "--trainer.devices=1", "--trainer.num_nodes=2")
    nodes = [torchrun(tmp_path, (*meeting, f"--node_rank={rank}"), words) for rank in (0, 1)]
    alone = zoo_main(*SHORT, "--run_dir=alone")
    printed = [finish(node) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], printed
    assert alone.status == 0, alone.err
    assert "mlp on digits: test accuracy" in printed[0][0]
    assert printed[1][0] == "", "the other one is silent"
    (run,) = (tmp_path / "runs/mlp-digits").iterdir()
    expected, found = rows(tmp_path / "alone"), rows(run)
    assert len(found) == len(expected) == 4
    for one, two in zip(expected, found, strict=True):
        assert one["test/acc"] == two["test/acc"]
        for key in ("train/loss", "val/loss", "test/loss"):
            assert (one[key] == "") == (two[key] == "")
            assert float(one[key] or 0) == pytest.approx(float(two[key] or 0), rel=1e-4)
    assert json.loads((run / "run.json").read_text())["devices"] == 2


def test_stopped_on_two_processes_it_goes_on_on_one_and_says_what_changes(
    zoo_main: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM to torchrun, as a scheduler sends it, leaves a checkpoint, also in another precision."""
    words = (*FIT, "--recipe.epochs=500", "--run_dir=run", "--trainer.devices=2", "--precision=bf16-mixed")
    process = torchrun(
        tmp_path, ("--standalone", "--nproc_per_node=2"), (*words, "--trainer.callbacks+=tests.pulse.Pulse")
    )
    assert wait_for_step(process, tmp_path, 45)
    process.send_signal(signal.SIGTERM)
    out, err = finish(process)
    assert process.returncode != 0
    assert "interrupted. To go on: zoo fit --config run/config.yaml --resume\n" in out, err
    before = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert before["global_step"] >= 45
    monkeypatch.setenv("ZOO_ALLOW_IMPORTS", "tests")
    monkeypatch.setenv(PULSE, os.devnull)
    epochs = before["epoch"] + 1
    alone = ("--trainer.devices=1", "--trainer.strategy=auto", "--precision=64-true", f"--recipe.epochs={epochs}")
    outcome = zoo_main("fit", "--config=run/config.yaml", "--resume-inexact", *alone)
    assert outcome.status == 0, outcome.err
    for change in ("devices was 2 and is 1", "precision was bf16-mixed and is 64-true"):
        assert f"note: not an exact resume: {change}\n" in outcome.out
    after = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert after["global_step"] > before["global_step"]
    assert list(after["state_dict"]) == list(before["state_dict"])
