"""Trained models as files for other programs, and whether such a file computes what the model computes.

| format       | suffix       | what reads it                                                      |
|--------------|--------------|--------------------------------------------------------------------|
| safetensors  | .safetensors | `zoo.load`; the tensors alone: whatever reads safetensors          |
| onnx         | .onnx        | onnxruntime and other runtimes, without Python or torch            |
| torch_export | .pt2         | `torch.export.load`, without this package; ahead-of-time compilers |

The last two hold the network alone: `images`, float32 (N, in_channels, image_size, image_size) for any N, to `logits`,
(N, num_classes). Softmax is not in them, and neither is what turns a picture into such numbers: `facts` says how.
"""

import importlib.util
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from zoo.checkpoint import load
from zoo.classifier import ImageClassifier
from zoo.model_card import publishable
from zoo.registry import nearest
from zoo.weight_files import atomic_file, write_weights

SUFFIXES = {"safetensors": ".safetensors", "onnx": ".onnx", "torch_export": ".pt2"}
"""The formats, and how their files' names end."""
RELATIVE_TOLERANCE = 1e-3
"""How far the logits of a file may be from the model's, as a part of the largest logit. Rounding gives about 1e-6."""
ONNX_LIMIT = 2**31 - 2**20
"""Bytes of weights in one ONNX file: protobuf ends at 2 GiB, and the graph needs some of them."""
BATCH = 64
NOTES = {
    "input": "images: float32 (N, C, H, W), pixels scaled to 0..1, less the mean, divided by the standard deviation",
    "output": "logits: float32 (N, classes); their softmax is the probabilities",
}


@dataclass(frozen=True)
class Parity:
    """How a file's logits compare with those of the model that it was made from.

    Args:
        images: How many images were compared.
        max_difference: The largest difference between two logits.
        top1_agreement: The share of images that get the same class.
        tolerance: The largest difference that passes as rounding.
    """

    images: int
    max_difference: float
    top1_agreement: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether they differ by rounding only; then a class can differ only where two are equally likely."""
        return self.max_difference <= self.tolerance  # False where the difference is no number


def export(model: ImageClassifier, path: Path, kind: str) -> None:
    """Write a model to a file, in one step: an older file at `path` stays until the new one is complete.

    The description in the file leaves out absolute paths: they mean nothing on another machine.

    Args:
        model: On the CPU, in float32; its mode does not matter and does not change.
        path: The file.
        kind: One of `SUFFIXES`.

    Raises:
        ValueError: If there is no such format, the model is elsewhere or too large, or a package is missing.
        OSError: If the file cannot be written.

    Example:
        >>> export(zoo.load("best.ckpt"), Path("best.onnx"), "onnx")  # doctest: +SKIP
    """
    _check(model, kind)
    if kind == "safetensors":
        tensors = {name: tensor.detach() for name, tensor in model.state_dict().items()}
        write_weights(path, tensors, publishable(model.description()))
        return
    program = _trace(model)
    with atomic_file(path) as file:
        if kind == "onnx":
            file.write(_as_onnx(program, facts(model)))
        else:
            torch.export.save(program, file, extra_files={"zoo.json": json.dumps(facts(model))})


def parity(model: ImageClassifier, path: Path, kind: str, images: Tensor) -> Parity:
    """Load a file that `export` wrote and compare its logits with the model's.

    ONNX runs in onnxruntime on the CPU. Use it on files of one's own: `torch.export.load` trusts what it reads.

    Args:
        model: As it was exported.
        path: The file.
        kind: One of `SUFFIXES`.
        images: What the model takes, (N, in_channels, image_size, image_size).

    Raises:
        ValueError: If there are no images, there is no such format, or the model or a package is missing.
    """
    _check(model, kind)
    if len(images) == 0:
        raise ValueError("there are 0 images: the comparison needs at least 1")
    network = _load(path, kind)
    with _evaluating(model), torch.no_grad():
        pairs = [(model(batch), network(batch)) for batch in torch.split(images, BATCH)]
    ours, theirs = (torch.cat(logits) for logits in zip(*pairs, strict=True))
    return Parity(
        images=len(images),
        max_difference=(ours - theirs).abs().max().item(),
        top1_agreement=(ours.argmax(dim=1) == theirs.argmax(dim=1)).float().mean().item(),
        tolerance=RELATIVE_TOLERANCE * ours.abs().max().item(),
    )


def facts(model: ImageClassifier) -> dict[str, Any]:
    """What a program that runs the file must know, as plain values: preprocessing, class names, where it comes from."""
    return {
        **NOTES,
        "preprocessing": model.preprocessing,
        "class_names": model.class_names,
        "description": publishable(model.description()),
    }


def _check(model: ImageClassifier, kind: str) -> None:
    if kind not in SUFFIXES:
        raise ValueError(f"unknown format '{kind}'.{nearest(kind, SUFFIXES)}")
    if model.device.type != "cpu" or model.dtype != torch.float32:
        raise ValueError(
            f"the model is {model.dtype} on {model.device}: call model.cpu().float() before it is exported"
        )
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if kind == "onnx" and missing:
        raise ValueError(f"ONNX needs {' and '.join(missing)}: pip install 'lightning-zoo[onnx]'")
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    if kind == "onnx" and size > ONNX_LIMIT:
        raise ValueError(f"the weights are {size / 1e9:.1f} GB: one ONNX file holds 2.1 GB. Use torch_export")


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; frozen layers may have a mode of their own, so each gets back what it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


class _Network(nn.Module):
    """The layers alone, without Lightning's part and without checks of the images."""

    def __init__(self, model: ImageClassifier) -> None:
        super().__init__()
        self.network = model

    def forward(self, images: Tensor) -> Tensor:
        return self.network.forward_head(self.network.forward_features(images))


def _trace(model: ImageClassifier) -> ExportedProgram:
    """The network as a graph that takes any number of images."""
    images = torch.zeros(2, model.in_channels, model.image_size, model.image_size)
    with _evaluating(model), torch.no_grad():
        network = _Network(model).eval()
        program = torch.export.export(network, (images,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    for tensors in (program.state_dict, program.constants):
        tensors.update({name: _contiguous(tensor) for name, tensor in tensors.items() if isinstance(tensor, Tensor)})
    return program


def _contiguous(tensor: Tensor) -> Tensor:
    """A tensor that is laid out in memory as its shape says: torch.export.save warns about channels last."""
    values = tensor.detach().contiguous()
    return nn.Parameter(values, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else values


def _as_onnx(program: ExportedProgram, metadata: dict[str, Any]) -> bytes:
    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["logits"]}
    converted = torch.onnx.export(program, dynamo=True, verbose=False, **names)
    assert converted is not None
    converted.model.metadata_props.update({name: json.dumps(value) for name, value in metadata.items()})
    content: bytes = converted.model_proto.SerializeToString()
    return content


def _load(path: Path, kind: str) -> Callable[[Tensor], Tensor]:
    """What a file computes: images to logits."""
    if kind == "safetensors":
        return load(path)
    if kind == "torch_export":
        return torch.export.load(path).module()
    import onnxruntime  # type: ignore[import-untyped]  # it has no hints

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()  # else as many as the machine has, whatever is allowed
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["logits"], {"images": images.contiguous().numpy()})[0])
