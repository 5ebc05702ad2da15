"""Run by two processes (`test_matrix.py`): every family in every precision, compiled or not; prints losses as JSON."""

import json
import os
import sys
import warnings
from pathlib import Path

import torch
import torch.distributed as dist

from tests.matrix import DTYPES, SIZES, small, train


def main(folder: Path) -> None:
    """Train two epochs of each; checkpoints are left as FAMILY-PRECISION-COMPILED.ckpt in the folder."""
    for name in SIZES:
        for compiled in (False, True):
            for precision in DTYPES:
                key = f"{name}-{precision}-{compiled}"
                losses = train(name, precision, folder / f"{key}.ckpt", epochs=2, compiled=compiled, processes=2)
                if os.environ["RANK"] == "0":
                    print(json.dumps([key, losses]), flush=True)
            torch.compiler.reset()


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with small():
        main(Path(sys.argv[1]))
    dist.barrier()  # a process that leaves first can bring the other's connection down
    dist.destroy_process_group()
