"""Gradual unfreezing of lenet5.mnist on the digits in this job's processes; rank 0 compares with one process."""

import lightning as L
import torch

import zoo
from zoo.datamodules import Digits
from zoo.finetune import Finetune


def train(devices: int, strategy: str) -> dict[str, torch.Tensor]:
    L.seed_everything(0, verbose=False)
    model = zoo.create_model("lenet5", pretrained="mnist")
    model.finetune = Finetune("gradual", unfreeze_every=1)
    data = Digits(image_size=32, batch_size=32, train_size=128, augment="none", num_workers=0)
    data.use_preprocessing(model.preprocessing)
    trainer = L.Trainer(
        accelerator="cpu", devices=devices, strategy=strategy, max_epochs=4, logger=False, limit_val_batches=0,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(model, data)
    return {name: value.clone() for name, value in model.state_dict().items()}


several = train(2, "ddp_find_unused_parameters_true")
is_first = torch.distributed.get_rank() == 0
torch.distributed.barrier()
torch.distributed.destroy_process_group()
if is_first:
    for variable in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID", "MASTER_ADDR"):
        __import__("os").environ.pop(variable, None)
    alone = train(1, "auto")
    for name, value in alone.items():
        torch.testing.assert_close(several[name], value, rtol=1e-3, atol=1e-5)
    print("equal")
