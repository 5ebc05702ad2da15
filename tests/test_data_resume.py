"""A run that is stopped and resumed ends with the same weights, bit for bit, as one that was not."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.datamodules import Digits, ImageDataModule

EPOCHS = 3
STEPS = 10  # 1,293 training images in batches of 128


class Probe(L.LightningModule):
    """Sensitive to the order and content of batches: batch norm, momentum, a rate that changes at every step."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))
        self.seen: list[tuple[int, float]] = []

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        self.seen.append((self.current_epoch, float(images.sum())))
        return F.cross_entropy(self.net(images), labels)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("val/loss", F.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> dict[str, object]:
        optimizer = torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)
        # Builds the loader, and starts its workers, before the counters of the run are restored.
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def fit(
    folder: Path, *, workers: int = 0, resume: Path | None = None, batch_size: int = 128, **trainer: object
) -> tuple[Probe, ImageDataModule]:
    model, data = Probe(), Digits(batch_size=batch_size, num_workers=workers, seed=3)
    saver = ModelCheckpoint(folder, filename="{step}", every_n_train_steps=5, save_top_k=-1)
    at_end = ModelCheckpoint(folder, filename="end-{epoch}", save_top_k=-1, every_n_epochs=1)
    options = {"max_epochs": EPOCHS, "accelerator": "cpu", "logger": False, "callbacks": [saver, at_end], **trainer}
    options |= {"enable_progress_bar": False, "enable_model_summary": False}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The dirpath has changed")  # on purpose: the first run stays whole
        L.Trainer(**options).fit(model, datamodule=data, ckpt_path=resume, weights_only=True)
    return model, data


def same(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The number of threads changes the order of sums, hence the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Probe]:
    folder = tmp_path_factory.mktemp("whole")
    return folder, fit(folder)[0]


@pytest.mark.parametrize(
    ("checkpoint", "workers"),
    [("step=5", 0), ("step=10", 0), ("end-epoch=1", 0), ("step=15", 2), ("end-epoch=0", 2)],
)
def test_resumed_run_equals_uninterrupted_run(
    whole: tuple[Path, Probe], tmp_path: Path, checkpoint: str, workers: int
) -> None:
    folder, expected = whole
    model, data = fit(tmp_path, workers=workers, resume=folder / f"{checkpoint}.ckpt")
    assert expected.seen[-len(model.seen) :] == model.seen
    assert same(expected, model)
    assert data.notices == []


@pytest.mark.parametrize(("limit", "checkpoint"), [(7, "step=10"), (0.5, "end-epoch=0")])
def test_resume_with_limited_epochs(tmp_path: Path, limit: int | float, checkpoint: str) -> None:
    expected, _ = fit(tmp_path, limit_train_batches=limit)
    model, _ = fit(tmp_path / "resumed", resume=tmp_path / f"{checkpoint}.ckpt", limit_train_batches=limit)
    assert same(expected, model)


def test_resume_within_an_epoch_after_validation_within_it(tmp_path: Path) -> None:
    expected, _ = fit(tmp_path, val_check_interval=3)
    model, _ = fit(tmp_path / "resumed", resume=tmp_path / "step=15.ckpt", val_check_interval=3)
    assert same(expected, model)


def test_resume_of_a_run_that_counts_steps(tmp_path: Path) -> None:
    options = {"max_epochs": -1, "max_steps": 27}
    expected, _ = fit(tmp_path, **options)
    model, _ = fit(tmp_path / "resumed", resume=tmp_path / "step=15.ckpt", **options)
    assert same(expected, model)


def test_changed_batch_size_is_noticed(whole: tuple[Path, Probe], tmp_path: Path) -> None:
    change = "not an exact resume: batch_size was 128 and is 64"
    with pytest.warns(UserWarning, match=f"^{change}$"):
        _, data = fit(tmp_path, resume=whole[0] / "end-epoch=1.ckpt", batch_size=64)
    assert data.notices == [change]


def test_setup_forgets_the_position_of_an_earlier_run() -> None:
    data = Digits()
    data._batches_done = 15
    data.setup("validate")
    assert data.state_dict()["batches_done"] == 15
    data.setup("fit")
    assert data.state_dict()["batches_done"] == 0
