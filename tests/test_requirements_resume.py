"""Going on with other settings, repeating a run, and numbers that any number of processes count alike."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import zoo
from tests.conftest import Zoo, run_two_processes
from tests.evaluate_on_two_processes import COUNTS, Few, evaluate, network
from tests.here import assert_one_line, run_here, step
from tests.kill_cases import differences
from zoo.benchmarks.execute import run_job
from zoo.benchmarks.results import read_result
from zoo.benchmarks.runner import make_plan
from zoo.benchmarks.suite_file import load_suite
from zoo.datamodules import Digits

FIT = ("fit", "--model=mlp", "--data=digits", "--data.train_size=256", "--recipe.batch_size=64", "--recipe.epochs=2")
RESUME = ("fit", "--config=run/config.yaml", "--resume")


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two epochs that ended after one and a half."""
    folder = tmp_path_factory.mktemp("half")
    assert run_here(
        folder, *FIT, "--run_dir=run", "--trainer.callbacks+=tests.pulse.Signals", signals="SIGTERM train 6"
    )
    return folder / "run"


@pytest.fixture
def run(half: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that run, to go on with."""
    monkeypatch.setenv("ZOO_ALLOW_IMPORTS", "tests")
    shutil.copytree(half, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("options", "change"),
    [
        (("--recipe.batch_size=32",), "batch_size was 64 and is 32"),
        (("--trainer.limit_train_batches=3",), "limit_train_batches was 1.0 and is 3"),
        (("--trainer.accumulate_grad_batches=2",), "accumulate_grad_batches was 1 and is 2"),
        (("--trainer.precision=bf16-mixed", "--recipe.gradient_clip=0"), "precision was 32-true and is bf16-mixed"),
        (("--data=fake", "--data.in_channels=1", "--data.image_size=8"), "data was digits and is fake"),
        (("--data.train_size=200",), "train_size was 256 and is 200"),
        (("--data.augment=none",), "augment was affine and is none"),
        (("--data.val_size=0.2",), "val_size was None and is 0.2"),
        (("--seed_everything=5",), "run_seed was 0 and is 5"),
        (("--model.dropout=0.5",), "model.dropout was 0.0 and is 0.5"),
        (("--recipe.label_smoothing=0.1",), "recipe.label_smoothing was 0.0 and is 0.1"),
        (("--trainer.limit_train_batches=1",), "limit_train_batches was 1.0 and is 1"),
        (("--trainer.max_steps=8",), "max_steps was -1 and is 8"),
        (("--trainer.limit_val_batches=1",), "limit_val_batches was 1.0 and is 1"),
        (("--trainer.check_val_every_n_epoch=2",), "check_val_every_n_epoch was 1 and is 2"),
        (("--trainer.val_check_interval=2",), "val_check_interval was 1.0 and is 2"),
    ],
)
def test_a_change_within_a_run_is_refused_or_said(
    options: tuple[str, ...], change: str, run: Path, zoo_main: Zoo
) -> None:
    """REQ-R2: one line, nothing touched; with --resume-inexact the run goes on and says what has changed."""
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    refused = zoo_main(*RESUME, *options)
    assert_one_line(refused, "not an exact resume: ", change, "--resume-inexact")
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before
    outcome = zoo_main(*RESUME, "--resume-inexact", *options)
    assert outcome.status == 0, outcome.err
    assert f"note: not an exact resume: {change}\n" in outcome.out
    assert torch.load(run / "checkpoints/last.ckpt", weights_only=True)["global_step"] > 6


@pytest.mark.parametrize("option", ["enable_checkpointing=false", "barebones=true"])
def test_a_run_that_goes_on_keeps_its_checkpoints(option: str, run: Path, zoo_main: Zoo) -> None:
    """REQ-R2: nor does it lose what run.json says of it."""
    assert_one_line(zoo_main(*RESUME, f"--trainer.{option}"), "a run that is resumed keeps its checkpoints")


def test_fewer_epochs_and_another_number_of_steps_are_a_change(zoo_main: Zoo) -> None:
    """REQ-R2: the schedule would be another one; only more epochs are what resuming is for."""
    assert zoo_main(*FIT, "--trainer.max_steps=5", "--run_dir=run").status == 0
    assert_one_line(zoo_main(*RESUME, "--recipe.epochs=1"), "recipe.epochs was 2 and is 1")
    assert_one_line(zoo_main(*RESUME, "--trainer.max_steps=4"), "max_steps was 5 and is 4")
    assert_one_line(zoo_main(*RESUME, "--trainer.max_steps=7"), "max_steps was 5 and is 7")


def write_tree(root: Path, names: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    for name in names.split():
        (root / "train" / name).mkdir(parents=True)
        for number in range(8):
            pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "train" / name / f"{number}.png")


@pytest.mark.parametrize("other", ["frog ship", "cat bird", "bird cat"])
def test_other_images_are_a_change_and_another_place_is_none(other: str, zoo_main: Zoo, tmp_path: Path) -> None:
    """REQ-R2: other classes, classes that changed places, other images of the same name; as many as before."""
    write_tree(tmp_path / "one", "bird cat", 0)
    write_tree(tmp_path / "two", other, 1 if other == "bird cat" else 0)
    shutil.copytree(tmp_path / "one", tmp_path / "moved/one")
    small = ("--data.image_size=32", "--recipe.batch_size=4", "--recipe.epochs=1", "--no-test", "--data.root")
    assert zoo_main("fit", "--model=lenet5", "--data=folder", *small, "one", "--run_dir=run").status == 0
    longer = (*RESUME, "--recipe.epochs=2", "--data.root")
    assert_one_line(zoo_main(*longer, "two"), "the training images, their labels or classes are others")
    outcome = zoo_main(*longer, "moved/one")
    assert outcome.status == 0, outcome.err
    assert "not an exact resume" not in outcome.out


def resume_in_python(folder: Path, lr: float = 0.01, label_smoothing: float = 0.0, batch_size: int = 64) -> list[str]:
    """Train for an epoch, or go on for another one, without the command; the warnings about resuming."""
    model = zoo.create_model("mlp", image_size=8)
    model.recipe = model.recipe.replace(lr=lr, label_smoothing=label_smoothing)
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    path = folder / "a.ckpt"
    trainer = L.Trainer(accelerator="cpu", max_epochs=2 if path.exists() else 1, enable_checkpointing=False, **quiet)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(model, datamodule=Digits(batch_size=batch_size), ckpt_path=path if path.exists() else None)
    if not path.exists():
        trainer.save_checkpoint(path)
    return [str(warning.message) for warning in caught if "resume" in str(warning.message)]


def test_python_warns_of_what_has_changed(tmp_path: Path) -> None:
    """REQ-R2, REQ-C4: where no command refuses, warnings say it; what the checkpoint would decide is an error."""
    assert resume_in_python(tmp_path) == []
    assert resume_in_python(tmp_path) == []
    assert resume_in_python(tmp_path, batch_size=32) == ["not an exact resume: batch_size was 64 and is 32"]
    assert resume_in_python(tmp_path, label_smoothing=0.1) == [
        "not an exact resume: recipe.label_smoothing was 0.0 and is 0.1"
    ]
    with pytest.raises(ValueError, match=r"^recipe\.lr was 0\.01 and is 0\.5: it cannot change within a run$"):
        resume_in_python(tmp_path, lr=0.5)


def test_python_refuses_a_damaged_description_too(tmp_path: Path) -> None:
    """REQ-C4: in one line, with the file's name."""
    resume_in_python(tmp_path)
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    content["zoo"]["recipe"]["epochs"] = "many"
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=r"a\.ckpt.*epochs"):
        resume_in_python(tmp_path)


def test_what_a_fine_tuned_run_began_with_stands_beside_a_checkpoint(zoo_main: Zoo, tmp_path: Path) -> None:
    """REQ-C3: the file of such a run says both, and l2sp needs both."""
    tune = ("--pretrained=mnist", "--finetune=full", "--finetune.l2sp=0.01")
    words = ("fit", "--model=lenet5", "--data.train_size=256", "--recipe.epochs=1", "--no-test")
    assert zoo_main(*words, *tune, "--run_dir=run").status == 0
    longer = ("--ckpt_path=run/checkpoints/last.ckpt", "--recipe.epochs=2", "--run_dir=longer")
    outcome = zoo_main("fit", "--config=run/config.yaml", *longer)
    assert outcome.status == 0, outcome.err
    assert step(tmp_path / "longer/checkpoints/last.ckpt") == 2 * step(tmp_path / "run/checkpoints/last.ckpt")


def test_another_number_of_processes_is_refused(run: Path, zoo_main: Zoo) -> None:
    """REQ-R2: images are dealt out otherwise."""
    two = ("--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp")
    assert_one_line(zoo_main(*RESUME, *two), "devices was 1 and is 2", "--resume-inexact")


def test_more_epochs_are_no_change(run: Path, zoo_main: Zoo) -> None:
    """REQ-R2: a run that is made longer is what resuming is for; workers change no number."""
    outcome = zoo_main(*RESUME, "--recipe.epochs=3", "--data.num_workers=1")
    assert outcome.status == 0, outcome.err
    assert "not an exact resume" not in outcome.out


def test_runs_have_folders_of_their_own(zoo_main: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """REQ-C5: two runs of one second do not share a folder; a folder that holds a run takes no other."""
    monkeypatch.setattr("zoo.cli.folder.time.strftime", lambda *_: "2026-01-01_00-00-00")
    dry = ("--trainer.limit_train_batches=1", "--no-test")
    for _ in range(2):
        assert zoo_main(*FIT, *dry).status == 0
    folders = sorted(folder.name for folder in (tmp_path / "runs/mlp-digits").iterdir())
    assert folders == ["2026-01-01_00-00-00", "2026-01-01_00-00-00-2"]
    again = f"runs/mlp-digits/{folders[0]}"
    assert_one_line(zoo_main(*FIT, *dry, "--run_dir", again), f"'{again}' holds a run already", "--resume")
    assert zoo_main("fit", "--config", f"{again}/config.yaml", "--resume").status == 0
    assert zoo_main("fit", "--config", f"{again}/config.yaml").status == 0
    assert len(list((tmp_path / "runs/mlp-digits").iterdir())) == 3


def test_a_repeated_run_is_the_same_and_says_what_it_depends_on(zoo_main: Zoo, tmp_path: Path) -> None:
    """REQ-D2: on the CPU, weights, optimiser and every number; run.json has seed, versions, hardware and workers."""
    for name in ("one", "other"):
        assert zoo_main(*FIT, "--model.dropout=0.3", "--run_dir", name).status == 0
    assert differences(tmp_path / "one", tmp_path / "other") == []
    record = json.loads((tmp_path / "one/run.json").read_text())
    assert (record["seed"], record["devices"], record["workers"]) == (0, 1, 0)
    assert record["hardware"]["threads"] == torch.get_num_threads()
    assert record["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert {"processor", "gpus"} <= record["hardware"].keys()


SUITE = """
title: Small
question: Is it the same?
metric: test error
settings: {data: digits, data.train_size: 100, recipe.epochs: 1, recipe.batch_size: 20, threads: 1}
sizes: {smoke: {reduced: "small", seeds: 2}, cpu: {reduced: "small", seeds: 2}, paper: {}}
rows: [{name: mlp, settings: {model: mlp}}]
"""


def test_results_of_tables_come_from_one_device_and_say_which(tmp_path: Path) -> None:
    """REQ-D2, REQ-P2: a job twice gives the same numbers; its result has its seed and what it was computed on."""
    (tmp_path / "small.yaml").write_text(SUITE)
    suite = load_suite(str(tmp_path / "small.yaml"))
    one, other = (read_result(run_job(make_plan(suite, "smoke", tmp_path / name).jobs[1])) for name in ("a", "b"))
    assert one["metrics"] == other["metrics"]
    assert one["curve"] == other["curve"]
    assert one["seed"] == 1
    hardware = one["environment"]["hardware"]
    assert hardware["threads"] == 1
    assert hardware["processor"]
    assert len(hardware["gpus"]) == torch.cuda.device_count()
    errors = 360 * (1 - one["metrics"]["test/acc"])
    assert errors == pytest.approx(round(errors), abs=1e-3), "all the images of the test, each once"


def by_hand(count: int) -> dict[str, float]:
    """The share of right answers and the loss, counted without any trainer."""
    model, data = network().eval(), Few(count)
    data.setup()
    found = {}
    for split in ("val", "test"):
        images = torch.from_numpy(data.splits[split].square(torch.arange(count).numpy(), 8))
        labels = torch.from_numpy(data.splits[split].labels)
        with torch.no_grad():
            logits = model(data.on_after_batch_transfer((images, labels), 0)[0])
        found[f"{split}/acc"] = (logits.argmax(1) == labels).sum().item() / count
        found[f"{split}/loss"] = F.cross_entropy(logits, labels).item()
    return found


@pytest.mark.parametrize("processes", [1, 2])
def test_evaluation_counts_every_image_once(processes: int) -> None:
    """REQ-P1: validate, test and fit on 1 and 2 processes, with equal and unequal shares, as counted by hand."""
    found = evaluate(1) if processes == 1 else json.loads(run_two_processes("evaluate_on_two_processes.py"))
    for count in COUNTS:
        expected = by_hand(count)
        expected |= {f"fit {name}": value for name, value in expected.items() if name.startswith("val/")}
        assert found[str(count)] == pytest.approx(expected, rel=1e-6)
        assert len({value for name, value in expected.items() if name.endswith("acc")}) > 1, "not all by chance alike"
