"""Running a suite: finished runs are skipped, interrupted ones go on exactly, wrong ones are rows; wrong input."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Zoo, command, environment
from zoo.benchmarks import recorder
from zoo.benchmarks.execute import run_job
from zoo.benchmarks.results import read_result, read_results
from zoo.benchmarks.runner import Forecast, choose_rows, make_plan, run_plan
from zoo.benchmarks.suite import Suite
from zoo.benchmarks.suite_file import load_suite, parse_suite
from zoo.benchmarks.table import table

SUITE = """
title: Small
question: Does it go on?
metric: test error
settings: {data: digits, data.train_size: 200, recipe.epochs: 3, recipe.batch_size: 20}
sizes: {smoke: {reduced: "small", seeds: 2}, cpu: {reduced: "small", seeds: 3}, paper: {}}
rows:
  - {name: mlp, settings: {model: mlp, model.dropout: 0.5, model.norm: batch, recipe.ema: 0.9, data.augment: affine}}
  - {name: best, settings: {model: mlp, select: best, recipe.lr: 0.1}}
claims:
  - {text: They differ, metric: test error, higher: mlp, lower: best}
"""


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    (tmp_path / "small.yaml").write_text(SUITE)
    return load_suite(str(tmp_path / "small.yaml"))


def numbers(result: dict[str, Any]) -> dict[str, Any]:
    """What must be the same for the same settings, seed and images: all but the time."""
    return {name: value for name, value in result.items() if name not in ("seconds", "environment")}


KILLED = """
import os, signal, sys
from pathlib import Path
from zoo.benchmarks import recorder
from zoo.benchmarks.execute import run_job
from zoo.benchmarks.runner import make_plan
from zoo.benchmarks.suite_file import load_suite
from zoo.classifier import ImageClassifier
recorder.SAVE_EVERY = 0.0
plan = make_plan(load_suite(sys.argv[1]), "smoke", Path(sys.argv[2]))
job, steps, taken = plan.jobs[int(sys.argv[3])], int(sys.argv[4]), 0
step = ImageClassifier.training_step
def counted(self, *arguments):
    global taken
    taken += 1
    if taken > steps:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, *arguments)
ImageClassifier.training_step = counted
run_job(job)
"""


@pytest.mark.parametrize(("row", "steps"), [(0, 5), (0, 10), (0, 24), (1, 25)])
def test_a_killed_run_goes_on_with_the_same_numbers(suite: Suite, tmp_path: Path, row: int, steps: int) -> None:
    """Ten steps are an epoch: killed before the first checkpoint, right after it, and in the middle of the third.

    The second row's best epoch is the second: the checkpoint after it must know that.
    """
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    expected = read_result(run_job(make_plan(suite, "smoke", whole).jobs[row]))
    words = [sys.executable, "-c", KILLED, str(tmp_path / "small.yaml"), str(killed), str(row), str(steps)]
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr[-1000:]
    job = make_plan(suite, "smoke", killed).jobs[row]
    checkpoint = job.work / "0" / "last.ckpt"
    assert checkpoint.is_file() == (steps >= 10)
    result = read_result(run_job(job))
    assert numbers(result) == numbers(expected)
    assert [point["epoch"] for point in result["curve"]] == [1, 2, 3]
    assert not job.work.exists()


def test_a_suite_that_was_killed_has_the_table_of_an_uninterrupted_one(suite: Suite, tmp_path: Path) -> None:
    words = ["benchmark", "run", tmp_path / "small.yaml", "--size", "smoke", "--jobs", "1"]
    whole = subprocess.run(
        command(*words, "--results", tmp_path / "whole"), env=environment(), capture_output=True, timeout=240, text=True
    )
    assert whole.returncode == 0, whole.stderr
    with subprocess.Popen(
        command(*words, "--results", tmp_path / "killed"), env=environment(), stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if line.startswith("1/4"):
                break
        running.kill()
    again = subprocess.run(
        command(*words, "--results", tmp_path / "killed"),
        env=environment(),
        capture_output=True,
        timeout=240,
        text=True,
    )
    assert again.returncode == 0, again.stderr
    assert ", 0 are done" not in again.stdout
    tables = [
        table(suite, "smoke", read_results(suite, "smoke", tmp_path / name).by_row) for name in ("whole", "killed")
    ]
    seconds = next(place for place, column in enumerate(tables[0].columns) if column.heading.startswith("seconds"))
    first, second = ([row[:seconds] + row[seconds + 1 :] for row in one.rows] for one in tables)
    assert first == second


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_says_how_to_go_on(suite: Suite, tmp_path: Path, number: int, status: int) -> None:
    words = ["benchmark", "run", tmp_path / "small.yaml", "--size", "smoke", "--jobs", "1", "--results", tmp_path / "r"]
    with subprocess.Popen(command(*words), env=environment(), stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        lines = []
        for line in running.stdout:
            lines.append(line)
            if line.startswith("1/4"):
                running.send_signal(number)
    assert running.returncode == status, lines
    assert "interrupted: the same command goes on\n" in lines
    assert read_results(suite, "smoke", tmp_path / "r").count < 4


class Here:
    """A launcher for tests: every job in this process."""

    def run(self, jobs: Any, work: Any, on_done: Any, poll: Any) -> None:
        for job in jobs:
            poll()
            try:
                outcome = work(job)
            except Exception as error:
                outcome = error
            on_done(job, outcome)


def test_finished_runs_are_skipped_and_more_seeds_are_added(suite: Suite, tmp_path: Path) -> None:
    plan = make_plan(suite, "smoke", tmp_path / "r", seeds=1)
    told: list[Any] = []
    run_plan(plan, Here(), 1, told.append, lambda forecast: None)
    assert [(result["row"], result["seed"]) for result in told] == [("mlp", 0), ("best", 0)]
    more = make_plan(suite, "smoke", tmp_path / "r", seeds=2)
    assert [(job.row, job.seed) for job in more.jobs] == [("mlp", 1), ("best", 1)]
    assert len(more.finished) == 2


def test_diverged_and_failed_runs_are_rows(tmp_path: Path) -> None:
    content = {
        "title": "t",
        "question": "q?",
        "metric": "test error",
        "settings": {"model": "mlp", "data.train_size": 100, "recipe.epochs": 1, "recipe.batch_size": 20},
        "sizes": {"smoke": {"reduced": "x"}, "cpu": {}, "paper": {}},
        "rows": [
            {"name": "fine", "settings": {}},
            {"name": "diverges", "settings": {"recipe.lr": 1e30, "recipe.optimizer": "sgd"}},
            {"name": "fails", "settings": {"model.hidden": [-1]}},
        ],
    }
    suite = parse_suite("own", content)
    plan = make_plan(suite, "smoke", tmp_path)
    results = run_plan(plan, Here(), 1, lambda result: None, lambda forecast: None)
    assert [result["status"] for result in results] == ["finished", "diverged", "failed"]
    assert results[2]["error"] == "ValueError: hidden is [-1]: every width must be at least 1"
    found = read_results(suite, "smoke", tmp_path)
    rows = {cells[0]: cells[-1] for cells in table(suite, "smoke", found.by_row).rows}
    assert rows["diverges"].startswith("diverged")
    assert rows["fails"].startswith("failed")
    again = make_plan(suite, "smoke", tmp_path)
    assert [job.row for job in again.jobs] == ["fails"]  # it may have been the machine's fault


def test_the_number_of_other_runs_does_not_change_a_run(suite: Suite, tmp_path: Path) -> None:
    """A run is a function of its settings, seed and images, not of what ran before it in the same process."""
    alone = make_plan(suite, "smoke", tmp_path / "alone", rows="best").jobs[1]
    for job in make_plan(suite, "smoke", tmp_path / "after", rows="mlp").jobs:
        run_job(job)
    after = make_plan(suite, "smoke", tmp_path / "after", rows="best").jobs[1]
    assert numbers(read_result(run_job(alone))) == numbers(read_result(run_job(after)))


def test_the_best_epoch_is_chosen_by_validation_loss(suite: Suite, tmp_path: Path) -> None:
    """What is tested are the weights of the epoch with the least validation loss: the same run, ended there."""
    job = make_plan(suite, "smoke", tmp_path, rows="best").jobs[0]
    recipe = {**job.settings["recipe"], "schedule": "constant", "warmup_epochs": 0.0, "lr": 0.01}
    whole = read_result(run_job(replace(job, settings={**job.settings, "recipe": {**recipe, "epochs": 14}})))
    losses = [point["val/loss"] for point in whole["curve"]]
    best = losses.index(min(losses))
    assert best < len(losses) - 1, losses
    protocol = {**job.settings["protocol"], "select": "last"}
    settings = {**job.settings, "recipe": {**recipe, "epochs": best + 1}, "protocol": protocol}
    short = read_result(run_job(replace(job, settings=settings)))
    assert short["metrics"]["test/loss"] == whole["metrics"]["test/loss"]


def test_bagging_averages_networks_that_saw_different_samples(tmp_path: Path) -> None:
    content = {
        "title": "t",
        "question": "q?",
        "metric": "test error",
        "settings": {"model": "softmax", "data.train_size": 60, "recipe.epochs": 2, "recipe.batch_size": 20},
        "sizes": {"smoke": {}, "cpu": {}, "paper": {}},
        "rows": [{"name": "one", "settings": {}}, {"name": "five", "settings": {"members": 5}}],
    }
    plan = make_plan(parse_suite("own", content), "smoke", tmp_path)
    one, five = (read_result(run_job(job)) for job in plan.jobs)
    assert five["steps"] == 5 * one["steps"]
    assert five["metrics"]["test/acc"] != one["metrics"]["test/acc"]


def test_results_of_other_settings_and_versions_are_left_out(suite: Suite, tmp_path: Path) -> None:
    job = make_plan(suite, "smoke", tmp_path / "r", rows="best", seeds=1).jobs[0]
    path = run_job(job)
    found = read_results(suite, "smoke", tmp_path / "r")
    assert (found.count, found.other_settings, found.other_versions) == (1, 0, 0)
    changed = parse_suite("small", {**_content(), "settings": {"data.train_size": 100}})
    assert read_results(changed, "smoke", tmp_path / "r").other_settings == 1
    old = json.loads(path.read_text()) | {"version": 0}
    path.write_text(json.dumps(old))
    found = read_results(suite, "smoke", tmp_path / "r")
    assert (found.count, found.other_versions) == (0, 1)


def _content() -> dict[str, Any]:
    import yaml

    content: dict[str, Any] = yaml.safe_load(SUITE)
    return content


def test_results_on_different_images_are_never_in_one_table(suite: Suite, tmp_path: Path) -> None:
    jobs = make_plan(suite, "smoke", tmp_path / "r", seeds=1).jobs
    paths = [run_job(job) for job in jobs]
    other = json.loads(paths[1].read_text())
    other["data"]["fingerprint"] = "another"
    paths[1].write_text(json.dumps(other))
    with pytest.raises(ValueError, match="different images of digits: mlp, seed 0 and best, seed 0"):
        read_results(suite, "smoke", tmp_path / "r")


def test_the_time_left_follows_finished_runs_and_progress(suite: Suite, tmp_path: Path) -> None:
    plan = make_plan(suite, "smoke", tmp_path, seeds=2)
    forecast = Forecast(plan, processes=1)
    assert forecast.seconds_left() is None
    first, second, third = plan.jobs[:3]
    forecast.finish(first, {"row": "mlp", "status": "finished", "seconds": 10.0})
    assert forecast.seconds_left() == pytest.approx(30)  # three runs like it
    forecast.finish(second, {"row": "best", "status": "finished", "seconds": 20.0})
    assert forecast.seconds_left() == pytest.approx(30)  # one of 10 s, one of 20 s
    third.work.mkdir(parents=True)
    (third.work / "progress.json").write_text('{"done": 0.5}')
    assert forecast.seconds_left() == pytest.approx(25)
    assert Forecast(plan, processes=4).seconds_left() is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "residul"), "unknown suite 'residul'. Did you mean 'residual'?"),
        (("run", "residual", "--rows", "plain5*,resnet21"), "suite residual has no row 'resnet21'. Did you mean"),
        (("run", "residual", "--size", "cpuu"), "unknown size 'cpuu'. Did you mean 'cpu'?"),
        (("report", "residual", "--size", "small"), "unknown size 'small'."),
        (("report", "residual", "--results", "nowhere"), "there is no folder 'nowhere'"),
        (("run", "permuted-mnist"), "mnist is read from a folder: give its path as root (--data.root DIR)"),
        (("run", "permuted-mnist", "--data.root", "nowhere"), "--data.download true fetches it"),
        (("run", "permuted-mnist", "--seeds", "0"), "'0' must be a whole number, at least 1"),
        (("run", "permuted-mnist", "--launcher", "pbs"), "unknown launcher 'pbs'."),
        (("runn",), "unknown benchmark command 'runn'. Did you mean 'run'?"),
        (("ablate", "mlp", "--vary", "model.norm"), "--vary is 'model.norm': it must be NAME=VALUE,VALUE"),
        (("ablate", "mlp", "--vary", "recipe.learning=1"), "unknown setting 'recipe.learning'."),
        (("ablate", "mlpp", "--vary", "model.norm=none"), "unknown model 'mlpp'"),
        (
            ("ablate", "mlp", "--vary", "model.norm=none,batch", "--recipe.epochs", "1", "--recipe.epochs", "2"),
            "--recipe.epochs is given twice, as 1 and 2: say one of them",
        ),
        (("run", "nielsen", "--address", "a:1"), "--address is a:1: it goes with --launcher ray"),
        (("run", "nielsen", "--slurm", "partition=gpu"), "--slurm is partition=gpu: it goes with --launcher slurm"),
        (
            ("run", "nielsen", "--launcher", "slurm", "--slurm", "time=1", "--slurm", "time=2"),
            "--slurm time is given twice, as 1 and 2: say one of them",
        ),
        (("compare", "nowhere"), "'nowhere' holds no run.json"),
    ],
)
def test_wrong_input_has_one_short_error(zoo_main: Zoo, words: tuple[str, ...], message: str) -> None:
    outcome = zoo_main("benchmark", *words)
    assert outcome.status == 2
    assert message in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
    assert not Path("runs").exists()  # nothing half-written


def test_an_ablation_runs_a_grid_and_shows_its_table(zoo_main: Zoo) -> None:
    words = ["ablate", "mlp", "--vary", "model.norm=none,batch", "--vary", "model.hidden=[8],[8, 8]"]
    fixed = ["--recipe.epochs", "1", "--data.train_size", "100", "--seeds", "2", "--jobs", "1"]
    outcome = zoo_main("benchmark", *words, *fixed)
    assert outcome.status == 0, outcome.err
    assert "8 finished" in outcome.out
    lines = [line for line in outcome.out.splitlines() if line.startswith("norm ")]
    assert [line.split("  ")[0] for line in lines] == [
        "norm none, hidden [8]",
        "norm none, hidden [8, 8]",
        "norm batch, hidden [8]",
        "norm batch, hidden [8, 8]",
    ]
    assert all("(2)" in line for line in lines)
    assert Path("runs/benchmarks/ablate-mlp/own/report.html").is_file()


def test_runs_of_fit_are_compared_by_their_settings(zoo_main: Zoo) -> None:
    for name, seed, norm in (("a", 0, "none"), ("b", 1, "none"), ("c", 0, "batch")):
        fit = ("fit", "--model", "mlp", "--model.norm", norm, "--recipe.epochs", 1, "--data.train_size", 100)
        assert zoo_main(*fit, "--run_dir", name, "--seed_everything", seed).status == 0
    outcome = zoo_main("benchmark", "compare", "a", "b", "c", "--output", "pages")
    assert outcome.status == 0, outcome.err
    first = next(line for line in outcome.out.splitlines() if line.startswith("mlp, norm none"))
    errors = [100 * (1 - json.loads(Path(name, "run.json").read_text())["metrics"]["test/acc"]) for name in "ab"]
    assert f"{sum(errors) / 2:.2f} ± " in first and "(2)" in first
    assert any(line.startswith("mlp, norm batch") and "(1)" in line for line in outcome.out.splitlines())
    assert Path("pages/report.md").is_file()
    assert zoo_main("benchmark", "compare", "a", "a").err == "zoo: error: a and a are runs of the same seed\n"


def test_rows_are_chosen_by_patterns(suite: Suite) -> None:
    assert [row.name for row in choose_rows(suite, "b*")] == ["best"]
    assert [row.name for row in choose_rows(suite, "best, mlp")] == ["mlp", "best"]


def test_progress_is_told_while_a_run_goes_on(suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_plan(suite, "smoke", tmp_path, rows="best").jobs[0]
    seen: list[float] = []
    original = recorder.Recorder.on_train_epoch_end

    def spy(self: Any, trainer: Any, module: Any) -> None:
        original(self, trainer, module)
        seen.append(json.loads((job.work / "progress.json").read_text())["done"])

    monkeypatch.setattr(recorder.Recorder, "on_train_epoch_end", spy)
    run_job(job)
    assert seen == pytest.approx([1 / 3, 2 / 3, 1], abs=1e-3)
    assert os.environ["PL_GLOBAL_SEED"] == "0"
