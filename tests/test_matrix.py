"""Families, precisions, processes, compiled or not: the loss falls, and checkpoints move between all of them."""

import json
from collections.abc import Iterator
from itertools import pairwise, product
from pathlib import Path

import pytest
import torch

import zoo
from tests.conftest import run_two_processes
from tests.matrix import BACKEND, DTYPES, SIZES, network, small, train
from zoo.checkpoint import load_weights, read_checkpoint

Losses = dict[str, list[float]]


@pytest.fixture(autouse=True)
def small_networks() -> Iterator[None]:
    with small():
        yield


@pytest.fixture(scope="module")
def on_two_processes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Losses]:
    """The folder of the checkpoints, and the losses of each run."""
    folder = tmp_path_factory.mktemp("two")
    seconds = 240 if BACKEND == "aot_eager" else 3600
    printed = run_two_processes("matrix_on_two_processes.py", str(folder), timeout=seconds)
    return folder, dict(json.loads(line) for line in printed.splitlines() if line.startswith("["))


@pytest.mark.filterwarnings("ignore:not an exact resume")
@pytest.mark.parametrize(("name", "compiled"), [*product(SIZES, [False]), ("mlp", True), ("lenet5", True)])
def test_a_family_in_every_precision(name: str, compiled: bool, tmp_path: Path) -> None:
    files = {precision: tmp_path / f"{precision}.ckpt" for precision in DTYPES}
    losses = {precision: train(name, precision, file, epochs=2, compiled=compiled) for precision, file in files.items()}
    check_learning(losses)
    check_checkpoints(name, files)
    for source, target in pairwise([*DTYPES, "32-true"]):  # training goes on, in another precision
        found = train(name, target, tmp_path / "next", epochs=3, start=files[source], compiled=not compiled)
        assert len(found) == 1
        assert found[0] < losses[source][0], (source, target)


@pytest.mark.filterwarnings("ignore:not an exact resume")
@pytest.mark.parametrize(("name", "compiled"), [*product(SIZES, [False, True])])
def test_a_family_on_two_processes(
    name: str, compiled: bool, on_two_processes: tuple[Path, Losses], tmp_path: Path
) -> None:
    folder, found = on_two_processes
    files = {precision: folder / f"{name}-{precision}-{compiled}.ckpt" for precision in DTYPES}
    losses = {precision: found[file.stem] for precision, file in files.items()}
    check_learning(losses)
    check_checkpoints(name, files)
    (third,) = train(name, "32-true", tmp_path / "next", epochs=3, start=files["bf16-mixed"], compiled=False)
    assert third < losses["bf16-mixed"][0], "goes on, on one process"


def check_learning(losses: Losses) -> None:
    """Losses of two epochs, by precision."""
    for precision, (first, second) in losses.items():
        assert second < first, precision
        assert first == pytest.approx(losses["64-true"][0], rel=0.03), "the same run but for rounding"


def check_checkpoints(name: str, files: dict[str, Path]) -> None:
    """Checkpoints by precision: the same tensors, of the precision's kind, which load into networks of all of them."""
    states = {precision: read_checkpoint(file)["state_dict"] for precision, file in files.items()}
    model = network(name)
    for target, dtype in DTYPES.items():
        assert list(states[target]) == list(model.state_dict())
        assert {tensor.dtype for tensor in states[target].values() if tensor.is_floating_point()} == {dtype}
        model.to(dtype)
        for source, state in states.items():
            load_weights(model, {"state_dict": state}, source)
            for key, tensor in model.state_dict().items():
                torch.testing.assert_close(tensor, state[key].to(tensor.dtype), rtol=0, atol=0)
    assert zoo.load(files["bf16-true"])(torch.zeros(1, 3, SIZES[name], SIZES[name])).dtype == torch.float32
