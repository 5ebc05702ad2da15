"""The command, end to end: run folder, test, predict, precision, processes, reproducibility, resume."""

import csv
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

import zoo
from tests.conftest import Outcome, Zoo, command, environment

FAST = ("fit", "--model", "lenet5", "--recipe.epochs", 3, "--recipe.batch_size", 128, "--run_dir", "run")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def weights(path: Path) -> dict[str, torch.Tensor]:
    state = torch.load(path, weights_only=True)["state_dict"]
    assert isinstance(state, dict)
    return state


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A finished run of the real command, and the folder it was started in."""
    folder = tmp_path_factory.mktemp("finished")
    words = command("fit", "--model", "lenet5", "--recipe.epochs", 6)
    done = subprocess.run(words, cwd=folder, env=environment(), capture_output=True, text=True, timeout=300)
    return folder, Outcome(done.returncode, done.stdout, done.stderr)


def test_fit_trains_tests_and_writes_a_run_folder(finished: tuple[Path, Outcome]) -> None:
    folder, outcome = finished
    assert outcome.status == 0, outcome.err
    (run,) = (folder / "runs" / "lenet5-digits").iterdir()
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["parameters"] == 61_706
    assert record["images"] == {"train": 1293, "val": 144, "test": 360}
    assert record["metrics"]["test/acc"] > 0.9
    assert {"seed", "seconds", "versions", "hardware", "git_commit", "recipe"} <= record.keys()
    table = rows(run / "metrics.csv")
    assert [row["epoch"] for row in table] == ["1", "2", "3", "4", "5", "6", "6"]
    assert all(row["train/loss"] and row["val/acc"] for row in table[:6])
    assert float(table[6]["test/acc"]) == record["metrics"]["test/acc"]
    with Image.open(run / "curves.png") as picture:
        assert picture.width > 600
    assert list(run.glob("events.out.tfevents.*"))
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt", "previous.ckpt"}
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["class_path"] == "zoo.names.lenet5"
    summary = outcome.out.strip().splitlines()[-4:]
    assert summary[0].startswith("lenet5 on digits: test accuracy ")
    assert str(run.relative_to(folder)) in summary[2]
    assert summary[3].startswith("next:  zoo predict --ckpt_path ")
    assert "images of digits are 8 x 8: lenet5 gets them enlarged at 32 x 32" in outcome.out
    assert outcome.err == "", "nothing but the run's own lines on the screen"


def test_the_checkpoint_needs_no_other_argument(finished: tuple[Path, Outcome], tmp_path: Path, zoo_main: Zoo) -> None:
    folder, _ = finished
    (run,) = (folder / "runs" / "lenet5-digits").iterdir()
    best = run / "checkpoints" / "best.ckpt"
    expected = json.loads((run / "run.json").read_text())["metrics"]
    tested = zoo_main("test", "--ckpt_path", best)
    assert tested.status == 0, tested.err
    assert f"test/acc  {expected['test/acc']!r}" in tested.out
    assert f"test/loss {expected['test/loss']!r}" in tested.out
    validated = zoo_main("validate", "--ckpt_path", best)
    best_epoch = max(float(row["val/acc"]) for row in rows(run / "metrics.csv")[:6])
    assert f"val/acc  {best_epoch!r}" in validated.out

    from sklearn.datasets import load_digits

    digits = load_digits()
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for k in range(10):
        pixels = (digits.images[k] * 255 / 16).round().astype("uint8")
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.BILINEAR).save(pictures / f"{digits.target[k]}.png")
    predicted = zoo_main("predict", "--ckpt_path", best, pictures, "--output", tmp_path / "out.csv", "--top_k", 2)
    assert predicted.status == 0, predicted.err
    table = rows(tmp_path / "out.csv")
    assert len(table) == 10
    assert list(table[0]) == ["image", "class_1", "probability_1", "class_2", "probability_2"]
    right = sum(Path(row["image"]).stem == row["class_1"] for row in table)
    assert right >= 8


def test_loaded_in_python_it_classifies_alike(finished: tuple[Path, Outcome]) -> None:
    folder, _ = finished
    (run,) = (folder / "runs" / "lenet5-digits").iterdir()
    model = zoo.load(run / "checkpoints" / "best.ckpt")
    assert model.class_names == list("0123456789")
    assert model.preprocessing["image_size"] == 32
    assert not model.training


def test_config_repeats_the_run_exactly(zoo_main: Zoo, tmp_path: Path) -> None:
    zoo_main(*FAST, "--model.dropout", 0.3, "--seed_everything", 7)
    again = zoo_main("fit", "--config", "run/config.yaml", "--run_dir", "again")
    assert again.status == 0, again.err
    assert (tmp_path / "run/metrics.csv").read_text() == (tmp_path / "again/metrics.csv").read_text()
    assert_same_weights(tmp_path / "run/checkpoints/last.ckpt", tmp_path / "again/checkpoints/last.ckpt")
    other = zoo_main("fit", "--config", "run/config.yaml", "--run_dir", "other", "--seed_everything", 8)
    assert other.status == 0
    assert (tmp_path / "run/metrics.csv").read_text() != (tmp_path / "other/metrics.csv").read_text()


def test_workers_change_nothing(zoo_main: Zoo, tmp_path: Path) -> None:
    fast = ("fit", "--model", "mlp", "--model.dropout", 0.2, "--recipe.epochs", 2)
    zoo_main(*fast, "--run_dir", "none", "--data.num_workers", 0)
    zoo_main(*fast, "--run_dir", "two", "--data.num_workers", 2)
    assert (tmp_path / "none/metrics.csv").read_text() == (tmp_path / "two/metrics.csv").read_text()


def test_no_test_leaves_the_test_set_alone(zoo_main: Zoo, tmp_path: Path) -> None:
    outcome = zoo_main(*FAST, "--no-test")
    assert outcome.status == 0
    assert "test/acc" not in rows(tmp_path / "run/metrics.csv")[0]
    assert "test/acc" not in json.loads((tmp_path / "run/run.json").read_text())["metrics"]
    assert "validation accuracy" in outcome.out


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_precisions(precision: str, zoo_main: Zoo, tmp_path: Path) -> None:
    clip = ("--recipe.gradient_clip", 1.0)  # Lightning clips differently under mixed precision
    outcome = zoo_main(*FAST, *clip, "--trainer.accelerator", "cpu", "--trainer.precision", precision)
    assert outcome.status == 0, outcome.err
    assert "of 360" in outcome.out
    assert json.loads((tmp_path / "run/run.json").read_text())["precision"] == precision


def test_two_processes_count_every_test_image_once(zoo_command: Zoo, tmp_path: Path) -> None:
    two = ("--trainer.accelerator", "cpu", "--trainer.devices", 2, "--trainer.strategy", "ddp")
    uneven = ("--data", "fake", "--data.num_samples", 1005)  # 201 test images: padding to equal shares would count 202
    outcome = zoo_command(*FAST, *two, *uneven)
    assert outcome.status == 0, outcome.err
    alone = zoo_command("test", "--ckpt_path", "run/checkpoints/best.ckpt")
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert f"test/acc  {record['metrics']['test/acc']!r}" in alone.out
    assert record["devices"] == 2
    assert record["images"]["test"] == 201
    assert outcome.out.count("lenet5 on fake: test accuracy") == 1, "one process speaks"
    assert len(rows(tmp_path / "run/metrics.csv")) == 4


def test_two_processes_train_as_one_does(zoo_command: Zoo, zoo_main: Zoo, tmp_path: Path) -> None:
    fast = ("fit", "--model", "mlp", "--recipe.epochs", 1, "--recipe.batch_size", 64, "--trainer.accelerator", "cpu")
    assert zoo_main(*fast, "--run_dir", "one").status == 0
    outcome = zoo_command(*fast, "--run_dir", "two", "--trainer.devices", 2, "--trainer.strategy", "ddp")
    assert outcome.status == 0, outcome.err
    one, two = (rows(tmp_path / name / "metrics.csv")[0] for name in ("one", "two"))
    for key in ("train/loss", "val/loss"):
        assert float(one[key]) == pytest.approx(float(two[key]), rel=1e-4)


@pytest.mark.parametrize("workers", [0, 2])
def test_killed_and_resumed_equals_uninterrupted(workers: int, zoo_main: Zoo, tmp_path: Path) -> None:
    """REQ-R1: killed in the second or third epoch, with and without workers, named by its configuration or folder."""
    settings = (
        *("fit", "--model", "lenet5", "--model.norm", "batch", "--model.dropout", 0.3),
        *("--recipe.epochs", 4, "--data.num_workers", workers),
    )
    assert zoo_main(*settings, "--run_dir", "whole").status == 0
    process = subprocess.Popen(
        command(*settings, "--run_dir", "killed"), cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL
    )
    metrics = tmp_path / "killed/metrics.csv"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and "\n2," in metrics.read_text()):  # in epoch 2 or early in epoch 3
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    how = ("--config", "killed/config.yaml") if workers else ("--run_dir", "killed")
    resumed = zoo_main("fit", *how, "--resume")
    assert resumed.status == 0, resumed.err
    assert "note: not an exact resume" not in resumed.out
    assert_same_weights(tmp_path / "whole/checkpoints/last.ckpt", tmp_path / "killed/checkpoints/last.ckpt")
    assert (tmp_path / "whole/metrics.csv").read_text() == metrics.read_text()


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_leaves_a_checkpoint_and_says_how_to_go_on(
    name: str, status: int, tmp_path: Path, zoo_main: Zoo
) -> None:
    """REQ-R5: the command as a user starts it; `tests/test_requirements_signals.py` has every stage of a run."""
    words = command("fit", "--model", "lenet5", "--recipe.epochs", 500, "--run_dir", "run")
    process = subprocess.Popen(
        words, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 240  # a busy machine is slow to start
    while not (tmp_path / "run/metrics.csv").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=240)
    assert process.returncode == status, err
    assert "To go on: zoo fit --config run/config.yaml --resume" in out
    assert err == "\nstopping after this step (Ctrl-C again: at once)\n"
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "interrupted"
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["global_step"] > 0


def test_a_diverging_run_ends_with_a_message(zoo_main: Zoo, tmp_path: Path) -> None:
    outcome = zoo_main(*FAST, "--recipe.lr", 1e30, "--recipe.optimizer", "sgd", "--recipe.warmup_epochs", 0)
    assert outcome.status == 1
    assert "the training loss is" in outcome.out
    assert "learning rate" in outcome.out
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "diverged"
    assert not (tmp_path / "run/checkpoints/last.ckpt").exists(), "weights that diverged are not worth keeping"


def test_a_finished_run_can_be_continued_for_longer(zoo_main: Zoo, tmp_path: Path) -> None:
    assert zoo_main(*FAST).status == 0
    again = zoo_main("fit", "--config", "run/config.yaml", "--resume")
    assert again.status == 0, again.err
    assert [row["epoch"] for row in rows(tmp_path / "run/metrics.csv")] == ["1", "2", "3", "3"]
    longer = zoo_main("fit", "--config", "run/config.yaml", "--resume", "--trainer.max_epochs", 4)
    assert longer.status == 0, longer.err
    assert [row["epoch"] for row in rows(tmp_path / "run/metrics.csv")] == ["1", "2", "3", "4", "4"]


def test_changed_settings_are_said_on_resume(zoo_main: Zoo) -> None:
    assert zoo_main(*FAST).status == 0
    change = ("fit", "--config", "run/config.yaml", "--recipe.batch_size", 64, "--recipe.epochs", 4)
    refused = zoo_main(*change, "--resume")
    assert refused.status == 2
    assert "not an exact resume: recipe.batch_size was 128 and is 64, batch_size was 128 and is 64" in refused.err
    changed = zoo_main(*change, "--resume-inexact")
    assert changed.status == 0, changed.err
    assert "note: not an exact resume: batch_size was 128 and is 64" in changed.out
    for option, message in (
        ("--recipe.optimizer=sgd", "was adamw and is sgd"),
        ("--recipe.lr=1", "was 0.002 and is 1.0"),
    ):
        refused = zoo_main("fit", "--config", "run/config.yaml", "--resume", option)
        assert refused.status == 2
        assert message in refused.err


def test_names_and_options_work_from_a_file(zoo_main: Zoo, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "model: {class_path: mlp, init_args: {hidden: [20], norm: layer}}\n"
        "data: {class_path: fake, init_args: {num_samples: 200, num_classes: 4}}\n"
        "recipe: {epochs: 1, lr: 0.01}\n"
    )
    outcome = zoo_main("fit", "--config", "mine.yaml", "--recipe.lr", 0.02, "--run_dir", "run")
    assert outcome.status == 0, outcome.err
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["arguments"]["hidden"] == [20]
    assert record["arguments"]["num_classes"] == 4
    assert record["recipe"]["lr"] == 0.02
    assert record["recipe"]["batch_size"] == zoo.model_info("mlp").recipe().batch_size


def test_two_runs_of_one_second_have_two_folders(tmp_path: Path) -> None:
    from zoo.cli.folder import _new_folder

    made = [_new_folder(tmp_path / "2026-01-01_00-00-00") for _ in range(3)]
    assert [path.name for path in made] == [f"2026-01-01_00-00-00{end}" for end in ("", "-2", "-3")]


SHORT = ("fit", "--model", "lenet5", "--trainer.limit_train_batches", 6, "--recipe.epochs", 2)


@pytest.fixture(scope="module")
def plain_losses(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Validation losses of a short run without further options."""
    folder = tmp_path_factory.mktemp("plain")
    done = subprocess.run(command(*SHORT, "--run_dir", "run"), cwd=folder, env=environment(), check=False, timeout=120)
    assert done.returncode == 0
    return [row["val/loss"] for row in rows(folder / "run/metrics.csv")]


@pytest.mark.parametrize(
    "options",
    [
        ("--recipe.ema", 0.9),
        ("--recipe.swa", 0.01),
        ("--recipe.mixup", 0.2),
        ("--recipe.cutmix", 1.0),
        ("--recipe.layer_decay", 0.7),
        ("--recipe.label_smoothing", 0.1),
        ("--recipe.weight_decay", 10.0),
        ("--recipe.momentum", 0.5),
        ("--recipe.schedule", "constant"),
        ("--recipe.warmup_epochs", 2),
        ("--recipe.gradient_clip", 0.5),
        ("--recipe.optimizer", "sgd"),
        ("--trainer.gradient_clip_val", 0.5),
        ("--trainer.accumulate_grad_batches", 2),
        ("--model.activation", "tanh"),
        ("--model.init", "paper"),
        ("--data.augment", "none"),
    ],
)
def test_options_change_the_training(
    options: tuple[object, ...], zoo_main: Zoo, plain_losses: list[str], tmp_path: Path
) -> None:
    outcome = zoo_main(*SHORT, "--run_dir", "run", *options)
    assert outcome.status == 0, outcome.err
    assert outcome.err == ""
    losses = [row["val/loss"] for row in rows(tmp_path / "run/metrics.csv")]
    assert len(losses) == len(plain_losses) == 3
    assert losses[1] != plain_losses[1]  # the first epoch's weights are their own average


def test_deterministic_changes_nothing_here(zoo_main: Zoo, plain_losses: list[str], tmp_path: Path) -> None:
    assert zoo_main(*SHORT, "--run_dir", "run", "--trainer.deterministic", "true").status == 0
    torch.use_deterministic_algorithms(False)
    assert [row["val/loss"] for row in rows(tmp_path / "run/metrics.csv")] == plain_losses


def test_max_steps_ends_the_run_and_its_repetition(zoo_main: Zoo, tmp_path: Path) -> None:
    fast = ("fit", "--model", "mlp", "--run_dir", "run", "--trainer.max_steps", 45)
    assert zoo_main(*fast).status == 0
    assert json.loads((tmp_path / "run/run.json").read_text())["steps"] == 45
    assert zoo_main("fit", "--config", "run/config.yaml", "--run_dir", "again").status == 0
    assert (tmp_path / "run/metrics.csv").read_text() == (tmp_path / "again/metrics.csv").read_text()


@pytest.mark.parametrize(
    ("option", "missing"),
    [
        (("--trainer.logger", "false"), "metrics.csv"),
        (("--trainer.enable_checkpointing", "false"), "checkpoints"),
        (("--trainer.limit_val_batches", 0), "checkpoints/best.ckpt"),
        (("--trainer.barebones", "true"), "metrics.csv"),
    ],
)
def test_options_leave_things_out(option: tuple[object, ...], missing: str, zoo_main: Zoo, tmp_path: Path) -> None:
    outcome = zoo_main(*SHORT, "--run_dir", "run", *option)
    assert outcome.status == 0, outcome.err
    assert (tmp_path / "run/run.json").exists()
    assert not (tmp_path / "run" / missing).exists()


def test_a_dry_run_leaves_no_checkpoint(zoo_main: Zoo, tmp_path: Path) -> None:
    assert zoo_main("fit", "--model", "lenet5", "--run_dir", "run", "--trainer.fast_dev_run", "true").status == 0
    assert (tmp_path / "run/run.json").exists()
    assert not (tmp_path / "run/checkpoints").exists()


def test_other_trainer_options(zoo_main: Zoo, tmp_path: Path) -> None:
    quiet = zoo_main(*SHORT, "--run_dir", "quiet", "--trainer.enable_progress_bar", "false")
    assert "epoch 1/2" not in quiet.out
    assert zoo_main(*SHORT, "--run_dir", "often", "--trainer.val_check_interval", 0.5).status == 0
    assert sum(bool(row["val/acc"]) for row in rows(tmp_path / "often/metrics.csv")) == 4
    assert zoo_main(*SHORT, "--trainer.default_root_dir", "elsewhere").status == 0
    assert len(list((tmp_path / "elsewhere/runs/lenet5-digits").iterdir())) == 1
    stopping = "--trainer.callbacks+=lightning.pytorch.callbacks.EarlyStopping"
    patient = ("--trainer.callbacks.monitor=val/loss", "--trainer.callbacks.patience=1")
    assert zoo_main(*SHORT, "--run_dir", "stop", stopping, *patient).status == 0


def test_the_average_of_the_weights_is_what_is_kept(zoo_main: Zoo, tmp_path: Path) -> None:
    assert zoo_main(*SHORT, "--run_dir", "run", "--recipe.ema", 0.99).status == 0
    best = max(float(row["val/acc"]) for row in rows(tmp_path / "run/metrics.csv")[:2])
    validated = zoo_main("validate", "--ckpt_path", "run/checkpoints/best.ckpt")
    assert f"val/acc  {best!r}" in validated.out


def test_a_typed_recipe_wins_over_that_of_the_file(zoo_main: Zoo, tmp_path: Path) -> None:
    assert (
        zoo_main(
            "fit", "--model", "vgg11", "--data", "fake", "--trainer.fast_dev_run", "true", "--run_dir", "run"
        ).status
        == 0
    )
    dry = ("--trainer.fast_dev_run", "true", "--run_dir", "again")
    again = zoo_main("fit", "--config", "run/config.yaml", "--recipe", "paper", "--recipe.batch_size", 64, *dry)
    assert again.status == 0, again.err
    recipe = json.loads((tmp_path / "again/run.json").read_text())["recipe"]
    assert (recipe["name"], recipe["optimizer"], recipe["lr"], recipe["batch_size"]) == ("paper", "sgd", 0.01, 64)


def test_a_saved_configuration_takes_other_data_and_another_model(zoo_main: Zoo) -> None:
    dry = ("--trainer.fast_dev_run", "true")
    assert zoo_main("fit", "--model", "mlp", *dry, "--run_dir", "run").status == 0
    for option in (("--data", "fake"), ("--model", "lenet5"), ("--data.image_size", 16)):
        outcome = zoo_main("fit", "--config", "run/config.yaml", *option, *dry)
        assert outcome.status == 0, outcome.err


def test_a_class_of_ones_own_trains(zoo_main: Zoo) -> None:
    outcome = zoo_main("fit", "--model", "zoo.mlp.MLP", "--recipe.epochs", 1)
    assert outcome.status == 0, outcome.err
    assert "MLP on digits: test accuracy" in outcome.out


def test_more_outputs_than_classes(zoo_main: Zoo, tmp_path: Path) -> None:
    assert (
        zoo_main("fit", "--model", "mlp", "--model.num_classes", 12, "--recipe.epochs", 1, "--run_dir", "run").status
        == 0
    )
    Image.new("L", (8, 8)).save(tmp_path / "black.png")
    outcome = zoo_main("predict", "--ckpt_path", "run/checkpoints/best.ckpt", "--top_k", 12, "black.png")
    assert outcome.status == 0, outcome.err
    assert "11 " in outcome.out


def test_a_model_typed_over_a_files_is_that_model(zoo_main: Zoo, tmp_path: Path) -> None:
    """A file holds every argument: the preset of the file's model must not survive under another name."""
    file = tmp_path / "resnet20.yaml"
    file.write_text(zoo_main("fit", "--model", "resnet20", "--model.dropout", 0.1, "--print_config").out)
    changed = zoo_main("fit", "--config", file, "--model", "plain56", "--print_config").out
    assert "depth: 56\n    shortcut: none\n" in changed
    assert "dropout: 0.1\n" in changed, "what the user chose carries over"
    typed = zoo_main("fit", "--config", file, "--model", "plain56", "--model.shortcut", "B", "--print_config").out
    assert "depth: 56\n    shortcut: B\n" in typed
    same = zoo_main("fit", "--config", file, "--model", "resnet20", "--print_config").out
    assert "depth: 20\n    shortcut: A\n" in same


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("lenet5_1998", ["--recipe.loss", "cross_entropy"]),
        ("softmax", ["--model.hidden", "null"]),
        ("mlp", ["--recipe.loss", "mse"]),
    ],
)
def test_test_repeats_the_loss_that_was_trained(model: str, options: list[str], zoo_main: Zoo) -> None:
    fitted = zoo_main("fit", "--model", model, *options, "--recipe.epochs", 1, "--run_dir", "run")
    assert fitted.status == 0, fitted.err
    loss = json.loads(Path("run/run.json").read_text())["metrics"]["test/loss"]
    tested = zoo_main("test", "--ckpt_path", "run/checkpoints/best.ckpt")
    assert f"test/loss {loss!r}" in tested.out, tested.err
