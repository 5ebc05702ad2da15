"""The order of images over epochs and devices."""

import json

import pytest

from tests.conftest import run_two_processes
from zoo.datamodules import Digits
from zoo.datamodules.sampler import EvalSampler, TrainSampler, epoch_and_step, epoch_order, fitting_batch_size


def rows(sampler: TrainSampler | EvalSampler) -> list[int]:
    return [row for batch, _ in sampler for row in batch.tolist()]


@pytest.mark.parametrize("world", [1, 2, 4])
def test_ranks_share_each_global_batch(world: int) -> None:
    data, batch = list(range(50)), 8
    shares = [rows(TrainSampler(data, batch, seed=3, rank=rank, world=world)) for rank in range(world)]
    order = epoch_order(50, 3, 0).tolist()
    each = batch // world
    for step in range(6):
        dealt = [index for share in shares for index in share[step * each : (step + 1) * each]]
        assert sorted(dealt) == sorted(order[step * batch : (step + 1) * batch])
    assert all(len(share) == 6 * each for share in shares)
    assert len(TrainSampler(data, batch, seed=3, world=world)) == 6


@pytest.mark.parametrize("images", [1, 9, 10, 11])
@pytest.mark.parametrize("world", [1, 2])
def test_evaluation_takes_every_image_once(images: int, world: int) -> None:
    samplers = [EvalSampler(list(range(images)), 3, rank=rank, world=world) for rank in range(world)]
    assert sorted(index for sampler in samplers for index in rows(sampler)) == list(range(images))
    assert all(len(batch) <= 3 for sampler in samplers for batch, _ in sampler)
    assert [len(sampler) for sampler in samplers] == [len(list(sampler)) for sampler in samplers]


def test_epochs_differ_and_count_themselves() -> None:
    sampler = TrainSampler(list(range(20)), 5, seed=0)
    assert [epoch for _, epoch in sampler] == [0] * 4
    assert [epoch for _, epoch in sampler] == [1] * 4
    sampler.set_epoch(0)
    first, second = rows(sampler), rows(sampler)
    assert first != second
    assert sorted(first) == sorted(second) == list(range(20))
    sampler.set_epoch(1)
    assert rows(sampler) == second


def test_position_skips_what_is_done() -> None:
    whole = rows(TrainSampler(list(range(20)), 4, seed=0, position=lambda steps: (2, 0)))
    sampler = TrainSampler(list(range(20)), 4, seed=0, position=lambda steps: (2, 3))
    assert rows(sampler) == whole[12:]
    assert len(sampler) == 5


def test_position_is_asked_for_when_the_epoch_starts() -> None:
    asked = []
    sampler = TrainSampler(list(range(20)), 4, seed=0, position=lambda steps: asked.append(steps) or (0, 0))
    iterator = iter(sampler)
    assert asked == []
    next(iterator)
    assert asked == [5]


@pytest.mark.parametrize(
    ("done", "limit", "expected"),
    [(0, 1.0, (0, 0)), (9, 1.0, (0, 9)), (10, 1.0, (1, 0)), (10, 4, (2, 2)), (12, 0.5, (2, 2)), (12, 99, (1, 2))],
)
def test_epoch_and_step(done: int, limit: int | float, expected: tuple[int, int]) -> None:
    assert epoch_and_step(done, 10, limit) == expected


def test_fitting_batch_size() -> None:
    assert fitting_batch_size(128, 1000, 4) == 128
    assert fitting_batch_size(128, 103, 4) == 100
    with pytest.raises(ValueError, match=r"^batch_size 130 cannot be shared equally by 4 devices: use 128$"):
        fitting_batch_size(130, 1000, 4)
    with pytest.raises(ValueError, match=r"^batch_size 1 cannot be shared equally by 2 devices: use 2$"):
        fitting_batch_size(1, 1000, 2)
    with pytest.raises(ValueError, match=r"^3 training images are too few for 4 devices: use at most 3 devices$"):
        fitting_batch_size(128, 3, 4)


def test_last_batch_is_left_out_of_training_only() -> None:
    data = Digits(batch_size=100)
    assert [len(labels) for _, labels in data.train_dataloader()] == [100] * 12
    assert [len(labels) for _, labels in data.val_dataloader()] == [100, 44]
    assert [len(labels) for _, labels in data.test_dataloader()] == [100, 100, 100, 60]


@pytest.mark.parametrize(("last", "workers"), [("drop", 0), ("keep", 0), ("keep", 2)])
def test_two_processes_visit_every_image_once(last: str, workers: int) -> None:
    printed = run_two_processes("epoch_on_two_processes.py", last, str(workers))
    (line,) = [line for line in printed.splitlines() if line.startswith("[[")]
    epochs = json.loads(line)
    assert len(epochs) == 2
    for parts in epochs:
        train = parts[0]["train"] + parts[1]["train"]
        assert len(train) == len(set(train)) == (100 if last == "drop" else 107)
        assert sorted(parts[0]["val"] + parts[1]["val"]) == list(range(107))
    assert epochs[0][0]["train"] != epochs[1][0]["train"]
