"""What works, and what is put in its place: configuration files, command lines, values, pieces of text."""

from typing import Any

_FILES = """
model: mlp
---
model: {class_path: mlp, init_args: {hidden: [8, 4], norm: batch, dropout: 0.25}}
data: {class_path: fake, init_args: {num_samples: 100, image_size: 8, batch_size: 16}}
seed_everything: 3
---
model: {class_path: mlp, init_args: {hidden: [6], activation: maxout, maxout_pieces: 3}}
data: {class_path: fake, init_args: {num_samples: 100, num_classes: 4, in_channels: 1, image_size: 8}}
no_test: true
---
model: lenet5
recipe: {name: default, lr: 0.01, epochs: 3, schedule: step, milestones: [0.25, 0.5]}
---
model: {class_path: lenet5, init_args: {subsampling: average, init: normal(0.1)}}
data: digits
pretrained: null
---
model: softmax
recipe: {optimizer: lbfgs, weight_decay: 0, lr: 1, batch_size: 64}
---
model: perceptron
data: {class_path: fake, init_args: {num_samples: 100, image_size: 8}}
recipe: {optimizer: rmsprop, momentum: 0.5, ema: 0.9, warmup_epochs: 0.5}
---
model: {class_path: mlp, init_args: {hidden: [8]}}
recipe: {mixup: 0.2, label_smoothing: 0.1, gradient_clip: 1.0, l1: 0.001, layer_decay: 0.5, max_norm: 3.0}
---
model: mlp
data: {class_path: digits, init_args: {kfold: 5, fold: 1, sampler: balanced, augment: affine, crop: 0.9}}
---
model: mlp
data: {class_path: digits, init_args: {train_size: 100, class_subset: [0, 1, 2], num_workers: 0, permute_pixels: 5}}
---
model: mlp
trainer: {max_epochs: 2, precision: bf16-mixed, accelerator: cpu, devices: 1, deterministic: true, profiler: simple}
---
model: mlp
trainer: {limit_train_batches: 2, limit_val_batches: 0.5, val_check_interval: 0.5, max_time: '00:00:01:00'}
---
model: mlp
trainer:
  callbacks:
  - class_path: lightning.pytorch.callbacks.EarlyStopping
    init_args: {monitor: val/loss, patience: 2}
  - class_path: lightning.pytorch.callbacks.LearningRateMonitor
---
model: mlp
trainer: {logger: {class_path: lightning.pytorch.loggers.CSVLogger, init_args: {save_dir: logs}}}
---
model: lenet5
pretrained: true
finetune: {method: gradual, unfreeze_every: 1, freeze_bn: false, head_lr: 0.01}
recipe: {epochs: 4}
---
model: {class_path: mlp, init_args: {hidden: [8]}}
ckpt_path: good.ckpt
recipe: {epochs: 3}
"""
FILES = tuple(text.lstrip("\n") for text in _FILES.split("---\n"))
LINES = (
    "fit --model mlp --model.hidden [8] --recipe.lr 0.1 --data fake --data.num_samples 100 --data.image_size 8",
    "fit --config good.yaml --model.dropout 0.25 --recipe.epochs 2 --run_dir run --no-test",
    "fit --model lenet5 --recipe paper --recipe.batch_size 32 --seed_everything 5 --data.augment none",
    "fit --model mlp --model.hidden [8] --ckpt_path good.ckpt --recipe.epochs 3",
    "fit --model mlp --print_config",
    "fit --model mlp --trainer.callbacks lightning.pytorch.callbacks.EarlyStopping --trainer.callbacks.monitor val/acc",
    "test --ckpt_path good.ckpt",
    "test --ckpt_path good.ckpt --data.batch_size 50 --trainer.precision bf16-mixed",
    "validate --ckpt_path good.ckpt --data.val_size 0.2 --trainer.limit_val_batches 2",
    "predict --ckpt_path good.ckpt good.png --top_k 3 --output out.csv",
    "export good.ckpt --format safetensors --output out.safetensors --images 16",
    "features --ckpt_path good.ckpt --output out.npz --splits val",
    "info vgg16",
    "list res* --max-params 1M --min-year 2015",
    "data list",
    "data show --data digits --data.augment affine --output out.png --images 4",
    "data check pictures",
    "benchmark list",
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, "", " ", 0, -1, 1, 2, 3, 0.5, -0.5, 1e-300, 1e300, float("nan"), float("inf"), 10**9, 10**18),
    *(2**31, 2**63, 2**64, 10**40, -(2**63), [], {}, [[]], [1, "a", None], {"class_path": "mlp"}, {"a": {"b": 1}}),
    *("none", "null", "true", "1e5", "0x10", "1_000", "batch", "auto", "ddp", "cpu", "mlp", "lenet5", "fake", "digits"),
    *("os.system", "zoo.mlp.MLP", "torch.nn.Linear", "lightning.pytorch.Trainer", "good.ckpt", "good.yaml", "../x"),
    *("\u202e\u0000", "ünï\U0001f600", "a" * 5000, "a.b.c", "--model", "[1", "{a: b", "2020-13-45", "%s", "$HOME"),
)
SNIPPETS = (
    *(":", ": ", "- ", "\n", "\t", "  ", "&a ", "*a", "!!python/name:os.system", "!!int ", "!!binary x", "{", "}", "["),
    *("]", '"', "'", "#", "|", ">", "?", "%", "@", "`", "\x00", "\x85", "\ufeff", "é", "---\n", "<<: ", "<<: *a\n"),
    *("e9", "0", "-"),
)
