"""torch.compile for a network that Lightning trains."""

import torch
from torch import nn


def compile_forward(model: nn.Module) -> None:
    """Compile what the network does with a batch; parameters and their names stay as they are.

    `nn.Module.compile` would do nothing under a Trainer of several processes, whose strategies call `training_step` in
    the place of `forward`; and a compiled module in the place of the network would rename every parameter.

    Raises:
        RuntimeError: If this machine cannot compile: it takes a C++ compiler, and Triton on a GPU.
    """
    try:
        torch.compile(torch.add)(torch.ones(2), torch.ones(2))
    except Exception as error:  # whatever is missing, found before a network is half-way through
        torch.compiler.reset()
        raise RuntimeError(
            f"torch.compile does not work on this machine ({_reason(error)}): install a C++ compiler, or do without"
        ) from error
    model.forward = torch.compile(model.forward)


def _reason(error: Exception) -> str:
    """The first line of one of torch's long messages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
