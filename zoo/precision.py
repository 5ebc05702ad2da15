"""Number formats of training: which device a run computes on, what that can compute in, and what is fast there."""

from zoo.registry import nearest

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "bf16-true", "64-true")
AUTO = "auto"
ON_TPU = ("32-true", "bf16-true", "16-true")
"""What Lightning has for XLA."""
_LONG = {"16": "16-mixed", "bf16": "bf16-mixed", "32": "32-true", "64": "64-true"}
"""Lightning's short forms."""
BFLOAT16_OF_CPUS = ("amx_bf16", "avx512_bf16")
"""Instructions of CPUs for bfloat16, as torch names them, the faster ones first: AMX multiplies matrices."""
_BY_PREFERENCE = {"auto": ("tpu", "mps", "cuda", "cpu"), "gpu": ("mps", "cuda")}
"""In which order Lightning looks for a device."""


def find_device(accelerator: str) -> str:
    """The kind of device on which Lightning will train.

    Args:
        accelerator: The trainer's, such as auto, gpu or cpu, or the import path of one of Lightning's classes.

    Returns:
        cpu, cuda, mps or tpu; another name as it is.

    Raises:
        ValueError: If this machine has no such device.

    Example:
        >>> find_device("cpu")
        'cpu'
    """
    from lightning.pytorch.accelerators import CPUAccelerator, CUDAAccelerator, MPSAccelerator, XLAAccelerator

    kinds = {"cpu": CPUAccelerator, "cuda": CUDAAccelerator, "mps": MPSAccelerator, "tpu": XLAAccelerator}
    name = accelerator.rpartition(".")[2].lower().removesuffix("accelerator").replace("xla", "tpu")
    wanted = _BY_PREFERENCE.get(name, (name,))
    if not set(wanted) <= kinds.keys():  # an accelerator that somebody registered
        return name
    found = next((kind for kind in wanted if kinds[kind].is_available()), None)
    if found is None:
        missing = ", or torch_xla is not installed" if name == "tpu" else ""
        raise ValueError(f"trainer.accelerator is {name}: this machine has none{missing}, use cpu or auto")
    return found


def bfloat16_instructions() -> str | None:
    """The fastest of `BFLOAT16_OF_CPUS` that this machine's CPU has."""
    import torch

    able = torch.cpu.get_capabilities()
    return next((name for name in BFLOAT16_OF_CPUS if able.get(name)), None)


def is_fast_in_bfloat16(device: str) -> bool:
    """Whether the device has instructions for bfloat16, or would only imitate it.

    Args:
        device: As `find_device` names it. Apple's GPUs count as slow.
    """
    import torch

    if device == "cpu":
        return bfloat16_instructions() is not None
    if device == "cuda":  # NVIDIA: compute capability 8.0, which is Ampere, and newer
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device == "tpu"


def choose_precision(device: str) -> str:
    """The precision that is likely the fastest on a device at no cost in accuracy: bfloat16, where it is fast.

    With `bf16-mixed` the weights stay in 32 bits (Kalamkar et al. 2019, https://arxiv.org/abs/1905.12322). XLA has no
    mixed precision.
    """
    if not is_fast_in_bfloat16(device):
        return "32-true"
    return "bf16-true" if device == "tpu" else "bf16-mixed"


def check_precision(precision: str, device: str) -> None:
    """Check that a device can compute in a precision.

    Args:
        precision: As Lightning's Trainer takes it.
        device: As `find_device` names it.

    Raises:
        ValueError: If it cannot; the message names one that it can.
    """
    bits, remedy = _LONG.get(precision, precision).partition("-")[0], None
    if device == "cpu" and bits == "16":
        remedy = "which needs a GPU: on a CPU use bf16-mixed or 32-true"
    elif device == "cuda" and bits == "bf16" and not is_fast_in_bfloat16(device):
        remedy = "which needs a GPU of compute capability 8.0 or newer: use 16-mixed or 32-true"
    elif device == "mps" and bits == "64":
        remedy = "which Apple's GPUs do not have: use 32-true, or trainer.accelerator cpu"
    elif device == "tpu" and _LONG.get(precision, precision) not in ON_TPU:
        remedy = "which XLA does not have: use bf16-true or 32-true"
    if remedy:
        raise ValueError(f"trainer.precision is {precision}, {remedy}")


def resolve_precision(asked: str, device: str) -> str:
    """The precision that a user asked for, by name or by `auto`.

    Raises:
        ValueError: If there is no such precision.
    """
    known = [AUTO, *PRECISIONS]
    if asked not in known:
        raise ValueError(f"unknown precision '{asked}'.{nearest(asked, known)}")
    return choose_precision(device) if asked == AUTO else asked
