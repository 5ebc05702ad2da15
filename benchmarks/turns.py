"""Training programs that take turns, an epoch each, so that what else the machine does falls on all of them alike.

Each contender is a process of its own, as a user would start it, and trains an epoch whenever it is its turn. One that
waits uses no processor. So ratios of the epochs are fair on a machine that is not always equally fast, and every
contender's peak memory is its own.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from threading import Timer
from typing import Any

MEASURED = "ZOO_TURNS"
"""The variable of the environment that tells a contender to take turns."""
REPORT = "turn over: "
"""How a line begins with which a contender reports."""
READY = "ready"
"""The line with which a contender says that it waits: what it did after its turn must not fall into another's."""
LONGEST = 1800.0
"""Seconds after which a contender that has not finished its turn is given up."""


@dataclass
class Measured:
    """What one contender was measured to do.

    Args:
        images_per_second: Of each epoch, without the first.
        first_step_seconds: From the start of the process to its first training step.
        peak_bytes: The largest resident memory of the process, without processes that it starts.
    """

    images_per_second: list[float] = field(default_factory=list)
    first_step_seconds: float = 0.0
    peak_bytes: int = 0

    def as_dict(self) -> dict[str, float]:
        """Medians, as they stand in result files."""
        return {
            "images_per_second": round(median(self.images_per_second), 1),
            "first_step_seconds": round(self.first_step_seconds, 2),
            "peak_bytes": self.peak_bytes,
        }


def ratio(one: Measured, other: Measured) -> float:
    """How many times as many images a second: the median over epochs that came one after the other."""
    pairs = zip(one.images_per_second, other.images_per_second, strict=True)
    return round(median(ours / theirs for ours, theirs in pairs), 4)


class Turns:
    """A contender's side: it is told to go on its standard input, and reports on its standard output.

    Outside a measurement every call returns at once.
    """

    def __init__(self) -> None:
        self._is_measured = MEASURED in os.environ
        self._started = self._first_step = 0.0

    def wait(self) -> None:
        """Wait for the turn to train an epoch."""
        if self._is_measured:
            sys.stdout.write(f"{READY}\n")
            sys.stdout.flush()
            if not sys.stdin.readline():
                raise SystemExit(1)  # the referee has gone
        self._started = time.perf_counter()

    def step(self) -> None:
        """A training step begins; only the first one is noted."""
        self._first_step = self._first_step or time.time()

    def done(self, images: int) -> None:
        """The epoch is over.

        Args:
            images: How many it had.
        """
        rate = images / (time.perf_counter() - self._started)
        report = {"rate": rate, "first_step": self._first_step, "peak": peak_bytes()}
        if self._is_measured:
            sys.stdout.write(f"{REPORT}{json.dumps(report)}\n")
            sys.stdout.flush()


def peak_bytes() -> int:
    """The largest resident memory of this process so far."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def zoo_fit(*options: str) -> list[str]:
    """The command that trains with these options and takes turns: no validation, no test, nothing saved."""
    callback = ["--trainer.callbacks", "zoo.benchmarks.turns_callback.TakeTurns"]
    quiet = ["--trainer.limit_val_batches", "0", "--no_test", "true"]
    # A large checkpoint would still be written while the others have their turns.
    quiet += ["--trainer.enable_progress_bar", "false", "--trainer.enable_checkpointing", "false"]
    return [str(Path(sys.executable).with_name("zoo")), "fit", *options, *quiet, *callback]


def bare(*words: str) -> list[str]:
    """The command of a bare training loop (`zoo.benchmarks.bare`)."""
    return [sys.executable, "-m", "zoo.benchmarks.bare", *words]


def loop_over_tensors(
    model: str, *, in_channels: int, image_size: int, batch_size: int, images: int, epochs: int
) -> list[str]:
    """The command of the bare loop over random images in memory."""
    shape = ["--model", model, "--in_channels", str(in_channels), "--image_size", str(image_size)]
    size = ["--batch_size", str(batch_size), "--samples", str(images), "--epochs", str(epochs)]
    return bare("tensors", *shape, *size)


def fake_images(images: int, *, image_size: int, in_channels: int) -> list[str]:
    """Options with which `zoo fit` trains on as many synthetic images; the others are there to be left alone."""
    data = ["--data", "fake", "--data.image_size", str(image_size), "--data.in_channels", str(in_channels)]
    data += ["--data.num_samples", str(images + max(100, images // 8)), "--data.train_size", str(images)]
    return [*data, "--data.augment", "none"]


def take_turns(commands: Mapping[str, Sequence[str]], rounds: int) -> dict[str, Measured]:
    """Start the contenders and let them train epochs in turns.

    Args:
        commands: Each contender's command by its name; it trains `rounds` + 1 epochs and takes turns (`Turns`).
        rounds: Epochs of each that are counted, after a first one that is not.

    Returns:
        What was measured, by name.

    Raises:
        RuntimeError: A contender ended early or took too long; the message has the end of what it printed.
    """
    found = {name: Measured() for name in commands}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        contenders: dict[str, _Contender] = {}
        for name, command in commands.items():  # the first turn at once: nobody else is busy while one starts
            place = folder / str(len(contenders))
            place.mkdir()
            contenders[name] = stack.enter_context(_Contender(name, command, place))
            contenders[name].turn(found[name])
            found[name].images_per_second.clear()
        for _ in range(rounds):
            for name, contender in contenders.items():
                contender.turn(found[name])
        for contender in contenders.values():
            contender.end()
    return found


class _Contender:
    """The referee's side of one contender."""

    def __init__(self, name: str, command: Sequence[str], folder: Path) -> None:
        self._name = name
        self._said: list[str] = []
        self._started = time.time()
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, MEASURED: "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self) -> "_Contender":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def turn(self, found: Measured) -> None:
        """Let it train an epoch, and note what it reports."""
        watch = Timer(LONGEST, self._process.kill)
        watch.start()
        try:
            report = self._report()
            self._wait_until_ready()
        finally:
            watch.cancel()
        found.images_per_second.append(report["rate"])
        found.first_step_seconds = report["first_step"] - self._started
        found.peak_bytes = report["peak"]

    def _report(self) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(OSError):  # it has ended: what it said last is told below
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith(REPORT):
                report: dict[str, Any] = json.loads(line.removeprefix(REPORT))
                return report
            if line.strip() != READY:
                self._said.append(line)
        raise self._failed()

    def _wait_until_ready(self) -> None:
        """Until it waits for its next turn, or after the last one has ended."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip() == READY:
                return
            self._said.append(line)

    def end(self) -> None:
        """Wait for its end, which is not part of anything measured."""
        try:
            self._said.append(self._process.communicate(timeout=LONGEST)[0])
        except subprocess.TimeoutExpired:
            raise self._failed() from None
        if self._process.returncode:
            raise self._failed()

    def _failed(self) -> RuntimeError:
        said = "".join(self._said).strip()[-2000:]
        return RuntimeError(f"{self._name}: {said or f'did not finish within {LONGEST:g} seconds'}")
