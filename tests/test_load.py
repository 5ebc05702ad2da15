"""Long runs, runs that lose a worker, and runs that start at once."""

import mmap
import multiprocessing
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from tests.conftest import Zoo, command, environment
from tests.load import RUNS, at, children, look, rows_in, watch
from zoo.checkpoint import read_checkpoint
from zoo.cli.folder import make_run_folder

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc, which Linux has")
EPOCHS = 30


def test_the_measure_sees_memory_files_and_processes(tmp_path: Path) -> None:
    before = look(os.getpid())
    ballast = mmap.mmap(-1, 64 << 20, mmap.MAP_PRIVATE)  # the allocator might take what it has freed before
    ballast[:: mmap.PAGESIZE] = b"x" * (len(ballast) // mmap.PAGESIZE)
    with (tmp_path / "one").open("w"), (tmp_path / "two").open("w"), subprocess.Popen(["sleep", "60"]) as child:
        grown = look(os.getpid()).grown(before)
        assert children(os.getpid()).count(child.pid) == 1
        child.kill()
    assert grown.megabytes == pytest.approx(64, abs=2)
    assert (grown.files, grown.processes) == (2, 1)


def test_a_run_does_not_grow_with_its_epochs(tmp_path: Path) -> None:
    """No memory, files, threads or processes are left over by an epoch: `python -m tests.load` looks at 200 of them."""
    held = watch(tmp_path / "run", "--data.num_workers", "2", "--data.train_size", "100", epochs=EPOCHS)
    grown = at(held, EPOCHS).grown(at(held, EPOCHS // 2))
    assert max(grown.megabytes, grown.worker_megabytes) < 2, "15 epochs of five runs came to 0.1"
    assert max(grown.files, grown.threads, grown.processes) <= 0
    assert at(held, EPOCHS).processes >= 2, "the workers have been counted"


Endless = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Endless]:
    """Starts a run with workers that has no end and waits for its third epoch; the end of the test ends it."""
    runs: list[subprocess.Popen[str]] = []

    def begin(*options: str) -> "subprocess.Popen[str]":
        words = ["fit", "--model", "mlp", "--run_dir", tmp_path / "run", "--recipe.epochs", 100_000, *options]
        out = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        run = subprocess.Popen(command(*words, "--data.num_workers", 2), env=environment(), text=True, **out)
        runs.append(run)
        while rows_in(tmp_path / "run" / "metrics.csv") < 2 and run.poll() is None:
            time.sleep(0.05)
        assert run.poll() is None, run.communicate()[0]
        return run

    yield begin
    for run in runs:
        run.kill()
        run.communicate()


def check_end(process: "subprocess.Popen[str]", folder: Path, zoo_main: Zoo) -> None:
    """One line says what became of the run and what may help; it goes on where it stopped."""
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 1, said
    (line,) = [line for line in said.splitlines() if "--data.num_workers" in line]
    assert line.startswith("zoo: ") and "worker" in line and "memory" in line
    assert f"To go on: zoo fit --config {folder / 'config.yaml'} --resume" in said
    assert "Traceback" not in said
    done = rows_in(folder / "metrics.csv")
    steps = read_checkpoint(folder / "checkpoints" / "last.ckpt")["global_step"]
    goes_on = [
        "--config",
        folder / "config.yaml",
        "--resume-inexact",
        "--data.num_workers",
        0,
        "--trainer.max_steps",
        steps + 40,
    ]
    outcome = zoo_main("fit", *goes_on)
    assert outcome.status == 0, outcome.err
    assert rows_in(folder / "metrics.csv") > done


def test_a_worker_that_is_killed_ends_the_run_with_a_hint(start: Endless, tmp_path: Path, zoo_main: Zoo) -> None:
    """As the kernel does when memory runs out."""
    process = start()
    os.kill(children(process.pid)[0], signal.SIGKILL)
    check_end(process, tmp_path / "run", zoo_main)


def test_a_worker_that_runs_out_of_memory_ends_the_run_with_a_hint(
    start: Endless, tmp_path: Path, zoo_main: Zoo
) -> None:
    """A limit on its addresses: nothing more is to be had for a batch."""
    process = start("--data.image_size", "96", "--data.train_size", "128")
    worker = children(process.pid)[0]
    resource.prlimit(worker, resource.RLIMIT_AS, (1 << 20, 1 << 20))
    check_end(process, tmp_path / "run", zoo_main)


def test_a_worker_of_the_second_process_is_told_of_by_both(start: Endless, tmp_path: Path) -> None:
    """The first one notices only that the second one has gone."""
    process = start("--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp")
    second = next(child for child in children(process.pid) if children(child))
    os.kill(children(second)[0], signal.SIGKILL)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 1, said
    assert "zoo: process 1: a worker that reads images was killed or ended" in said
    assert "zoo: another process of this run has ended: what it printed says why\n" in said
    assert f"To go on: zoo fit --config {tmp_path / 'run' / 'config.yaml'} --resume" in said
    assert "Traceback" not in said


def test_a_run_that_goes_on_is_not_resumed_beside_itself(start: Endless, tmp_path: Path, zoo_main: Zoo) -> None:
    process, folder = start(), tmp_path / "run"
    before = (folder / "config.yaml").read_bytes()
    outcome = zoo_main("fit", "--config", folder / "config.yaml", "--resume")
    assert outcome.status == 2
    assert outcome.err.endswith(f"zoo: error: another process trains in '{folder}': wait for it, or stop it\n")
    assert (folder / "config.yaml").read_bytes() == before
    process.kill()  # its workers may live a little longer
    process.wait(60)
    done = rows_in(folder / "metrics.csv")
    outcome = zoo_main("fit", "--config", folder / "config.yaml", "--resume-inexact", "--recipe.epochs", done + 2)
    assert outcome.status == 0, outcome.err


def make_folder(started: Barrier, place: Path, answers: "multiprocessing.Queue[str]") -> None:
    started.wait()
    answers.put(str(make_run_folder(None, place)))


def test_runs_that_start_at_once_have_folders_of_their_own(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    started, answers = fork.Barrier(RUNS), fork.Queue()
    processes = [fork.Process(target=make_folder, args=(started, tmp_path, answers)) for _ in range(RUNS)]
    for process in processes:
        process.start()
    folders = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
    assert len(set(folders)) == RUNS == len(list(tmp_path.iterdir()))


@pytest.mark.parametrize("error", [ConnectionResetError(104, "Connection reset by peer"), EOFError()])
def test_a_lost_connection_to_a_worker_has_the_same_hint(
    error: Exception, zoo_main: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is killed while it sends a batch is noticed by what it leaves unsent."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("lightning.Trainer.fit", fail)
    outcome = zoo_main("fit", "--model", "mlp")
    assert outcome.status == 1
    assert "a worker that reads images was killed or ended" in outcome.out


@pytest.mark.parametrize(
    ("is_told", "said"), [(False, ["zoo: process 0: another process of this run has ended"]), (True, [])]
)
def test_a_process_that_is_told_to_stop_does_not_wonder_where_the_first_one_is(
    is_told: bool, said: list[str], zoo_main: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer")

    monkeypatch.setattr("lightning.Trainer.fit", fail)
    monkeypatch.setattr("lightning.Trainer.is_global_zero", False)
    monkeypatch.setattr("lightning.Trainer.received_sigterm", is_told)
    outcome = zoo_main("fit", "--model", "mlp")
    assert outcome.status == 1
    assert [line.partition(": what")[0] for line in outcome.out.splitlines()] == said
