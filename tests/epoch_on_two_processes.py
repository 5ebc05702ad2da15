"""Run by two processes (`test_data_sampler.py`): two epochs of training and validation under DDP.

Each image bears its number in its pixels. The first process prints, as one line of JSON, the numbers seen by both.
"""

import json
import sys

import lightning as L
import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from zoo.datamodules import Fake
from zoo.datamodules.arrays import Arrays, Split

IMAGES = 107


class Recorder(L.LightningModule):
    """Notes the numbers of the images of every epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: dict[str, list[int]] = {"train": [], "val": []}
        self.epochs: list[list[object]] = []

    def note(self, part: str, images: Tensor) -> None:
        self.seen[part] += images[:, 0, 0, 0].round().int().tolist()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        self.note("train", batch[0])
        return self.weight.sum()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.note("val", batch[0])

    def on_train_epoch_end(self) -> None:
        parts: list[object] = [None, None]
        dist.all_gather_object(parts, self.seen)
        self.epochs.append(parts)
        self.seen = {"train": [], "val": []}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class Numbered(Fake):
    """IMAGES images of one pixel, whose value is their number."""

    def load(self) -> dict[str, Split]:
        """The same images for everything."""
        pixels = np.arange(IMAGES, dtype=np.uint8).reshape(-1, 1, 1, 1)
        part = Split.of(Arrays(pixels, np.arange(IMAGES) % 2))
        return {"train": part, "val": part, "test": part}


if __name__ == "__main__":
    torch.set_num_threads(1)
    data = Numbered(in_channels=1, num_classes=2, image_size=1, batch_size=10, num_workers=int(sys.argv[2]))
    data.drop_last = sys.argv[1] == "drop"
    data.use_normalization([0.0], [1 / 255])  # pixels stay what they are
    model = Recorder()
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "num_sanity_val_steps": 0}
    trainer = L.Trainer(
        accelerator="cpu", devices=2, strategy="ddp", max_epochs=2, enable_model_summary=False,
        use_distributed_sampler=False, **options,
    )  # fmt: skip
    trainer.fit(model, data)
    if trainer.global_rank == 0:
        print(json.dumps(model.epochs), flush=True)
    dist.barrier()  # a process that leaves first can bring the other's connection down
    dist.destroy_process_group()
