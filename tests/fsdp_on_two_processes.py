"""Run by two processes (`test_fsdp.py`): networks trained under DDP and divided; prints one line of JSON for each.

A run that is divided must end as the one under DDP, in its weights, its optimiser's state and its metrics, and go on
from that one's checkpoint. The processes have different numbers of validation batches.
"""

import json
import sys
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy
from torch.utils._pytree import tree_leaves

import zoo
from zoo.checkpoint import load_weights, read_checkpoint
from zoo.datamodules import Digits
from zoo.fsdp import FullySharded


def train(
    name: str, arguments: dict[str, Any], recipe: dict[str, Any], strategy: str, epochs: int, resume: Path | None = None
) -> tuple[dict[str, float], Path, list[int]]:
    """What a run reaches, its checkpoint, and how many numbers this process has of each tensor and in all."""
    L.seed_everything(0, verbose=False)
    model = zoo.create_model(name, num_classes=10, in_channels=1, **arguments)
    model.recipe = model.recipe.replace(schedule="constant", **recipe)
    data = Digits(image_size=model.image_size, batch_size=16, train_size=64, val_size=0.0675)  # 97 images to validate
    folder = Path(sys.argv[1], name, f"{strategy}-{epochs}")
    saved = ModelCheckpoint(folder, filename="last", save_on_train_epoch_end=True)
    trainer = L.Trainer(
        strategy=FullySharded() if strategy == "fsdp" else DDPStrategy(),
        accelerator="cpu",
        devices=2,
        precision="64-true",
        max_epochs=epochs,
        callbacks=[saved],
        logger=False,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(model, data, ckpt_path=resume, weights_only=True)
    metrics = {key: value.item() for key, value in trainer.callback_metrics.items()}
    shares = [getattr(p, "_local_tensor", p).numel() for p in model.parameters()]
    path = folder / "last.ckpt"
    load_weights(model, read_checkpoint(path), path)
    metrics |= {key: float(value) for key, value in trainer.test(model, data, verbose=False)[0].items()}
    return metrics, path, [sum(shares), sum(p.numel() for p in model.parameters())]


def distance(one: Path, other: Path, part: str) -> float:
    """Of two checkpoints, relative to the largest number of each tensor."""
    pairs = zip(*(tree_leaves(torch.load(path, weights_only=True)[part]) for path in (one, other)), strict=True)
    tensors = [(a.double(), b.double()) for a, b in pairs if isinstance(a, torch.Tensor)]
    return max(((a - b).abs().max() / b.abs().max().clamp(min=1e-12)).item() for a, b in tensors)


def compare(name: str, arguments: dict[str, Any], recipe: dict[str, Any]) -> dict[str, Any]:
    """The two runs, and one that is divided and goes on from the checkpoint of the other, beside one that is not."""
    ours, path, shares = train(name, arguments, recipe, "fsdp", 2)
    theirs, other, _ = train(name, arguments, recipe, "ddp", 2)
    later, path_later, _ = train(name, arguments, recipe, "fsdp", 3, resume=other)
    expected, other_later, _ = train(name, arguments, recipe, "ddp", 3, resume=path)
    return {
        "name": name,
        "metrics": [ours, theirs],
        "later": [later, expected],
        "shares": shares,
        "weights": [distance(path, other, "state_dict"), distance(path_later, other_later, "state_dict")],
        "optimizer": distance(path, other, "optimizer_states"),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    for case in json.loads(sys.argv[2]):
        result = compare(*case)
        if dist.get_rank() == 0:
            print(json.dumps(result), flush=True)
    dist.barrier()  # a process that leaves first can bring the other's connection down
    dist.destroy_process_group()
