"""`zoo tune`: Lightning's finders, their curves, and what they leave behind."""

import errno
import json
import math
import os
import shlex
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.tuner.lr_finder import _LRCallback
from lightning.pytorch.tuner.tuning import Tuner

from tests.conftest import Zoo
from zoo.cli import front, tune
from zoo.cli.tune import GREATEST_RATE, LEAST_RATE, RATES, TuneCLI, find_batch_size, find_rate, fit_command
from zoo.cli.tune_curve import FIRST_POINTS, steepest, unbiased
from zoo.cli.tune_memory import bytes_per_image

NETWORK = ("--model", "mlp", "--model.hidden", "[16]")
SMALL = (*NETWORK, "--data.train_size", "256")


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Temporary files in a folder of the test's own, so that it sees what is left."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def make(scratch: Path, *words: str, images: int = 256) -> TuneCLI:
    return TuneCLI(front.prepare("fit", [*NETWORK, "--data.train_size", str(images), *words]), scratch)


# The curve


def test_averages_of_a_constant_loss_are_that_loss() -> None:
    """Against Lightning's own callback, fed with a loss of 3: it shows 1.51 for the first step."""
    from types import SimpleNamespace

    callback, trainer = _LRCallback(10), SimpleNamespace(fit_loop=SimpleNamespace(batch_idx=0), should_stop=False)
    trainer.accumulate_grad_batches, trainer.strategy = 1, SimpleNamespace(broadcast=lambda value: value)
    for step in range(1, 6):
        trainer.global_step = step
        callback.on_train_batch_end(trainer, None, torch.tensor(3.0), None, 0)
    assert callback.losses[0] == pytest.approx(1.515, abs=1e-3)
    assert unbiased(callback.losses) == pytest.approx([3.0] * 5)


def test_averages_end_where_there_is_no_number() -> None:
    assert len(unbiased([1.0, 1.0, math.nan, 1.0])) == 2
    assert unbiased([math.inf]) == []


@pytest.mark.parametrize("middle", [30, 50, 70])
def test_the_steepest_place_of_a_logistic_fall_is_its_middle(middle: int) -> None:
    losses = [2.3 / (1 + math.exp((place - middle) / 5)) for place in range(100)]
    assert steepest(losses) == middle


def test_what_falls_after_the_least_loss_does_not_count() -> None:
    """A network that diverged may fall back from a high loss, which says nothing about good rates."""
    fall = [2.0 - 0.01 * place for place in range(60)]
    assert steepest([*fall, 9.0, 9.0, 9.0, 2.0, 2.0, 2.0, 2.0]) in range(FIRST_POINTS, 60)


@pytest.mark.parametrize("losses", [[], [1.0] * 5, [1.0] * 100, [float(place) for place in range(100)]])
def test_a_loss_that_does_not_fall_has_no_steepest_place(losses: list[float]) -> None:
    assert steepest(losses) is None


# The finders


def test_a_rate_is_found_and_nothing_else_is_left(zoo_main: Zoo, tmp_path: Path, scratch: Path) -> None:
    outcome = zoo_main("tune", *SMALL, "--recipe.lr", 0.5, "--run_dir", "found")
    assert outcome.status == 0, outcome.err
    assert outcome.err == ""
    record = json.loads((tmp_path / "found/tune.json").read_text())
    rates, rate = record["lr"]["rates"], record["lr"]["found"]
    assert LEAST_RATE < rate < GREATEST_RATE
    ratio = (GREATEST_RATE / LEAST_RATE) ** (1 / RATES)
    assert all(after / before == pytest.approx(ratio, rel=1e-6) for before, after in pairwise(rates[1:]))
    assert len(record["lr"]["losses"]) == len(rates) <= RATES
    assert (tmp_path / "found/lr.png").read_bytes()[1:4] == b"PNG"
    command = shlex.split(outcome.out.splitlines()[-1].partition("next:")[2])
    assert command == ["zoo", "fit", *SMALL, "--recipe.lr", str(rate)]
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"tune.json", "lr.png"}
    assert not list(scratch.iterdir())


def test_a_place_that_is_no_folder_is_said_before_the_test(zoo_main: Zoo, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in ("file", "file/below"):
        outcome = zoo_main("tune", *SMALL, "--run_dir", place)
        assert (outcome.status, outcome.out) == (2, "")
        assert outcome.err == "zoo: error: 'file' is a file: name a folder\n"


def test_of_files_that_cannot_be_written_none_is_left(
    zoo_main: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*rest: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(rest[-1]))

    (tmp_path / "before").mkdir()
    (tmp_path / "before/tune.json").write_text("old")
    monkeypatch.setattr(tune, "draw", fail)
    for place in ("before", "new/folder"):
        outcome = zoo_main("tune", *SMALL, "--run_dir", place)
        assert (outcome.status, outcome.err) == (2, f"zoo: error: no space left on device: '{place}/lr.png'\n")
    assert [path.name for path in (tmp_path / "before").iterdir()] == ["tune.json"]
    assert (tmp_path / "before/tune.json").read_text() == "old"
    assert not (tmp_path / "new").exists()


def test_schedule_warm_up_and_averages_have_no_part_in_the_test(scratch: Path) -> None:
    plain = make(scratch, "--recipe.schedule", "constant")
    other = make(scratch, "--recipe.warmup_epochs", "3", "--recipe.ema", "0.9", "--recipe.schedule", "cosine")
    curves = [find_rate(cli, Tuner(cli.trainer)) for cli in (plain, other)]
    assert curves[0].losses == curves[1].losses
    assert curves[0].suggestion == curves[1].suggestion


def test_weights_are_put_back_and_a_loss_that_is_no_number_ends_the_test(scratch: Path) -> None:
    cli = make(scratch)
    before = {name: value.clone() for name, value in cli.model.state_dict().items()}
    forward, calls = cli.model.forward, [0]

    def diverge(images: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        return forward(images) * (math.inf if calls[0] > 80 else 1)

    cli.model.forward = diverge  # type: ignore[method-assign]
    curve = find_rate(cli, Tuner(cli.trainer))
    assert len(curve.rates) == len(curve.losses) == 80
    assert all(map(math.isfinite, curve.losses))
    after = cli.model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_batch_is_doubled_up_to_the_number_of_images(scratch: Path) -> None:
    cli = make(scratch, images=80)
    size = find_batch_size(cli, Tuner(cli.trainer))
    images = cli.datamodule.sizes["train"]
    assert size.images == 2 ** int(math.log2(images))
    assert f"{images} training images" in size.reason


def test_a_batch_ends_where_memory_does(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cli = make(scratch, images=80)
    need = bytes_per_image(cli.model)
    monkeypatch.setattr(tune, "free_memory", lambda: int(need * 10 / tune.SHARE_OF_MEMORY))
    size = find_batch_size(cli, Tuner(cli.trainer))
    assert (size.images, size.reason) == (8, "more would fill the memory")


def test_a_batch_that_torch_has_no_memory_for_is_halved(scratch: Path) -> None:
    cli = make(scratch, images=80)
    forward = cli.model.forward

    def refuse(images: torch.Tensor) -> torch.Tensor:
        if len(images) > 20:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
        return forward(images)

    cli.model.forward = refuse  # type: ignore[method-assign]
    size = find_batch_size(cli, Tuner(cli.trainer))
    assert (size.images, size.reason) == (16, "twice as many do not fit into memory")


@pytest.mark.parametrize(("model", "size"), [("lenet5", 32), ("resnet20", 32)])
def test_memory_is_that_of_the_layers_outputs_or_somewhat_more(model: str, size: int) -> None:
    """What layers give is kept for the backward pass; each may keep its input too, and gradients as much again."""
    import zoo

    network = zoo.create_model(model, image_size=size)
    outputs: list[int] = []
    for layer in network.modules():
        if not list(layer.children()) and list(layer.parameters()):
            layer.register_forward_hook(lambda _layer, _inputs, output: outputs.append(output.nbytes))
    network(torch.zeros(1, network.in_channels, size, size))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert sum(outputs) < bytes_per_image(network) < 8 * sum(outputs)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


# The command


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--find", "rl"], "unknown thing to find 'rl'. Did you mean 'lr'?"),
        (["--recipe.optimizer", "lbfgs", "--recipe.weight_decay", "0"], "its line search finds the rate"),
        (["--trainer.devices", "2"], "trainer.devices is 2: zoo tune works on one"),
        (["--trainer.fast_dev_run", "true"], "fast_dev_run"),
        (["--ckpt_path", "x.ckpt"], "ckpt_path is x.ckpt"),
        (["--recipe.lrr", "2"], "unknown option --recipe.lrr. Did you mean --recipe.lr?"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(
    zoo_main: Zoo, tmp_path: Path, scratch: Path, words: list[str], message: str
) -> None:
    outcome = zoo_main("tune", *SMALL, *words)
    assert outcome.status == 2
    assert message in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == [scratch]
    assert not list(scratch.iterdir())


def test_a_rate_that_was_found_is_not_scaled_again(zoo_main: Zoo, tmp_path: Path) -> None:
    words = ("--model", "mlp", "--data.train_size", 400, "--recipe.batch_size", 20, "--recipe.scale_lr", "true")
    done = zoo_main("tune", *words, "--run_dir", "found")
    assert done.status == 0, done.err
    command = done.out.splitlines()[-1].split()
    assert command.count("--recipe.scale_lr") == 1
    assert command[command.index("--recipe.scale_lr") + 1] == "false"


def test_the_command_has_what_was_found_in_the_place_of_what_was_typed() -> None:
    words = "--model lenet5 --data.batch_size 64 --recipe.lr=0.1 --run_dir x --recipe paper"
    found: dict[str, Any] = {"recipe.batch_size": 256, "recipe.lr": 0.02}
    command = fit_command(words.split(), found)
    assert command == "zoo fit --model lenet5 --recipe.name paper --recipe.batch_size 256 --recipe.lr 0.02"
