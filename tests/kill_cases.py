"""One run that is killed at a chosen step, resumed, and compared with the same run uninterrupted: bit for bit."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tests.conftest import PYTHON_PATH, command, environment
from tests.pulse import PULSE, step_in
from zoo.checkpoint import read_checkpoint
from zoo.checkpoint_io import LAST, PREVIOUS, AtomicCheckpointIO
from zoo.cli.metrics_log import read_metrics
from zoo.weight_files import remove_unfinished

EPOCHS, STEPS = 4, 8  # 256 training images in batches of 32
CONFIGURATIONS: dict[str, tuple[str, ...]] = {
    # A number of steps beside the epochs: Lightning then resumes in another way.
    "lenet5": ("--model=lenet5", "--model.dropout=0.2", f"--trainer.max_steps={EPOCHS * STEPS}"),
    "resnet20": ("--model=resnet20", "--model.dropout=0.2", "--model.image_size=16"),
    "gradual": ("--model=lenet5", "--pretrained=true", "--finetune=gradual", "--finetune.unfreeze_every=1"),
    "ema": ("--model=lenet5", "--model.norm=batch", "--recipe.ema=0.9"),
    "swa": ("--model=lenet5", "--model.norm=batch", "--recipe.swa=0.25", "--recipe.early_stopping=3"),
    "mixup": ("--model=lenet5", "--model.dropout=0.2", "--recipe.mixup=0.4"),
}
SHORT = ("--data=digits", "--data.train_size=256", "--recipe.batch_size=32", f"--recipe.epochs={EPOCHS}")
DISTRIBUTED = ("--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp")
PARTS = ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers", "global_step")
"""What of a checkpoint decides how a run goes on."""
TIMEOUT = 600
"""Seconds after which a run that does not move counts as hanging; a machine may be busy."""


@dataclass(frozen=True)
class Case:
    """One run to kill: which, where it is to be killed first, and whether what goes on is killed in turn."""

    configuration: str
    workers: int = 0
    every: int = 0
    devices: int = 1
    steps: tuple[int, ...] = (12,)
    delay: float = 0.0
    precision: str = "32-true"

    @property
    def words(self) -> list[str]:
        """The options of the run, but for its folder."""
        several = DISTRIBUTED if self.devices > 1 else ()
        own = (f"--data.num_workers={self.workers}", f"--checkpoint_every={self.every}")
        own += (f"--trainer.precision={self.precision}",)
        return ["fit", *CONFIGURATIONS[self.configuration], *SHORT, *several, *own]


@dataclass
class Result:
    """What came of a case."""

    killed_at: list[int] = field(default_factory=list)
    resumed_from: list[int] = field(default_factory=list)
    readable: int = 0
    faults: list[str] = field(default_factory=list)


def start(words: list[str], folder: Path) -> subprocess.Popen[str]:
    """The command in a process group of its own; `step_in(folder / "pulse")` is how far it is."""
    folder.mkdir(parents=True, exist_ok=True)
    own = {"PYTHONPATH": PYTHON_PATH, "ZOO_ALLOW_IMPORTS": "tests", PULSE: str(folder / "pulse")}
    (folder / "pulse").unlink(missing_ok=True)
    return subprocess.Popen(
        command(*words),
        cwd=folder,
        env=environment() | own,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def first_words(words: list[str]) -> list[str]:
    """The options of a new run that can be watched, in the folder `run`."""
    return [*words, "--run_dir=run", "--trainer.callbacks+=tests.pulse.Pulse"]


def wait_for_step(process: subprocess.Popen[str], folder: Path, step: int) -> bool:
    """Wait until the run has begun this step, or does not move any more; whether it is still alive."""
    deadline = time.monotonic() + TIMEOUT
    while step_in(folder / "pulse") < step and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.0005)
    return process.poll() is None


def finish(process: subprocess.Popen[str]) -> str:
    """What a command printed that is to end well.

    Raises:
        RuntimeError: If it does not end well, or not at all.
    """
    try:
        printed = process.communicate(timeout=TIMEOUT)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        printed = process.communicate()[0]
    if process.returncode:
        raise RuntimeError(f"status {process.returncode}: {printed[-1500:]}")
    return printed


def try_case(case: Case, whole: Path, folder: Path) -> Result:
    """Kill, resume, compare with the run in `whole`."""
    shutil.rmtree(folder, ignore_errors=True)
    result = Result()
    words = first_words(case.words)
    for step in case.steps:
        process = start(words, folder)
        if wait_for_step(process, folder, step):
            time.sleep(case.delay)
            os.killpg(process.pid, signal.SIGKILL)
        printed = process.communicate(timeout=TIMEOUT)[0]
        if process.returncode != -signal.SIGKILL:
            result.faults.append(f"ended with status {process.returncode} before it was killed: {printed[-1500:]}")
            return result
        result.killed_at.append(step_in(folder / "pulse"))
        if result.killed_at[-1] < step:
            result.faults.append(f"step {step} was not reached within {TIMEOUT} s: {printed[-1500:]}")
        result.readable += check_files(folder / "run" / "checkpoints", result)
        words = ["fit", "--config=run/config.yaml", "--resume"]
        if result.faults:
            return result
    try:
        finish(start(words, folder))
    except RuntimeError as error:
        result.faults.append(str(error))
    else:
        result.faults += differences(whole / "run", folder / "run")
    return result


def check_files(folder: Path, result: Result) -> int:
    """Read every checkpoint that a killed run left; how many there are."""
    files = sorted(folder.glob("*.ckpt"))
    for file in files:
        try:
            step = read_checkpoint(file)["global_step"]
        except ValueError as error:
            result.faults.append(str(error))
        else:
            result.resumed_from += [step] if file.name == "last.ckpt" else []
    if not (folder / "last.ckpt").exists():
        result.faults.append("there is no last.ckpt")
    return len(files)


def differences(one: Path, other: Path) -> list[str]:
    """In what two run folders differ that should be equal."""
    last, best = "checkpoints/last.ckpt", "checkpoints/best.ckpt"
    found = [f"{last}: {line}" for line in _unequal(*(_read(folder / last, PARTS) for folder in (one, other)))]
    found += [f"{best}: {line}" for line in _unequal(*(_read(folder / best, PARTS[:1]) for folder in (one, other)))]
    first, second = (read_metrics(folder / "metrics.csv") for folder in (one, other))
    return found + ([] if first == second else [f"metrics.csv: {first} and {second}"])


def _read(path: Path, parts: tuple[str, ...]) -> dict[str, Any]:
    checkpoint = read_checkpoint(path)
    return {part: checkpoint[part] for part in parts if part in checkpoint}


def _unequal(one: Any, other: Any, path: str = "") -> list[str]:
    """The places in two nested values at which they are not the same, bit for bit."""
    if isinstance(one, list | tuple):
        one, other = dict(enumerate(one)), dict(enumerate(other))
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return [f"{path} has {sorted(map(str, one))} and {sorted(map(str, other))}"]
        return [line for key in one for line in _unequal(one[key], other[key], f"{path}.{key}")]
    is_same = torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
    return [] if is_same else [path]


def save_forever(path: Path, values: int) -> None:
    """Replace a checkpoint again and again, as a run does; it says in every value which time it was."""
    turn, content = 0, torch.empty(values)
    while True:
        turn += 1
        AtomicCheckpointIO().save_checkpoint({"turn": turn, "values": content.fill_(turn)}, path)


def try_write(folder: Path, values: int, delay: float) -> tuple[bool, list[str]]:
    """Kill a process that writes checkpoints; whether it was in the middle of one, and what is wrong now."""
    shutil.rmtree(folder, ignore_errors=True)
    last, previous = folder / LAST, folder / PREVIOUS
    process = multiprocessing.get_context("fork").Process(target=save_forever, args=(last, values))
    process.start()
    while not previous.exists() and process.is_alive():
        time.sleep(0.001)
    time.sleep(delay)
    process.kill()
    process.join()
    turns = {}
    for file in (last, previous):
        content = torch.load(file, weights_only=True)
        turns[file] = content["turn"] if bool((content["values"] == content["turn"]).all()) else None
    was_writing = any(folder.glob(".*.part"))
    remove_unfinished(folder)
    faults = [f"{file.name} is torn" for file, turn in turns.items() if turn is None]
    # A kill between the two renames leaves both at the same turn.
    faults += [] if faults or turns[last] - turns[previous] in (0, 1) else [f"{turns} are not consecutive"]
    faults += [f"{file} is left" for file in folder.iterdir() if file not in turns]
    return was_writing, faults
