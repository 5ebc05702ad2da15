"""Which checkpoint a run goes on from, and what a full disk, a read-only folder or a kill while writing leave of it."""

import os
import resource
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

import zoo
from tests.conftest import Zoo
from tests.here import FIT, RESUME, assert_one_line, run_here, step
from tests.kill_cases import EPOCHS, SHORT, STEPS, differences, try_write
from zoo.checkpoint_io import LAST, PREVIOUS
from zoo.cli.metrics_log import read_metrics
from zoo.datamodules import Digits

NOBODY = 65534


@pytest.fixture(autouse=True)
def callbacks_of_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_ALLOW_IMPORTS", "tests")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    assert run_here(folder, *FIT, "--run_dir=run") == 0
    return folder / "run"


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the same run, stopped within its third epoch."""
    folder = tmp_path_factory.mktemp("stopped")
    assert run_here(folder, *FIT, "--run_dir=run", signals=f"SIGTERM train {2 * STEPS + 4}") == 143
    return folder / "run"


@pytest.fixture
def run(stopped: Path, tmp_path: Path) -> Path:
    """A copy of the stopped run, to go on with."""
    shutil.copytree(stopped, tmp_path / "run")
    return tmp_path / "run"


# Which checkpoint


def test_the_last_two_checkpoints_are_kept(whole: Path) -> None:
    """REQ-R3: the newest and the one before, however old the best is."""
    steps = {name: step(whole / "checkpoints" / name) for name in (LAST, PREVIOUS)}
    assert steps == {LAST: EPOCHS * STEPS, PREVIOUS: (EPOCHS - 1) * STEPS}


def test_an_epoch_that_is_worse_does_not_hold_back_the_last_checkpoint(zoo_main: Zoo, tmp_path: Path) -> None:
    """REQ-R3: last.ckpt is the end of the run when best.ckpt is an early epoch."""
    worse = ("--recipe.optimizer=sgd", "--recipe.schedule=constant", "--recipe.lr=0.1", "--recipe.warmup_epochs=3")
    outcome = zoo_main("fit", "--model=lenet5", "--pretrained=mnist", *SHORT, *worse, "--run_dir=run")
    assert outcome.status == 0, outcome.err
    accuracies = [float(row["val/acc"]) for row in read_metrics(tmp_path / "run/metrics.csv")[:EPOCHS]]
    assert max(accuracies) > accuracies[-1] + 0.1
    assert step(tmp_path / "run/checkpoints" / LAST) == EPOCHS * STEPS
    assert step(tmp_path / "run/checkpoints/best.ckpt") < EPOCHS * STEPS


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def overwrite(file: Path) -> None:
    file.write_bytes(b"\0" * file.stat().st_size)


@pytest.mark.parametrize("damage", [truncate, empty, overwrite])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    damage: Callable[[Path], None], whole: Path, run: Path, zoo_main: Zoo
) -> None:
    """REQ-R3: with a note; what is damaged does not take the place of what is not; no unfinished file stays."""
    damage(run / "checkpoints" / LAST)
    (run / "checkpoints" / f".{LAST}.12345.part").write_bytes(b"half")
    outcome = zoo_main(*RESUME)
    assert outcome.status == 0, outcome.err
    assert f"note: 'run/checkpoints/{LAST}' " in outcome.out
    assert f": going on from the one before, {PREVIOUS}" in outcome.out
    assert differences(whole, run) == []
    assert {file.name for file in (run / "checkpoints").iterdir()} == {"best.ckpt", LAST, PREVIOUS}
    assert step(run / "checkpoints" / PREVIOUS) == (EPOCHS - 1) * STEPS


def remove(file: Path) -> None:
    file.unlink()


def lead_nowhere(file: Path) -> None:
    file.unlink()
    file.symlink_to("nowhere")


@pytest.mark.parametrize("loss", [remove, lead_nowhere])
def test_a_lost_checkpoint_falls_back_to_the_one_before(
    loss: Callable[[Path], None], whole: Path, run: Path, zoo_main: Zoo
) -> None:
    """REQ-R3: with a note too."""
    loss(run / "checkpoints" / LAST)
    outcome = zoo_main(*RESUME)
    assert outcome.status == 0, outcome.err
    assert f"note: 'run' has no checkpoints/{LAST}, though one was written: going on from the one before" in outcome.out
    assert differences(whole, run) == []


def test_a_folder_in_the_place_of_the_checkpoint_is_one_line(run: Path, zoo_main: Zoo) -> None:
    """REQ-R3: the next one could not be written."""
    (run / "checkpoints" / LAST).unlink()
    (run / "checkpoints" / LAST).mkdir()
    assert_one_line(zoo_main(*RESUME), f"'run/checkpoints/{LAST}' is a folder", "move it away")


def test_a_lost_best_epoch_is_said(zoo_main: Zoo, tmp_path: Path) -> None:
    """REQ-R3: another epoch takes its place."""
    best = tmp_path / "run/checkpoints/best.ckpt"
    words = ("fit", "--model=mlp", "--data.train_size=256", "--no-test", "--recipe.epochs")
    assert zoo_main(*words, 1, "--run_dir=run").status == 0
    best.unlink()
    outcome = zoo_main("fit", "--config=run/config.yaml", "--resume", "--recipe.epochs", 2)
    assert outcome.status == 0, outcome.err
    note = "note: 'run/checkpoints' has no best.ckpt any more: the best epoch is that of those that follow"
    assert note in outcome.out
    assert step(best) == 2 * step(tmp_path / "run/checkpoints" / PREVIOUS)


def test_two_damaged_checkpoints_are_one_line(run: Path, zoo_main: Zoo) -> None:
    """REQ-R3: nothing is trained anew without being asked for."""
    for name in (LAST, PREVIOUS):
        truncate(run / "checkpoints" / name)
    assert_one_line(zoo_main(*RESUME), "nothing to resume in 'run'", LAST, PREVIOUS)


def test_nothing_to_resume_is_one_line(run: Path, zoo_main: Zoo) -> None:
    """REQ-R3: nor is it where a run was killed before its first checkpoint."""
    shutil.rmtree(run / "checkpoints")
    assert_one_line(zoo_main(*RESUME), "nothing to resume in 'run': it has no checkpoints/last.ckpt")


def test_a_run_that_was_moved_goes_on_with_its_own_files(
    whole: Path, stopped: Path, tmp_path: Path, zoo_main: Zoo
) -> None:
    """REQ-R1: checkpoints hold absolute paths; those of the folder that the run was in before are not used."""
    shutil.copytree(stopped, tmp_path / "moved")
    outcome = zoo_main("fit", "--config=moved/config.yaml", "--resume")
    assert (outcome.status, outcome.err) == (0, "")
    assert differences(whole, tmp_path / "moved") == []
    callbacks = torch.load(tmp_path / "moved/checkpoints" / LAST, weights_only=True)["callbacks"].values()
    kept = [state["best_model_path"] for state in callbacks if "best_model_path" in state]
    assert {Path(path).parent for path in kept} == {tmp_path / "moved/checkpoints"}


# A full disk, a read-only folder


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """As if the disk were full: writes beyond this number of bytes in a file fail."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A folder into which this process cannot write, which takes another user where this one may do anything."""
    mode, is_root = stat.S_IMODE(folder.stat().st_mode), os.geteuid() == 0
    folder.chmod(0o555)
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(mode)


@pytest.mark.parametrize(("every", "file"), [(1, LAST), (0, "best.ckpt")])
def test_a_full_disk_leaves_the_run_as_it_was(every: int, file: str, whole: Path, run: Path, zoo_main: Zoo) -> None:
    """REQ-R4: one line, a status that is not 0; the checkpoint is readable, and later the run goes on exactly."""
    with largest_file(100_000):
        outcome = zoo_main(*RESUME, "--checkpoint_every", every)
    assert_one_line(outcome, "file too large: ", file)
    assert step(run / "checkpoints" / LAST) == 2 * STEPS + 4
    assert not list(run.rglob("*.part"))
    assert zoo_main(*RESUME).status == 0
    assert differences(whole, run) == []


@pytest.mark.parametrize("place", [".", "checkpoints"])
def test_a_read_only_folder_is_said(place: str, whole: Path, stopped: Path) -> None:
    """REQ-R4: nothing is trained, or nothing more once it cannot be kept; what there is stays."""
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to other users
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copytree(stopped, folder / "run")
        for path in [folder / "run", *(folder / "run").rglob("*")]:
            path.chmod(path.stat().st_mode | 0o666)
        with read_only(folder / "run" / place):
            assert run_here(folder, *RESUME) == 2
        assert step(folder / "run/checkpoints" / LAST) == 2 * STEPS + 4
        assert run_here(folder, *RESUME) == 0
        assert differences(whole, folder / "run") == []


def test_a_trainer_of_the_users_says_so_too() -> None:
    """REQ-R4: Lightning's own way to write ends without a word, and without a file."""
    model, data = zoo.create_model("mlp", image_size=8), Digits()
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "checkpoints").mkdir()
        save = ModelCheckpoint(folder / "checkpoints", "last")
        trainer = L.Trainer(accelerator="cpu", max_epochs=1, limit_train_batches=2, callbacks=[save], **quiet)
        with read_only(folder / "checkpoints"), pytest.raises(PermissionError):
            trainer.fit(model, datamodule=data)


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.2])
def test_a_kill_while_a_checkpoint_is_written(delay: float, tmp_path: Path) -> None:
    """REQ-R4: both checkpoints are whole; what was half-written goes when the run goes on."""
    assert try_write(tmp_path / "writes", 5_000_000, delay)[1] == []
