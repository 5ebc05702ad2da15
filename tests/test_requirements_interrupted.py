"""What an interruption must not damage: the other checkpoint, the disk's one step, the queue, another run's folder."""

import json
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Zoo
from tests.here import FIT, RESUME, run_here, step
from tests.pulse import SIGNALS, Signals
from zoo.checkpoint_io import LAST, PREVIOUS
from zoo.cli.errors import UserError
from zoo.cli.folder import make_run_folder
from zoo.weight_files import atomic_file

pytestmark = pytest.mark.usefixtures("own_handlers")
RUNS, ROUNDS = 8, 100
"""How many runs start at once, and how often."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last checkpoint of a run."""
    folder = tmp_path_factory.mktemp("trained")
    assert run_here(folder, *FIT, "--run_dir=run") == 0
    return folder / "run/checkpoints" / LAST


def test_a_damaged_checkpoint_does_not_push_out_the_good_one(
    zoo_main: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REQ-R3: the first checkpoint of a run that goes on from previous.ckpt leaves that one where it is."""
    last, previous = (tmp_path / "run/checkpoints" / name for name in (LAST, PREVIOUS))
    assert run_here(tmp_path, *FIT, "--run_dir=run", signals="SIGTERM train 20") == 143
    assert (step(last), step(previous)) == (20, 16)
    last.write_bytes(last.read_bytes()[:1000])
    monkeypatch.setenv(SIGNALS, "SIGTERM train 2")
    assert zoo_main(*RESUME).status == 143
    assert (step(last), step(previous)) == (18, 16)


def test_a_file_is_written_in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """REQ-R4: not in the folder for temporary files, from where no rename is one step; none is left."""
    elsewhere, target = tmp_path / "elsewhere", tmp_path / "here/last.ckpt"
    elsewhere.mkdir()
    monkeypatch.setenv("TMPDIR", str(elsewhere))
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    with atomic_file(target) as file:
        file.write(b"weights")
        assert [path.suffix for path in target.parent.iterdir()] == [".part"]
        assert list(elsewhere.iterdir()) == []
    assert list(target.parent.iterdir()) == [target]


def _in_slurm(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """Be a job of Slurm's; the file that there is as soon as anything asks for its program."""
    programs, asked = folder / "programs", folder / "asked"
    programs.mkdir()
    (programs / "scontrol").write_text(f"#!/bin/sh\ntouch {asked}\n")
    (programs / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    for name, value in {"JOB_ID": 7, "NTASKS": 1, "JOB_NAME": "train", "PROCID": 0, "LOCALID": 0, "NODEID": 0}.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    return asked


@pytest.mark.parametrize("verb", ["fit", "test"])
def test_slurms_warning_asks_for_nothing_while_a_test_runs(
    verb: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REQ-R5: there is nothing to go on with; a job that is put into the queue again would begin anew."""
    asked = _in_slurm(monkeypatch, tmp_path)
    evaluate = ("test", f"--ckpt_path={trained}", "--trainer.callbacks+=tests.pulse.Signals")
    words = (*FIT, "--run_dir=run") if verb == "fit" else evaluate
    child = os.fork()  # the signal ends zoo test by its default action
    if child == 0:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        os._exit(run_here(tmp_path, *words, signals="SIGUSR1 test 2"))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == (128 + signal.SIGUSR1 if verb == "fit" else -signal.SIGUSR1)
    if verb == "fit":
        assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "interrupted"
    assert not asked.exists()
    assert not list(tmp_path.rglob("hpc_ckpt*"))


def test_a_signal_ends_validation_after_the_batch(
    zoo_main: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REQ-R5: validation may take longer than whoever sent the signal waits: no further batch of it begins."""
    begun: list[str] = []
    count = Signals._count

    def note(self: Signals, stage: str) -> None:
        begun.append(stage)
        count(self, stage)

    monkeypatch.setattr(Signals, "_count", note)
    monkeypatch.setenv(SIGNALS, "SIGINT validation 7")
    assert zoo_main(*FIT, "--run_dir=run").status == 130
    assert begun.count("validation") == 7
    assert begun[-1] == "validation"


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Threads take turns as often as they can; what the folder's name is handed on by is put back."""
    monkeypatch.setenv("ZOO_RUN_DIR", "")
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def _start_at_once(wanted: Path | None, default: Path) -> list[Path]:
    """The folders that so many runs got that started in the same moment."""
    barrier, got = threading.Barrier(RUNS), []

    def start() -> None:
        barrier.wait()
        try:
            got.append(make_run_folder(None if wanted is None else str(wanted), default))
        except UserError as error:
            assert "holds a run already" in str(error)

    threads = [threading.Thread(target=start) for _ in range(RUNS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return got


@pytest.mark.usefixtures("at_once")
def test_of_runs_that_start_at_once_one_gets_the_folder(tmp_path: Path) -> None:
    """REQ-C5: two jobs with one and the same --run_dir must not write over each other."""
    for number in range(ROUNDS):
        wanted = tmp_path / str(number)
        assert _start_at_once(wanted, tmp_path / "unused") == [wanted]


@pytest.mark.usefixtures("at_once")
def test_runs_that_start_in_the_same_second_have_folders_of_their_own(tmp_path: Path) -> None:
    """REQ-C5: without --run_dir, none is refused and none shares."""
    for number in range(ROUNDS // 10):
        got = _start_at_once(None, tmp_path / str(number))
        assert len(set(got)) == len(got) == RUNS
