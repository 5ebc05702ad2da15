"""What the speed of `zoo fit` must be beside other programs, and what was measured (`zoo.benchmarks.speed`)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

IMAGE_FILES = "ResNet-18 at 32 pixels, batch 128, crop and flip, 10,000 JPEG files"
PUBLIC = "ImageFolder, torchvision's transforms, 2 workers"
TENSORS = "tensors in memory, no augmentation"
VGG = "VGG-16 on the digits at 32 pixels, batch 64, `--precision auto`"
LIGHTNING = "plain Lightning, torchvision's transforms, 2 workers"


@dataclass(frozen=True)
class Promise:
    """A ratio and its bound.

    Args:
        job: The result file of `zoo.benchmarks.speed`.
        figure: The ratio's name in it.
        what: What `zoo fit` does.
        against: What the other program is.
        bound: The least speed, or the most memory or time.
        is_cost: Whether the ratio is one of memory or time, of which less is better.
    """

    job: str
    figure: str
    what: str
    against: str
    bound: float
    is_cost: bool = False

    def holds(self, measured: float) -> bool:
        """Whether the measured ratio is within the bound."""
        return measured <= self.bound if self.is_cost else measured >= self.bound


PROMISES = (
    Promise("image-files", "over_public", IMAGE_FILES, PUBLIC, 1.3),
    Promise("image-files", "over_tensors", IMAGE_FILES, TENSORS, 0.95),
    Promise("image-files", "auto_over_public", f"{IMAGE_FILES}, `--precision auto`", f"{PUBLIC}, 32 bits", 1.5),
    Promise("image-files", "memory_over_public", f"{IMAGE_FILES}: peak memory", PUBLIC, 1.2, is_cost=True),
    Promise("image-files", "auto_memory_over_public", "the same, `--precision auto`", PUBLIC, 1.2, is_cost=True),
    Promise("vgg16", "auto_over_tensors", VGG, f"{TENSORS}, 32 bits", 3),
    Promise("vgg16", "memory_over_tensors", "the same: peak memory", TENSORS, 1.2, is_cost=True),
    Promise("lightning", "over_lightning", "LeNet-5 on MNIST, batch 128", LIGHTNING, 3),
    Promise("lightning", "memory_over_lightning", "the same: peak memory", LIGHTNING, 1.2, is_cost=True),
    Promise("startup", "ratio", "from the command to the first step", "the time of four imports", 1.5, is_cost=True),
)


def promises_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The promises with what was measured, in Markdown; only those whose job has run.

    Args:
        found: Result files of `zoo.benchmarks.speed` by the name of their job.
    """
    return "\n".join(["| `zoo fit` | against | asked | measured | |", "|---|---|---:|---:|---|", *_rows(found)])


def _rows(found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for promise in PROMISES:
        if promise.job in found:
            measured = float(found[promise.job][promise.figure])
            asked = f"at {'most' if promise.is_cost else 'least'} {promise.bound:g} x"
            verdict = "holds" if promise.holds(measured) else "falls short"
            yield f"| {promise.what} | {promise.against} | {asked} | {measured:.2f} x | {verdict} |"
