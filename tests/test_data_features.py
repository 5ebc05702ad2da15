"""Features in the place of images: the same order, the same epochs, and exact when a run is resumed."""

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.datamodules import Digits, Fake, ImageDataModule, WebDataset


def flat(data: ImageDataModule, name: str) -> Tensor:
    """Features that say which image they belong to: its pixels."""
    return torch.cat([images for images, _ in data.ordered_loader(name)]).flatten(1).float()


def use_flat_images(data: ImageDataModule) -> None:
    data.use_features({name: flat(data, name) for name in ("train", "val")})


def epochs(data: ImageDataModule, count: int = 2) -> list[tuple[Tensor, Tensor]]:
    loader = data.train_dataloader()
    return [(inputs.flatten(1).float(), labels) for _ in range(count) for inputs, labels in loader]


def same(first: list[tuple[Tensor, Tensor]], second: list[tuple[Tensor, Tensor]]) -> bool:
    pairs = list(zip(first, second, strict=True))
    return all(torch.equal(a, b) for one, other in pairs for a, b in zip(one, other, strict=True))


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # on two processors
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("options", [{}, {"sampler": "balanced"}, {"drop_last": False}, {"class_subset": [3, 1, 8]}])
def test_features_come_in_the_order_of_the_images(options: dict[str, Any], workers: int) -> None:
    data = Digits(augment="none", batch_size=100, seed=5, num_workers=workers, **options)
    images = epochs(data)
    checked = [(inputs.flatten(1).float(), labels) for inputs, labels in data.val_dataloader()]
    use_flat_images(data)
    assert data.train_dataloader().num_workers == data.val_dataloader().num_workers == 0
    assert same(epochs(data), images)
    assert same(list(data.val_dataloader()), checked)
    first, second = images[: len(images) // 2], images[len(images) // 2 :]
    assert not same(first, second), "each epoch has its own order"


def test_nothing_is_augmented_and_undoing_brings_the_images_back() -> None:
    data, plain = Digits(augment="strong", seed=1), Digits(augment="none", seed=1)
    before = epochs(data)
    use_flat_images(data)
    assert same(epochs(data), epochs(plain))
    for images, _ in [*data.test_dataloader(), *data.predict_dataloader(), *data.ordered_loader("train")]:
        assert images.dtype == torch.uint8
    data.use_features({})
    assert same(epochs(data), before)
    assert next(iter(data.val_dataloader()))[0].dtype == torch.uint8


def test_batches_of_features_pass_through_as_they_are() -> None:
    data = Digits(batch_size=10, permute_pixels=3)
    use_flat_images(data)
    batch = next(iter(data.train_dataloader()))
    assert batch[0].shape == (10, 64)
    assert data.on_after_batch_transfer(batch, 0) is batch


def test_features_of_training_images_alone() -> None:
    data = Digits()
    data.use_features({"train": flat(data, "train")})
    assert next(iter(data.train_dataloader()))[0].dtype == torch.float32
    assert next(iter(data.val_dataloader()))[0].dtype == torch.uint8


def test_images_in_order() -> None:
    data = Fake(num_samples=100, image_size=8, augment="strong", batch_size=7, seed=2)
    for name, size in (("train", 90), ("val", 10), ("test", 20)):
        images, labels = (torch.cat(parts) for parts in zip(*data.ordered_loader(name), strict=True))
        assert np.array_equal(images, np.stack(data.splits[name].whole(np.arange(size))))
        assert np.array_equal(labels, data.splits[name].labels)
    with pytest.raises(ValueError, match=r"^fake has no all images$"):
        data.ordered_loader("all")


@pytest.mark.parametrize(
    ("features", "reason"),
    [
        ({"train": torch.zeros(1292, 4)}, r"a row for each of the 1,293 images, not \(1292, 4\) of float32$"),
        ({"train": torch.zeros(1293, 4), "val": torch.zeros(145, 4)}, r"a row for each of the 144 images, not \(145,"),
        ({"train": torch.zeros(1293)}, r"not \(1293,\) of float32$"),
        ({"train": torch.zeros(1293, 4, dtype=torch.uint8)}, r"^features must be floats, .* of uint8$"),
        ({"test": torch.zeros(360, 4)}, r"^features are for train and val, not for test$"),
    ],
)
def test_features_that_do_not_belong_to_the_images(features: dict[str, Tensor], reason: str) -> None:
    data = Digits()
    with pytest.raises(ValueError, match=reason):
        data.use_features(features)
    assert next(iter(data.train_dataloader()))[0].dtype == torch.uint8, "nothing is changed"


def test_a_stream_cannot_have_them() -> None:
    data = WebDataset("absent.tar", classes=["a", "b"])
    with pytest.raises(ValueError, match=r"^webdataset is read as a stream, "):
        data.use_features({"train": torch.zeros(2, 2)})
    data.use_features({})


class Probe(L.LightningModule):
    """A classifier of flat inputs; remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(64, 10)
        self.seen: list[tuple[int, float]] = []

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        features, labels = batch
        assert features.dtype == torch.float32
        self.seen.append((self.current_epoch, float(features.double().square().sum())))
        return F.cross_entropy(self.net(features / 255), labels)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        assert batch[0].shape[1:] == (64,)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)


def fit(folder: Path, resume: Path | None = None) -> Probe:
    model, data = Probe(), Digits(seed=3, num_workers=0)
    use_flat_images(data)
    saver = ModelCheckpoint(folder, filename="{step}", every_n_train_steps=5, save_top_k=-1)
    options: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = L.Trainer(max_epochs=3, accelerator="cpu", callbacks=[saver], **options)
    trainer.fit(model, datamodule=data, ckpt_path=resume, weights_only=True)
    return model


@pytest.mark.filterwarnings("ignore:The dirpath has changed:UserWarning")  # on purpose: the first run stays whole
@pytest.mark.parametrize("step", [5, 10, 15])  # of 10 steps an epoch
def test_a_resumed_run_equals_one_that_was_not_stopped(tmp_path: Path, step: int) -> None:
    whole = fit(tmp_path / "whole")
    assert len(set(whole.seen)) == 30
    resumed = fit(tmp_path / "resumed", tmp_path / "whole" / f"step={step}.ckpt")
    assert resumed.seen == whole.seen[step:]
    assert torch.equal(resumed.net.weight, whole.net.weight)
