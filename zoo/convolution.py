"""Convolutions of images that have shrunk to a few pixels, which CPUs compute faster as one matrix product."""

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

FEW = 4
"""Positions of the output up to which the product is faster for any number of channels."""
SEVERAL, MANY_CHANNELS = 16, 256
"""Positions up to which it is faster for at least so many channels of the input."""
ROWS = 256
"""Of a product at once: with 512 channels in bfloat16 oneDNN takes half as long again for each row of 1,024."""


class Conv2d(nn.Conv2d):
    """`nn.Conv2d`, computed as a matrix product where the output has a few pixels: same weights, same result.

    For each position of the output, what the kernel sees is copied into a row; the rows times the weights are the
    output (Chellapilla et al. 2006, https://inria.hal.science/inria-00112631). oneDNN, which computes torch's
    convolutions on CPUs, goes along the rows of an image instead, and those of 4 or 2 pixels leave most of its
    registers empty. With 512 channels and 64 images of 2 x 2 pixels the product took a third of the time in float32 and
    a sixth in bfloat16, forward and backward, on two cores with AMX. Elsewhere (GPUs, larger images, groups,
    torch.compile, torch.func, export) this is torch's convolution.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Images `(N, in_channels, H, W)` to `(N, out_channels, H', W')`."""
        if not self._is_faster_as_product(images):
            return super().forward(images)
        dtype = images.dtype
        if torch.is_autocast_enabled("cpu") and dtype != torch.float64:
            dtype = torch.get_autocast_dtype("cpu")
        bias = None if self.bias is None else self.bias.to(dtype)
        output: Tensor = _Product.apply(images.to(dtype), self.weight.to(dtype), bias, self.stride, self.padding)
        return output

    def _is_faster_as_product(self, images: Tensor) -> bool:
        if images.device.type != "cpu" or _is_transformed():
            return False
        is_plain = self.groups == 1 and self.dilation == (1, 1) and self.padding_mode == "zeros"
        if not is_plain or isinstance(self.padding, str) or images.ndim != 4 or images.shape[1] != self.in_channels:
            return False
        height, width = _output_size(images.shape[2:], self.kernel_size, self.stride, self.padding)
        positions = height * width if min(height, width, len(images)) > 0 else 0
        return 0 < positions <= FEW or (0 < positions <= SEVERAL and self.in_channels >= MANY_CHANNELS)


Pair = tuple[int, ...]


class _Product(torch.autograd.Function):
    """The convolution and its gradients; images and weights lie in memory channels last, so that rows are no copies."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair) -> Tensor:
        kernel = weight.shape[2:]
        size = _output_size(images.shape[2:], kernel, stride, padding)
        views = list(_views(images.shape[2:], size, kernel, stride, padding))
        seen = images.new_zeros(len(images), *size, len(views), images.shape[1])  # zeros where it sees the padding
        for number, (positions, pixels) in enumerate(views):
            seen[:, *positions, number] = images.permute(0, 2, 3, 1)[:, *pixels]
        seen = seen.flatten(3).flatten(0, 2)
        ctx.save_for_backward(seen, weight)
        ctx.facts = images.shape, size, views
        shape = (len(images), len(weight), *size)
        output = torch.empty(shape, dtype=seen.dtype, memory_format=torch.channels_last)
        rows = output.permute(0, 2, 3, 1).flatten(0, 2)
        for part, result in zip(torch.split(seen, ROWS), torch.split(rows, ROWS), strict=True):
            if bias is None:
                torch.mm(part, _matrix(weight).T, out=result)
            else:
                torch.addmm(bias, part, _matrix(weight).T, out=result)
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (seen, weight), (shape, size, views) = ctx.saved_tensors, ctx.facts
        rows = gradient.permute(0, 2, 3, 1).flatten(0, 2)
        of_images = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_seen = (rows @ _matrix(weight)).view(shape[0], *size, len(views), shape[1])
            # A pixel is seen from several positions: the sum is kept in 32 bits and rounded once.
            total = rows.new_zeros(shape[0], *shape[2:], shape[1], dtype=torch.promote_types(rows.dtype, torch.float32))
            for number, (positions, pixels) in enumerate(views):
                total[:, *pixels] += of_seen[:, *positions, number]
            of_images = total.to(rows.dtype).permute(0, 3, 1, 2)
        if ctx.needs_input_grad[1]:
            outputs, inputs, *kernel = weight.shape
            of_weight = (rows.T.contiguous() @ seen).view(outputs, *kernel, inputs).permute(0, 3, 1, 2)
        if ctx.needs_input_grad[2]:
            of_bias = rows.sum(0)
        return of_images, of_weight, of_bias, None, None


def _is_transformed() -> bool:
    """Whether this is compiled, exported, traced, or under a transform of torch.func: these know torch's operators."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return True
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined,no-untyped-call]


def _matrix(weight: Tensor) -> Tensor:
    """A row for each output channel, in the order in which `_Product` lists what a kernel sees."""
    return weight.permute(0, 2, 3, 1).flatten(1)


def _output_size(size: Pair, kernel: Pair, stride: Pair, padding: Pair) -> tuple[int, int]:
    """Height and width of the output, in pixels."""
    height, width = ((size[i] + 2 * padding[i] - kernel[i]) // stride[i] + 1 for i in (0, 1))
    return height, width


def _views(
    size: Pair, output_size: Pair, kernel: Pair, stride: Pair, padding: Pair
) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """For each pixel of the kernel, the positions of the output where it lies on the image, and on which pixels."""
    axes = (_views_along(*axis) for axis in zip(size, output_size, kernel, stride, padding, strict=True))
    for (rows, rows_seen), (columns, columns_seen) in itertools.product(*axes):
        yield (rows, columns), (rows_seen, columns_seen)


def _views_along(size: int, output_size: int, kernel: int, stride: int, padding: int) -> Iterator[tuple[slice, slice]]:
    for shift in range(-padding, kernel - padding):
        first, last = max(0, -(shift // stride)), min(output_size - 1, (size - 1 - shift) // stride)
        number, start = max(0, last - first + 1), first * stride + shift
        yield slice(first, first + number), slice(start, start + number * stride, stride)
