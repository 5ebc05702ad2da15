"""Which images are used for what: subsets, fractions, folds, and the two orders of an epoch."""

import pickle
import re
from typing import Any

import numpy as np
import pytest
import yaml

from zoo.datamodules import Digits, Fake
from zoo.datamodules.arrays import Arrays, Split
from zoo.datamodules.sampler import TrainSampler, balanced_order
from zoo.datamodules.splits import Selection, class_numbers, limit


def numbered(counts: list[int]) -> Split:
    """One-pixel images that bear their own number, `counts[k]` of class k."""
    labels = np.repeat(np.arange(len(counts)), counts)
    images = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
    return Split.of(Arrays(images, labels))


def positions(data: Fake | Digits, name: str) -> set[int]:
    return set(data.splits[name].positions.tolist())


def test_folds_cover_every_training_image_once_and_keep_the_shares() -> None:
    folds = []
    for fold in range(5):
        data = Fake(num_samples=200, image_size=8, kfold=5, fold=fold)
        data.setup()
        assert data.sizes == {"train": 160, "val": 40, "test": 40}
        assert np.bincount(data.splits["val"].labels).tolist() == [4] * 10
        assert not positions(data, "train") & positions(data, "val")
        folds.append(positions(data, "val"))
    assert set().union(*folds) == set(range(200))
    assert sum(map(len, folds)) == 200


@pytest.mark.parametrize(("option", "value"), [("train_fraction", 0.25), ("train_size", 45)])
def test_part_of_the_training_split_keeps_the_shares_and_leaves_the_rest_alone(option: str, value: float) -> None:
    whole, part = Fake(num_samples=200, image_size=8), Fake(num_samples=200, image_size=8, **{option: value})
    for data in (whole, part):
        data.setup()
    assert part.sizes == {"train": 45, "val": 20, "test": 40}
    assert positions(part, "train") < positions(whole, "train")
    assert positions(part, "val") == positions(whole, "val")
    assert set(np.bincount(part.splits["train"].labels).tolist()) == {4, 5}
    assert part.class_counts == np.bincount(part.splits["train"].labels).tolist()


def test_all_of_the_training_split_is_no_change() -> None:
    for option in ({"train_fraction": 1.0}, {"train_size": 180}):
        data = Fake(num_samples=200, image_size=8, **option)
        data.setup()
        assert data.sizes["train"] == 180


def test_subset_of_classes_is_renumbered_in_the_order_given() -> None:
    data, whole = Digits(class_subset=["7", 3]), Digits()
    data.setup()
    whole.setup()
    assert (data.num_classes, data.class_names) == (2, ["7", "3"])
    test, all_of_it = data.splits["test"], whole.splits["test"]
    assert set(test.positions[test.labels == 0]) == set(all_of_it.positions[all_of_it.labels == 7])
    assert set(test.positions[test.labels == 1]) == set(all_of_it.positions[all_of_it.labels == 3])
    assert data.describe()["args"]["class_subset"] == ["7", 3]
    assert data.describe()["class_names"] == ["7", "3"]


def test_names_win_over_numbers() -> None:
    assert class_numbers(["2", 0], ["2", "1", "0"]) == [0, 2]
    assert class_numbers([1, "cat"], ["cat", "dog"]) == [1, 0]
    assert class_numbers([10, 3], [*"0123456789AB"]) == [10, 3], "as in emnist"


@pytest.mark.parametrize("subset", [yaml.safe_load(text) for text in ("[01, 02]", "[010, 011]", "[1, 2]")])
@pytest.mark.parametrize("others", [[], ["other"]])
def test_numbers_are_not_places_where_names_have_leading_zeros(subset: list[int], others: list[str]) -> None:
    names = [f"{number:02}" for number in range(1, 12)] + [f"{number:03}" for number in range(12)] + others
    advice = "but classes are called 01, 02, ...: write names in quotes, as \"['01', '02']\""
    with pytest.raises(ValueError, match=f"^class_subset has the number {subset[0]}, {re.escape(advice)}$"):
        class_numbers(subset, names)
    assert class_numbers(["01", "010"], names) == [0, 21]
    with pytest.raises(ValueError, match=r"^unknown class '1': did you mean '01'\? "):
        class_numbers(["1", "02"], ["01", "02", "03"])


def test_numbers_are_not_places_where_all_names_are_numbers() -> None:
    assert class_numbers([20, "10"], ["10", "20", "30"]) == [1, 0]
    with pytest.raises(ValueError, match=r"^unknown class '1': did you mean '10'\? choose from 10, 20, 30$"):
        class_numbers([1, 2], ["10", "20", "30"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_subset": ["3", "ten"]}, "unknown class 'ten'"),
        ({"class_subset": ["3"]}, "class_subset must name at least two classes, each once, not ['3']"),
        ({"class_subset": ["3", 3]}, "class_subset must name at least two classes, each once, not ['3', 3]"),
        ({"train_size": 2000}, "train_size is 2000, but the training split has 1293 images"),
        ({"train_size": 5}, "5 training images are too few: each of 10 classes needs one"),
        ({"train_size": 1}, "1 training images are too few: each of 10 classes needs one"),
        ({"permute_pixels": -1}, "permute_pixels must be a whole number of at least 0, not -1"),
        ({"train_size": 0}, "train_size must be a whole number of at least 1, not 0"),
        ({"train_fraction": 1.5}, "train_fraction must lie between 0 and 1"),
        ({"train_size": 50, "train_fraction": 0.5}, "train_size is 50 and train_fraction is 0.5: give one"),
        ({"kfold": 5}, "kfold is 5: give fold too, 0 to 4"),
        ({"kfold": 5, "fold": 5}, "fold (with kfold) must be a whole number of at least 0 and at most 4, not 5"),
        ({"kfold": 1, "fold": 0}, "kfold must be a whole number of at least 2, not 1"),
        ({"fold": 1}, "fold is 1, but there are no folds: give kfold too"),
        ({"kfold": 5, "fold": 0, "val_size": 0.2}, "kfold is 5 and val_size is 0.2: give one"),
        ({"kfold": 900, "fold": 0}, "kfold is 900, but a class has only 139 training images: use at most 139"),
        ({"sampler": "balance"}, "unknown sampler 'balance': did you mean 'balanced'?"),
        ({"normalize": "no"}, "unknown normalize 'no'"),
    ],
)
def test_wrong_options_are_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)) as error:
        Digits(**options).setup()
    assert "\n" not in str(error.value)


def test_validation_images_of_the_dataset_are_kept_and_val_size_is_refused() -> None:
    parts = {"train": numbered([5, 5]), "val": numbered([2, 2])}
    assert Selection().apply(parts, ["a", "b"])["val"] is parts["val"]
    with pytest.raises(ValueError, match=r"^val_size is 0\.3, but the dataset has validation images of its own$"):
        Selection(val_size=0.3).apply(parts, ["a", "b"])
    with pytest.raises(ValueError, match=r"^kfold is 2, but the dataset has validation images of its own$"):
        Selection(kfold=2, fold=0).apply(parts, ["a", "b"])


@pytest.mark.parametrize("empty", ["val", "test"])
def test_subset_of_classes_must_leave_images_in_every_split(empty: str) -> None:
    whole, other = numbered([20, 20, 20]), numbered([20, 20, 20])
    parts = {"train": whole, "val": whole, "test": whole, empty: other.take(np.arange(40, 60))}
    message = f"class_subset is a, b, but there are no {empty} images of these classes"
    with pytest.raises(ValueError, match=f"^{message}$"):
        Selection(class_subset=("a", "b")).apply(parts, ["a", "b", "c"])
    with pytest.raises(ValueError, match=f"^{message}$"):
        Selection(class_subset=("a", "b")).apply({empty: other.take(np.arange(0))}, ["a", "b", "c"])
    sizes = {name: len(part) for name, part in Selection(class_subset=("c", "a")).apply(parts, ["a", "b", "c"]).items()}
    assert sizes == {"train": 40, "val": 40, "test": 40, empty: 20}, "not every class need be there"


@pytest.mark.parametrize("size", [3, 4, 50, 99, 100, 0.03, 0.999])
def test_every_size_of_the_training_split_can_be_had(size: int | float) -> None:
    whole = numbered([70, 28, 2])
    part = limit(whole, size, seed=1)
    assert len(part) == (size if isinstance(size, int) else round(100 * size))
    counts = np.bincount(part.labels, minlength=3)
    assert counts.min() >= 1
    assert (abs(counts - len(part) * np.array([0.7, 0.28, 0.02])) < 2).all()
    assert set(part.positions) <= set(whole.positions) and len(set(part.positions)) == len(part)


def test_smaller_parts_are_within_larger_ones() -> None:
    whole = numbered([50, 50])
    sizes = [set(limit(whole, size, seed=3).positions) for size in (10, 20, 60)]
    assert sizes[0] < sizes[1] < sizes[2]
    assert sizes[0] != set(limit(whole, 10, seed=4).positions)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_an_epoch_without_drop_last_visits_every_image_exactly_once(world: int) -> None:
    data, size = numbered([40, 27]), 12
    for epoch in range(2):
        seen, steps = [], set()
        for rank in range(world):
            sampler = TrainSampler(data, size, seed=1, rank=rank, world=world, drop_last=False)  # type: ignore[arg-type]
            sampler.epoch = epoch
            batches = list(sampler)
            assert len(batches) == len(sampler)
            assert {number for _, number in batches} == {epoch}
            seen += [row for rows, _ in batches for row in rows.tolist()]
            steps.add(len(batches))
        assert sorted(seen) == list(range(67))
        assert steps == {6}, "every process makes the same number of steps"


@pytest.mark.parametrize("world", [1, 2, 3])
def test_an_epoch_with_drop_last_visits_no_image_twice_and_has_full_batches(world: int) -> None:
    data = numbered([40, 27])
    seen = []
    for rank in range(world):
        batches = list(TrainSampler(data, 12, seed=1, rank=rank, world=world))  # type: ignore[arg-type]
        assert [len(rows) for rows, _ in batches] == [12 // world] * 5
        seen += [row for rows, _ in batches for row in rows.tolist()]
    assert len(set(seen)) == 60


def test_balanced_epochs_show_all_classes_equally_and_no_image_needlessly_often() -> None:
    labels = np.repeat([0, 1, 2], [90, 9, 2])
    first, again, other = balanced_order(labels, 0, 0), balanced_order(labels, 0, 0), balanced_order(labels, 0, 1)
    assert first.tolist() == again.tolist() != other.tolist()
    for order in (first, other):
        assert len(order) == 101
        assert len(set(order.tolist())) == 101, "every repetition has a number of its own"
        assert sorted(np.bincount(labels[order % 101])) == [33, 34, 34]
        times = np.bincount(order % 101, minlength=101)
        assert set(times[:90]) <= {0, 1}
        assert set(times[90:99]) <= {3, 4}
        assert set(times[99:]) <= {16, 17}


def test_repeated_images_are_augmented_anew() -> None:
    data = Fake(num_samples=100, num_classes=3, image_size=8, batch_size=30, sampler="balanced", augment="strong")
    data.setup()
    labels = data.splits["train"].labels
    rare = np.flatnonzero(labels == 1)[:1]
    data.splits["train"] = data.splits["train"].take(np.sort(np.concatenate([rare, np.flatnonzero(labels != 1)])))
    batches = list(data.train_dataloader())
    pictures = [image.numpy().tobytes() for images, found in batches for image in images[found == 1]]
    assert len(pictures) > 15
    assert len(set(pictures)) == len(pictures)


def test_balanced_loader() -> None:
    data = Fake(num_samples=100, num_classes=3, image_size=8, batch_size=18, sampler="balanced", train_size=90)
    data.setup()
    data.splits["train"] = data.splits["train"].take(np.flatnonzero(data.splits["train"].labels != 2)[:40])
    labels = np.concatenate([labels.numpy() for _, labels in data.train_dataloader()])
    assert np.bincount(labels).tolist() in ([18, 18], [17, 19], [19, 17], [16, 20], [20, 16])


def test_processes_that_are_not_forked_share_the_images() -> None:
    from multiprocessing.reduction import ForkingPickler

    arrays = Arrays(np.arange(8, dtype=np.uint8).reshape(2, 2, 2, 1), np.arange(2))
    first, second = pickle.loads(ForkingPickler.dumps(arrays)), pickle.loads(ForkingPickler.dumps(arrays))
    assert np.array_equal(first.images, arrays.images)
    arrays.images[0, 0, 0, 0] = 99
    assert first.images[0, 0, 0, 0] == second.images[0, 0, 0, 0] == 99, "one copy for all"
