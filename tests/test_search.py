"""`zoo search`: what is varied, which trials come, which are stopped, and that a search goes on after anything."""

import importlib.util
import json
import math
import shlex
import signal
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Zoo, command, environment
from zoo.benchmarks import markup
from zoo.cli.errors import UserError
from zoo.cli.search_figures import place, ticks
from zoo.cli.search_space import Choice, Range, Varied, corners, parse_vary, read_space

optuna = pytest.importorskip("optuna")

from zoo.cli.search_local import device_of, run_local  # noqa: E402  # they need optuna
from zoo.cli.search_report import best_command, shown, table, write_report  # noqa: E402
from zoo.cli.search_storage import opened  # noqa: E402
from zoo.cli.search_study import Attempt, Plan, Search  # noqa: E402

LR = Range("recipe.lr", 1e-4, 1e-1, is_log=True)
OPTIMIZER = Choice("recipe.optimizer", ("sgd", "adamw"))
WIDTH = Range("model.width", 8, 64, is_whole=True)


# What is varied


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("recipe.lr=log:1e-4..1e-1", LR),
        ("--recipe.lr=log:1e-4..1e-1", LR),
        ("model.dropout=0..0.5", Range("model.dropout", 0.0, 0.5)),
        ("model.width=int:8..64", WIDTH),
        ("model.width=log:int:8..64", Range("model.width", 8, 64, is_log=True, is_whole=True)),
        ("recipe.lr=-1..1", Range("recipe.lr", -1.0, 1.0)),
        ("recipe.optimizer=sgd,adamw", OPTIMIZER),
        ("model.hidden=[64],[300, 100]", Choice("model.hidden", ("[64]", "[300, 100]"))),
        ("recipe=default,paper", Choice("recipe.name", ("default", "paper"))),
        ("model.init_args.norm=none,batch", Choice("model.norm", ("none", "batch"))),
    ],
)
def test_what_is_varied_is_read(text: str, expected: Varied) -> None:
    assert parse_vary(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recipe.lr", "it must be NAME=VALUES, such as"),
        ("recipe.lr=", "it must be NAME=VALUES, such as"),
        ("recipe.lr=log:0..1", "0 has no logarithm"),
        ("recipe.lr=log:-1..1", "-1 has no logarithm"),
        ("recipe.lr=1..1", "the range is empty"),
        ("recipe.lr=0.1..0.01", "the range is empty"),
        ("recipe.lr=0..inf", "the range is empty"),
        ("recipe.lr=a..b", "the ends of a range must be numbers"),
        ("model.width=int:8..64.5", "must be whole numbers"),
        ("recipe.lr=log:0.1,0.2", "log: and int: go with a range"),
        ("recipe.lr=0.1", "fix it with --recipe.lr 0.1"),
        ("recipe.lr=0.1,0.1", "is there twice"),
        ("recipe.lr=0.1,,0.2", "a value is empty"),
        ("run_dir=a,b", "run_dir says where a run is"),
    ],
)
def test_what_cannot_be_varied_is_said_in_a_line(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        parse_vary(text)
    assert "\n" not in str(caught.value)


def test_an_option_is_varied_once_or_fixed() -> None:
    for texts, words, message in (
        ([], [], "needs something to vary"),
        (["recipe.lr=0..1", "--recipe.lr=2..3"], [], "--vary has recipe.lr twice"),
        (["recipe=default,paper"], ["--recipe", "paper"], "recipe.name is varied and fixed"),
        (["recipe.lr=0..1"], ["--run_dir=x"], "--run_dir belongs to one run"),
        (["recipe.lr=0..1"], ["--resume"], "--resume belongs to one run"),
    ):
        with pytest.raises(UserError, match=message):
            read_space(texts, words)
    assert read_space(["recipe.lr=0..1"], ["--config", "x.yaml", "--no-test"]) == [Range("recipe.lr", 0.0, 1.0)]


def test_the_check_sees_every_choice_and_both_ends_of_every_range() -> None:
    three = Choice("data.augment", ("none", "crop", "flip"))
    seen = {pair for words in corners([LR, three, WIDTH]) for pair in zip(words[::2], words[1::2], strict=True)}
    expected = {("--recipe.lr", "0.0001"), ("--recipe.lr", "0.1"), ("--model.width", "8"), ("--model.width", "64")}
    assert seen == expected | {("--data.augment", value) for value in three.values}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--vary", "recipe.lrr=0.1..0.2"], "unknown option --recipe.lrr. Did you mean --recipe.lr?"),
        (["--vary", "recipe.lr=log:0..1"], "0 has no logarithm"),
        (["--vary", "recipe.optimizer=sgd,sdg"], "recipe.optimizer is sdg"),
        (["--vary", "model.norm=none,bach"], "--model.norm is 'bach'"),
        (["--vary", "model.dropout=0..1.5"], "dropout"),
        (["--vary", "recipe.lr=0.1..0.2", "--launcher", "rai"], "unknown launcher 'rai'. Did you mean 'ray'?"),
        (["--vary", "recipe.lr=0.1..0.2", "--monitor", "test/acc"], "unknown metric 'test/acc'"),
        (["--vary", "recipe.lr=0.1..0.2", "--storage", "no/x.db"], "there is no folder 'no'"),
        (["--vary", "recipe.lr=0.1..0.2", "--name", "../x"], "must be the name of one folder"),
        (["--vary", "recipe.lr=0.1..0.2", "--trials", "0"], "at least 1"),
        (["--vary", "recipe.lr=0.1..0.2", "--address", "a:1"], "--address is a:1: it goes with --launcher ray"),
        (["--vary", "recipe.lr=0.1..0.2", "--trainer.limit_val_batches", "0"], "no validation images"),
    ],
)
def test_wrong_input_is_one_line_before_anything_is_written(
    zoo_main: Zoo, tmp_path: Path, words: list[str], message: str
) -> None:
    outcome = zoo_main("search", "--model", "mlp", *words)
    assert outcome.status == 2
    assert message in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named_with_its_extra(zoo_main: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "optuna" else find(name, *rest))
    outcome = zoo_main("search", "--model", "mlp", "--vary", "recipe.lr=0.1..0.2")
    assert (outcome.status, outcome.err.count("\n")) == (2, 1)
    assert "needs optuna: pip install 'lightning-zoo[search]'" in outcome.err


# Trials, with runs that the test makes up

Curve = Callable[[dict[str, str]], list[float]]


def make_plan(
    trials: int = 12, seed: int = 0, varied: tuple[Varied, ...] = (LR, OPTIMIZER), monitor: str = "val/acc"
) -> Plan:
    return Plan(("--model", "mlp"), varied, monitor, trials, seed)


@contextmanager
def searching(folder: Path, plan: Plan) -> Iterator[Search]:
    with opened(plan, folder, folder / "study.db") as search:
        yield search


def settings(attempt: Attempt) -> dict[str, str]:
    return dict(zip(attempt.settings[::2], attempt.settings[1::2], strict=True))


def write_run(folder: Path, values: list[float], status: str = "finished", monitor: str = "val/acc") -> None:
    """What `zoo fit` leaves of a run, as far as a search reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"epoch,step,{monitor}", *(f"{epoch + 1},{epoch},{value!r}" for epoch, value in enumerate(values))]
    (folder / "metrics.csv").write_text("\n".join(rows) + "\n")
    (folder / "run.json").write_text(json.dumps({"status": status, "seconds": 1.5, "epochs": len(values)}))


def accuracy(chosen: dict[str, str]) -> list[float]:
    """Best for a rate near 0.01: the three epochs of a run."""
    reached = 0.9 - 0.1 * abs(math.log10(float(chosen["--recipe.lr"])) + 2)
    return [0.5 * reached, 0.8 * reached, reached]


def drive(search: Search, most: int = 1000, curve: Curve = accuracy) -> list[dict[str, str]]:
    """Run so many trials one after the other; what each was."""
    seen = []
    while len(seen) < most and (attempt := search.next()) is not None:
        write_run(attempt.folder, curve(settings(attempt)))
        search.finish(attempt, 0)
        seen.append(settings(attempt))
    return seen


def test_the_same_seed_gives_the_same_trials_and_another_others(tmp_path: Path) -> None:
    seen = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        with searching(tmp_path / name, make_plan(4, seed)) as search:
            seen.append(drive(search))
    assert seen[0] == seen[1]
    assert len({json.dumps(one) for one in seen[0]}) == 4
    assert not {json.dumps(one) for one in seen[0]} & {json.dumps(one) for one in seen[2]}


def test_a_search_that_is_killed_again_and_again_has_the_trials_of_one_that_is_not(tmp_path: Path) -> None:
    """Past the ten random trials with which the estimator begins, and each time in the middle of a trial."""
    with searching(tmp_path / "whole", make_plan(13)) as search:
        expected = drive(search)
        best = search.study.best_value
    seen: list[dict[str, str]] = []
    for most in (3, 1, 7, 100):
        with searching(tmp_path / "parts", make_plan(13)) as search:
            seen += drive(search, most)
            begun = search.next()  # and then it is killed
            assert (begun is None) == (most == 100)
            if begun is not None:
                write_run(begun.folder, accuracy(settings(begun))[:1], status="running")
                search.follow(begun, search.values(begun.folder))
    assert seen == expected
    assert len(seen) == 13
    assert search.study.best_value == best


def test_a_trial_that_has_saved_something_goes_on_from_there(tmp_path: Path) -> None:
    with searching(tmp_path / "s", make_plan()) as search:
        first, second = search.next(), search.next()
        assert first is not None and second is not None
        assert first.words[:3] == ["fit", "--model", "mlp"]
        assert first.words[-4:] == ["--run_dir", str(first.folder), "--no_test", "true"]
        (first.folder / "checkpoints").mkdir(parents=True)
        (first.folder / "checkpoints/last.ckpt").touch()
        second.folder.mkdir()
        (second.folder / "config.yaml").touch()  # killed before anything was saved
    with searching(tmp_path / "s", make_plan()) as search:
        again, anew = search.next(), search.next()
        assert again is not None and anew is not None
        assert again.words == ["fit", "--run_dir", str(first.folder), "--resume", "true"]
        assert (anew.words, anew.folder.exists()) == (second.words, False)
        assert (again.settings, anew.settings) == (first.settings, second.settings)


def test_a_finished_search_is_made_longer_by_more_trials(tmp_path: Path) -> None:
    with searching(tmp_path / "s", make_plan(4)) as search:
        drive(search)
    with searching(tmp_path / "s", make_plan(4)) as search:
        assert search.next() is None
    with searching(tmp_path / "s", make_plan(6)) as search:
        assert len(drive(search)) == 2


def test_trials_worse_than_the_median_are_stopped(tmp_path: Path) -> None:
    """Against the rule as Optuna states it: the best so far is worse than the median of the finished, at that epoch."""
    generator = np.random.default_rng(0)
    curves = [np.maximum.accumulate(generator.random(6)).tolist() for _ in range(16)]
    finished: list[list[float]] = []
    with searching(tmp_path / "s", make_plan(16)) as search:
        for curve in curves:
            attempt = search.next()
            assert attempt is not None
            worse = [e for e in range(6) if len(finished) >= 5 and curve[e] < statistics.median(f[e] for f in finished)]
            stopped = next((e for e in range(6) if search.follow(attempt, curve[: e + 1])), None)
            assert stopped == (worse[0] if worse else None)
            write_run(attempt.folder, curve)
            assert search.finish(attempt, 143 if worse else 0) == ("pruned" if worse else "finished")
            finished += [] if worse else [curve]
        pruned = search.trials(optuna.trial.TrialState.PRUNED)
        assert len(pruned) == 16 - len(finished) > 3
        assert all(len(trial.intermediate_values) < 7 for trial in pruned)


def test_epochs_that_are_seen_late_stop_a_trial_all_the_same(tmp_path: Path) -> None:
    """What the study is told must not depend on how often the run folder was looked at."""
    with searching(tmp_path / "s", make_plan(6)) as search:
        drive(search, 5, lambda _: [0.5, 0.6, 0.7])
        attempt = search.next()
        assert attempt is not None
        write_run(attempt.folder, [0.55, 0.2, 0.9])
        assert search.finish(attempt, 0) == "pruned"  # at the second epoch, where 0.55 is its best, and the median 0.6
        assert search.trials()[5].intermediate_values == {0: 0.55, 1: 0.2}


def test_a_loss_is_minimised(tmp_path: Path) -> None:
    with searching(tmp_path / "s", make_plan(2, monitor="val/loss")) as search:
        for curve in ([3.0, 2.0, 2.5], [3.0, 2.8, 2.9]):
            attempt = search.next()
            assert attempt is not None
            write_run(attempt.folder, curve, monitor="val/loss")
            search.finish(attempt, 0)
        assert (search.study.best_trial.number, search.study.best_value) == (0, 2.0)
        assert [row[0] for row in table(search).rows] == ["0", "1"]


def test_what_failed_says_why_and_is_replaced_at_the_next_start(tmp_path: Path) -> None:
    with searching(tmp_path / "s", make_plan(4)) as search:
        attempts = [search.next() for _ in range(4)]
        assert all(attempts)
        first, second, third, fourth = (attempt for attempt in attempts if attempt)
        write_run(first.folder, [0.9])
        assert search.finish(first, 0) == "finished"
        second.log.write_text("mlp: 9 parameters\nzoo: error: recipe.lr is 3: it must be less\n")
        assert search.finish(second, 2) == "failed"
        assert search.finish(third, -9) == "failed"
        write_run(fourth.folder, [0.1], status="diverged")
        assert search.finish(fourth, 1) == "diverged"
        shown_all = [shown(search, trial) for trial in search.trials()]
        assert shown_all[0] == "validation accuracy 90.00 %"
        assert shown_all[1] == "failed: recipe.lr is 3: it must be less"
        assert shown_all[2] == "failed: its process was ended by SIGKILL, perhaps for want of memory"
        assert shown_all[3] == "diverged after 1 epoch, validation accuracy 10.00 %"
        assert search.next() is None
    with searching(tmp_path / "s", make_plan(4)) as search:
        assert search.left == 2


def test_a_run_without_the_metric_has_failed(tmp_path: Path) -> None:
    with searching(tmp_path / "s", make_plan(1)) as search:
        attempt = search.next()
        assert attempt is not None
        write_run(attempt.folder, [])
        assert search.finish(attempt, 0) == "failed"
        assert shown(search, search.trials()[0]) == "failed: the run has no val/acc"


def test_when_all_fail_the_rest_is_not_tried(tmp_path: Path) -> None:
    with searching(tmp_path / "s", make_plan(20)) as search:
        count = 0
        while (attempt := search.next()) is not None:
            search.finish(attempt, 2)
            count += 1
        assert count == 3
        assert best_command(search) is None


def test_another_question_needs_another_name(tmp_path: Path) -> None:
    with searching(tmp_path / "s", make_plan()):
        pass
    for plan, message in (
        (make_plan(varied=(LR,)), "its vary were"),
        (make_plan(seed=3), "its seed were 0 and are 3"),
        (make_plan(monitor="val/loss"), "take another --name"),
        (Plan(("--model", "lenet5"), (LR, OPTIMIZER), "val/acc", 12, 0), "its options were --model=mlp"),
    ):
        with pytest.raises(UserError, match=message), searching(tmp_path / "s", plan):
            pass


def test_one_process_at_a_time_has_a_search(tmp_path: Path) -> None:
    again = searching(tmp_path / "s", make_plan())
    with searching(tmp_path / "s", make_plan()), pytest.raises(UserError, match="another process is at the search"):
        again.__enter__()
    with searching(tmp_path / "s", make_plan()):
        pass


def test_the_storage_is_the_file_that_was_named_whatever_signs_its_name_has(tmp_path: Path) -> None:
    folder = tmp_path / "a b%20?c=d{e}#f"
    with searching(folder, make_plan(1)) as search:
        drive(search)
    assert {path.name for path in folder.iterdir()} == {".lock", "study.db", "trials"}
    with searching(folder, make_plan(1)) as search:
        assert search.next() is None


@pytest.mark.parametrize("content", [b"no data base at all, but text " * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_storage_is_said_in_a_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.db").write_bytes(content)
    search = opened(make_plan(), tmp_path / "s", tmp_path / "x.db")
    with pytest.raises(UserError, match="cannot be used as a storage of Optuna") as caught:
        search.__enter__()
    assert "\n" not in str(caught.value)
    assert (tmp_path / "x.db").read_bytes() == content


@pytest.mark.parametrize("is_new", [False, True])
def test_of_a_storage_that_cannot_be_begun_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_new: bool
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    place, folder = tmp_path / "x.db", tmp_path / "runs/search/s"
    if not is_new:
        with opened(make_plan(), tmp_path / "other", place):
            pass
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr("optuna.create_study", fail)
    with pytest.raises(UserError, match=r"x\.db' cannot be used as a storage of Optuna: database or disk is full"):
        opened(make_plan(), folder, place).__enter__()
    assert sorted(tmp_path.rglob("*")) == before


# What is shown


def test_the_table_is_sorted_and_the_command_has_the_best(tmp_path: Path) -> None:
    with searching(tmp_path / "s", make_plan(5)) as search:
        seen = drive(search)
        found = table(search)
        reached = [max(accuracy(one)) for one in seen]
        order = sorted(range(5), key=lambda number: -reached[number])
        assert [record["trial"] for record in found.records] == order
        assert [record["val/acc"] for record in found.records] == [reached[number] for number in order]
        best = seen[order[0]]
        expected = ["zoo", "fit", "--model", "mlp", *(word for pair in best.items() for word in pair)]
        assert shlex.split(best_command(search) or "") == expected
        files = {path.name: path for path in write_report(search)}
    assert files.keys() == {"report.md", "table.csv", "table.tex", "history.png", "parallel.png"}
    assert all(files[name].read_bytes()[1:4] == b"PNG" for name in ("history.png", "parallel.png"))
    assert files["table.csv"].read_text() == markup.csv_text(found)
    assert shlex.join(expected) in files["report.md"].read_text()


def test_places_on_the_axes_go_from_0_to_1() -> None:
    assert [place(LR, value) for value in ("0.0001", "0.1")] == [0.0, 1.0]
    assert place(LR, "0.001") == pytest.approx(1 / 3)
    assert place(Range("x", 2.0, 6.0), "3") == 0.25
    assert place(OPTIMIZER, "adamw") == 1.0
    assert ticks(LR)[1] == (0.5, "0.00316")
    assert ticks(Range("x", 2.0, 6.0))[1] == (0.5, "4")


# Processes


class Prepared(Search):
    """A search whose runs are there before they begin: its processes do next to nothing."""

    def next(self) -> Attempt | None:
        attempt = super().next()
        if attempt is not None:
            write_run(attempt.folder, accuracy(settings(attempt)))
            attempt.words[:] = ["--version"]
        return attempt


def words_of(attempt: Attempt, word: str) -> str:
    return f"{attempt.trial.number} {word}"


def test_trials_are_worked_off_in_processes(tmp_path: Path) -> None:
    ended, polls = list[str](), list[int]()
    with searching(tmp_path / "s", make_plan(3)) as search:
        prepared = Prepared(search.plan, search.study, search.folder)
        run_local(prepared, 2, lambda attempt, word: ended.append(words_of(attempt, word)), lambda: polls.append(1))
    assert sorted(ended) == ["0 finished", "1 finished", "2 finished"]
    assert polls
    assert (tmp_path / "s/trials/0000.log").read_text().startswith("zoo ")


def test_ray_tune_spreads_the_same_trials(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    from zoo.cli.search_ray import run_ray

    ended = list[str]()
    with searching(tmp_path / "local", make_plan(2)) as search:
        expected = drive(search)
    with searching(tmp_path / "s", make_plan(2)) as search:
        prepared = Prepared(search.plan, search.study, search.folder)
        run_ray(prepared, 2, None, lambda attempt, word: ended.append(words_of(attempt, word)), lambda: None)
        words = [trial.user_attrs["settings"] for trial in search.trials()]
    assert words == [[word for pair in one.items() for word in pair] for one in expected]
    assert sorted(ended) == ["0 finished", "1 finished"]
    assert not (tmp_path / "s/.ray").exists()


def test_each_of_several_trials_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [device_of(slot) for slot in range(3)] == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert [device_of(slot) for slot in range(3)] == ["5", "7", "5"]
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert device_of(0) is None


def test_a_trial_ends_with_the_process_that_started_it() -> None:
    """SIGKILL gives the search no chance to stop it: it sees the end of its standard input."""
    child = "import time, zoo.cli.search_child as child, threading; "
    child += (
        "threading.Thread(target=child._end_with_parent, daemon=True).start(); print('up', flush=True); time.sleep(60)"
    )
    parent = f"import subprocess, sys, time\nprocess = subprocess.Popen([sys.executable, '-c', {child!r}], "
    parent += "stdin=subprocess.PIPE, start_new_session=True)\nprint(process.pid, flush=True)\ntime.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = {process.stdout.readline().strip(), process.stdout.readline().strip()}
        (pid,) = (int(line) for line in lines - {"up"})
        process.kill()
        assert process.stdout.read() == ""  # until the child, which has this pipe too, is gone
    assert not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_search_killed_with_9_goes_on_where_it_was(zoo_main: Zoo, tmp_path: Path) -> None:
    """The installed command, killed in the first trial; then the same command in this process."""
    words = ["search", "--name", "s", "--model", "mlp", "--recipe.epochs", "40", "--data.train_size", "1000"]
    words += ["--trials", "1", "--vary", "recipe.lr=log:1e-4..1e-2"]
    metrics = tmp_path / "runs/search/s/trials/0000/metrics.csv"
    with subprocess.Popen(command(*words), cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL) as process:
        wait_for(lambda: metrics.is_file() and len(metrics.read_text().splitlines()) > 3)
        process.send_signal(signal.SIGKILL)
    before = metrics.read_text().splitlines()
    outcome = zoo_main(*words)
    assert outcome.status == 0, outcome.err
    assert "1 trial to do, 0 are done" in outcome.out
    after = metrics.read_text().splitlines()
    assert after[: len(before) - 1] == before[:-1]
    assert len(after) == 41
    record = json.loads((metrics.parent / "run.json").read_text())
    assert record["status"] == "finished"
    assert "test/acc" not in record["metrics"]
    assert len(record["earlier"]) == 1
    (line,) = (line for line in outcome.out.splitlines() if line.startswith("next:"))
    assert shlex.split(line)[1:-2] == ["zoo", "fit", *words[3:9]]


def wait_for(holds: Callable[[], bool], seconds: float = 120.0) -> None:
    """Until something holds; a test that waits in vain fails."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
