"""Messages of the libraries that say nothing about the user's run."""

import logging
import os
import warnings

# Each with its reason; everything else stays visible.
HARMLESS = (
    r".*does not have many workers.*",  # in-memory data: a worker would only add copying
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",  # inside Lightning
    r".*is smaller than the logging interval.*",  # we log once an epoch
    r".*exists and is not empty.*",  # the run folder is ours
    r".*The dirpath has changed.*",  # a run that was moved, or goes on in a new folder
    r".*Using `DistributedSampler` with the dataloaders.*",  # ours counts every sample once
    r".*`lr_scheduler.step\(\)` before `optimizer.step\(\)`.*",  # GradScaler may skip the first step
    r".*Trainer\(barebones=True\).*",  # the user said so
    r".*GPU available but not used.*",  # the user said so
    r"not an exact resume: .*",  # the command says it among its notes
)
LOGGERS = (  # "Seed set to 0", tips about other products: the run says what it does itself
    "torch.utils.cpp_extension",
    "lightning.fabric.utilities.distributed",
    "lightning.fabric.utilities.seed",
    "lightning.fabric.utilities.rank_zero",
    "lightning.pytorch.utilities.rank_zero",
)


def skip_driver_search() -> None:
    """Where there is no GPU, keep torch from looking for a driver at every optimiser step.

    The answer would be the same, and costs 0.3 ms each time; a step of LeNet-5 takes 3 ms.
    """
    import torch

    if not torch.cuda.is_available():
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")


def quiet() -> None:
    """Filter the known harmless warnings and tips."""
    for pattern in HARMLESS:
        warnings.filterwarnings("ignore", pattern)
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
