"""Splits, batches and arguments of the DataModules that need no file."""

import hashlib
import io
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from zoo.datamodules import Digits, Fake, ImageDataModule, create_datamodule
from zoo.datamodules.arrays import Split
from zoo.datamodules.loader import default_num_workers
from zoo.datamodules.splits import cut_rows


def pixels(split: Split) -> np.ndarray:
    return np.stack(split.whole(np.arange(len(split))))


def rows(split: Split) -> set[bytes]:
    return {image.tobytes() for image in pixels(split)}


def digest(loader: DataLoader[Any], epochs: int = 1) -> list[str]:
    """One hash per epoch of all images and labels in their order."""
    hashes = []
    for _ in range(epochs):
        md5 = hashlib.md5(usedforsecurity=False)
        for images, labels in loader:
            md5.update(images.numpy().tobytes() + labels.numpy().tobytes())
        hashes.append(md5.hexdigest())
    return hashes


def test_digits_splits() -> None:
    data = Digits(seed=0)
    data.setup("fit")
    assert data.sizes == {"train": 1293, "val": 144, "test": 360}
    for split in data.splits.values():
        assert pixels(split).dtype == np.uint8
        assert pixels(split).shape[1:] == (8, 8, 1)
    assert max(pixels(split).max() for split in data.splits.values()) == 255


def test_fake_splits_are_disjoint_and_stratified() -> None:
    data = Fake(num_samples=1000, image_size=16, seed=4)
    data.setup()
    assert data.sizes == {"train": 900, "val": 100, "test": 200}
    assert len(set().union(*map(rows, data.splits.values()))) == 1200
    assert np.bincount(data.splits["val"].labels).tolist() == [10] * 10
    assert np.bincount(data.splits["test"].labels).tolist() == [20] * 10


@pytest.mark.parametrize("build", [Digits, Fake])
def test_seed_moves_the_validation_set_and_not_the_test_set(build: type[ImageDataModule]) -> None:
    first, second, again = build(seed=0), build(seed=1), build(seed=0)
    for data in (first, second, again):
        data.setup()
    assert rows(first.splits["test"]) == rows(second.splits["test"])
    assert rows(first.splits["val"]) != rows(second.splits["val"])
    assert np.array_equal(pixels(first.splits["val"]), pixels(again.splits["val"]))
    whole = [rows(data.splits["train"]) | rows(data.splits["val"]) for data in (first, second)]
    assert whole[0] == whole[1]


def test_setup_is_idempotent() -> None:
    data = Digits(seed=0)
    data.setup("fit")
    before = data.splits
    data.setup("test")
    assert data.splits is before


def test_to_test_nothing_is_held_out_for_validation() -> None:
    data = Digits(val_size=0.001, normalize="spec")
    data.use_normalization([0.3], [0.4])  # as a checkpoint says
    data.setup("test")
    whole = Digits()
    whole.setup()
    assert data.sizes == {"test": whole.sizes["test"]}
    with pytest.raises(ValueError, match=r"^cannot cut 0\.001 off "):
        data.setup("fit")
    data = Digits()
    data.use_normalization([0.3], [0.4])
    for stage in ("test", "validate", "test"):
        data.setup(stage)
    assert data.sizes == whole.sizes


def test_seed_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "42")
    assert Digits().seed == 42
    monkeypatch.delenv("PL_GLOBAL_SEED")
    assert Digits().seed == 0
    assert Digits(seed=7).seed == 7


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # on two processors
@pytest.mark.parametrize(
    ("workers", "policy"),
    [(1, "strong"), (2, "strong"), (3, "strong"), (2, "flip_crop"), (2, "affine"), (2, "randaugment")],
)
def test_batches_do_not_depend_on_the_number_of_workers(workers: int, policy: str) -> None:
    """REQ-A3: the same batches for 0, 1, 2 and 3 persistent workers; one epoch differs from the next."""
    make = {"augment": policy, "num_samples": 200, "image_size": 16, "batch_size": 16, "seed": 2}
    expected = digest(Fake(num_workers=0, **make).train_dataloader(), epochs=2)
    loader = Fake(num_workers=workers, **make).train_dataloader()
    assert loader.persistent_workers
    assert digest(loader, epochs=2) == expected
    assert expected[0] != expected[1]


def test_batches_are_the_same_in_spawned_and_in_short_lived_workers() -> None:
    """REQ-A3: the same batches in workers that are spawned or forked, kept or made anew each epoch."""
    make = {"augment": "strong", "num_samples": 100, "image_size": 16, "batch_size": 16, "seed": 2, "num_workers": 0}
    expected = digest(Fake(**make).train_dataloader(), epochs=2)
    for context, workers in (("spawn", 1), ("fork", 2)):
        loader = Fake(**make).train_dataloader()
        other = DataLoader(
            loader.dataset,
            batch_size=None,
            sampler=loader.sampler,
            collate_fn=loader.collate_fn,
            num_workers=workers,
            multiprocessing_context=context,
            persistent_workers=context == "spawn",  # starting one takes seconds
        )
        assert digest(other, epochs=2) == expected


def test_seed_changes_order_and_augmentation() -> None:
    hashes = {digest(Digits(seed=seed).train_dataloader())[0] for seed in (0, 1)}
    assert len(hashes) == 2
    assert digest(Digits(seed=0).train_dataloader()) == digest(Digits(seed=0).train_dataloader())


def test_arrays_are_never_changed() -> None:
    """REQ-A5: neither augmentation nor whoever gets a batch can change images in memory."""
    data = Fake(augment="strong", num_samples=200, image_size=16)
    data.setup()
    before = [pixels(split) for split in data.splits.values()]
    for images, _ in [*data.train_dataloader(), *data.val_dataloader(), *data.test_dataloader()]:
        images.zero_()
    assert all(np.array_equal(a, pixels(b)) for a, b in zip(before, data.splits.values(), strict=True))


def test_evaluation_sees_every_image_once_in_order_and_unchanged() -> None:
    data = Digits(augment="strong", batch_size=100)
    loaders = {"val": data.val_dataloader(), "test": data.test_dataloader()}
    for name, loader in loaders.items():
        images, labels = (torch.cat(parts).numpy() for parts in zip(*loader, strict=True))
        assert np.array_equal(images, pixels(data.splits[name]))
        assert np.array_equal(labels, data.splits[name].labels)


def test_one_item_equals_its_place_in_the_batch() -> None:
    dataset = Digits(image_size=16).train_dataloader().dataset
    images, labels = dataset[np.array([5, 6]), 0]
    image, label = dataset[6]
    assert torch.equal(image, images[1])
    assert torch.equal(label, labels[1])
    assert torch.equal(dataset.__getitems__([5, 6])[0], images), "as other loaders ask for a batch"


def test_normalisation_is_on_the_device_and_channels_last() -> None:
    data = Fake(num_samples=200, image_size=16)
    images, labels = next(iter(data.train_dataloader()))
    assert (images.dtype, images.shape[1:], labels.dtype) == (torch.uint8, (16, 16, 3), torch.int64)
    floats, same_labels = data.on_after_batch_transfer((images, labels), 0)
    assert same_labels is labels
    assert floats.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(floats, (images.permute(0, 3, 1, 2) / 255 - 0.5) / 0.2)
    assert data.on_after_batch_transfer((floats, labels), 0)[0] is floats


def test_statistics_of_the_specs() -> None:
    for data in (Digits(), Fake(), Fake(in_channels=1, num_classes=3)):
        data.setup()
        images = np.concatenate([pixels(data.splits["train"]), pixels(data.splits["val"])]) / 255
        assert images.mean((0, 1, 2)) == pytest.approx(data.spec.mean, abs=2e-3)
        assert images.std((0, 1, 2)) == pytest.approx(data.spec.std, abs=3e-3)


def test_image_size_and_batch_size_can_be_set() -> None:
    data = Digits()
    assert (data.image_size, data.batch_size) == (8, 128)
    data.image_size, data.batch_size = 20, 50
    images, _ = next(iter(data.train_dataloader()))
    assert images.shape == (50, 20, 20, 1)
    assert pixels(data.splits["train"]).shape[1:] == (8, 8, 1)


def test_batch_larger_than_the_training_set_is_noticed_once() -> None:
    data = Digits(batch_size=5000)
    assert [len(labels) for _, labels in data.train_dataloader()] == [1293]
    data.train_dataloader()
    assert data.notices == ["batch_size 5000 is more than the training images: 1293 is used"]


def test_describe_survives_a_safe_checkpoint() -> None:
    data = create_datamodule("digits", batch_size=32, image_size=32, seed=5)
    file = io.BytesIO()
    torch.save(data.describe(), file)
    file.seek(0)
    facts = torch.load(file, weights_only=True)
    assert facts == data.describe()
    assert facts["preprocessing"] == {"image_size": 32, "in_channels": 1, "mean": [0.3054], "std": [0.376], "border": 0}
    again = create_datamodule(facts["name"], **facts["args"])
    assert again.describe() == facts


def test_describe_of_fake_rebuilds_the_same_images() -> None:
    data = create_datamodule("fake", num_classes=3, in_channels=1, image_size=12, num_samples=60)
    data.image_size = 24
    facts = data.describe()
    again = create_datamodule(facts["name"], **facts["args"])
    again.image_size = facts["preprocessing"]["image_size"]
    assert again.describe() == facts
    assert facts["class_names"] == ["0", "1", "2"]
    assert digest(again.test_dataloader()) == digest(data.test_dataloader())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, not 0"),
        ({"batch_size": True}, "batch_size must be a whole number of at least 1, not True"),
        ({"num_workers": -1}, "num_workers must be a whole number of at least 0, not -1"),
        ({"image_size": 2.5}, "image_size must be a whole number of at least 1, not 2.5"),
        ({"val_size": 1.0}, "val_size must lie between 0 and 1, for example 0.1, not 1.0"),
        ({"seed": -3}, "seed must be a whole number of at least 0 and at most 4294967295, not -3"),
        ({"augment": "flip"}, "unknown augment 'flip': did you mean 'flip_crop'?"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)) as error:
        Digits(**arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 1}, "num_classes must be a whole number of at least 2 and at most 1000000, not 1"),
        ({"in_channels": 2}, "in_channels must be 1 (grey) or 3 (colour), not 2"),
        ({"num_samples": 99}, "num_samples must be a whole number of at least 100, not 99"),
    ],
)
def test_bad_arguments_of_fake(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Fake(**arguments)


def test_too_small_a_validation_set_is_one_line() -> None:
    with pytest.raises(ValueError, match=r"^cannot cut 0\.1 off 20 images of 10 classes: ") as error:
        cut_rows(np.arange(20) % 10, 0.1, 0)
    assert "\n" not in str(error.value)


def test_default_num_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    for cpus, expected in ((1, 0), (2, 0), (3, 1), (4, 2), (64, 4)):
        monkeypatch.setattr("zoo.datamodules.loader.available_cpus", lambda cpus=cpus: cpus)
        assert default_num_workers() == expected


def test_fake_can_be_learnt() -> None:
    torch.manual_seed(0)
    data = Fake(num_samples=1000, image_size=16)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 10))
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)

    def logits(batch: tuple[Tensor, Tensor]) -> Tensor:
        images, _ = data.on_after_batch_transfer(batch, 0)
        return net(images)

    loader = data.train_dataloader()
    for _ in range(10):
        for batch in loader:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(logits(batch), batch[1]).backward()
            optimizer.step()
    right = [(logits(batch).argmax(1) == batch[1]).float().mean() for batch in data.test_dataloader()]
    assert float(torch.stack(right).mean()) > 0.95
