"""Fine-tuning against training from random weights: same images for all methods, figures from the files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from zoo.benchmarks import transfer
from zoo.benchmarks.transfer import METHODS, RESULTS, SEEDS, digits_task, run, table, train

COMMITTED = sorted(path.stem for path in RESULTS.glob("*.json"))


@pytest.mark.parametrize("method", METHODS)
def test_a_cell_is_a_function_of_its_seed(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "STEPS", 3)
    task = digits_task()
    first, again = (train(task, "lenet5", 5, method, 1) for _ in range(2))
    assert first == again
    assert first.test_images == 360
    assert (first.accuracy < 0.6) == method.startswith("scratch")  # so few steps teach little


def test_all_methods_of_a_seed_see_the_same_images() -> None:
    task = digits_task()
    chosen = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(chosen))  # must not matter
        data = task.data(5, seed)
        data.setup("fit")
        chosen.append(data.splits["train"].positions)
        assert np.bincount(data.splits["train"].labels).tolist() == [5] * 10
    assert np.array_equal(chosen[0], chosen[1])
    assert not np.array_equal(chosen[0], chosen[2])


@pytest.mark.parametrize("name", COMMITTED)
def test_committed_results_are_complete_and_the_table_is_theirs(name: str) -> None:
    runs = json.loads((RESULTS / f"{name}.json").read_text())["runs"]
    cells = {(r["model"], r["per_class"]) for r in runs}
    assert len(runs) == len(cells) * len(METHODS) * len(SEEDS)
    assert (RESULTS / f"{name}.png").is_file()
    for model, per_class in cells:
        row = next(line for line in table(name).splitlines() if line.startswith(f"| `{model}` | {per_class} |"))
        for shown, method in zip(row.replace("*", "").split("|")[3:], METHODS, strict=False):
            values = [
                r["accuracy"] for r in runs if (r["model"], r["per_class"], r["method"]) == (model, per_class, method)
            ]
            mean, deviation = 100 * np.mean(values), 100 * np.std(values, ddof=1)
            assert shown.strip() == f"{mean:.1f} ± {deviation:.1f}"


def test_a_second_start_goes_on_where_the_first_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "RESULTS", tmp_path)
    monkeypatch.setattr(transfer, "SEEDS", range(2))
    trained: list[tuple[str, int, str, int]] = []

    def fake(_: object, model: str, per_class: int, method: str, seed: int) -> transfer.Run:
        if len(trained) == 5:
            raise KeyboardInterrupt
        trained.append((model, per_class, method, seed))
        return transfer.Run(model, per_class, method, seed, 0.5 + seed / 10, 360)

    monkeypatch.setattr(transfer, "train", fake)
    task = transfer.Task(("lenet5",), (5,), {"lenet5": "mnist"}, digits_task().data, new_classes=False)
    with pytest.raises(KeyboardInterrupt):
        run("digits", task, {})
    kept, trained[:] = [*trained], []
    run("digits", task, {})
    assert len(kept) == 5
    assert len(kept) + len(trained) == len({*kept, *trained}) == len(METHODS) * 2
    assert "| `lenet5` | 5 | **55.0 ± 7.1** |" in table("digits")
