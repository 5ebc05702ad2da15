"""Training loops without us, to compare with: `python -m zoo.benchmarks.bare images|tensors|lightning`.

They are written as public scripts are, and take turns with what they are compared with (`zoo.benchmarks.turns`).
"""

import argparse
from collections.abc import Iterable
from typing import Any

from zoo.benchmarks.turns import Turns


def main() -> None:
    """Train as the first word says."""
    parser = argparse.ArgumentParser(prog="python -m zoo.benchmarks.bare", description=__doc__)
    parser.add_argument("loop", choices=["images", "tensors", "lightning"])
    parser.add_argument("--root", help="class folders of images, or the folder that holds MNIST")
    parser.add_argument("--model", default="resnet18", help="images: torchvision's; tensors: ours, of torch's layers")
    parser.add_argument("--in_channels", type=int, default=3)
    parser.add_argument("--image_size", type=int, default=32)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--samples", type=int, default=10_000, help="tensors: how many random images")
    parser.add_argument("--precision", default="32-true", help="tensors: 32-true or bf16-mixed")
    parser.add_argument("--epochs", type=int, required=True)
    options = parser.parse_args()
    {"images": images, "tensors": tensors, "lightning": plain_lightning}[options.loop](options)


def images(options: argparse.Namespace) -> None:
    """Class folders of image files, torchvision's transforms on every image, two workers."""
    import torch
    import torchvision
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    transform = transforms.Compose(
        [
            transforms.RandomCrop(options.image_size, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
        ]
    )
    dataset = datasets.ImageFolder(options.root, transform)
    loader = DataLoader(dataset, batch_size=options.batch_size, shuffle=True, num_workers=2, drop_last=True)
    model = torchvision.models.get_model(options.model, num_classes=len(dataset.classes))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    turns = Turns()
    for _ in range(options.epochs):
        turns.wait()
        train_epoch(turns, model, optimizer, loader)


def tensors(options: argparse.Namespace) -> None:
    """Normalised random tensors in memory, indexed in another order every epoch: the least that a script can cost.

    Convolutions are torch's, whatever the images' size.
    """
    import torch

    import zoo
    from zoo.convolution import Conv2d

    channels, size = options.in_channels, options.image_size
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    inputs = torch.randn(options.samples, channels, size, size, device=device)
    labels = torch.randint(10, (options.samples,), device=device)
    model = zoo.create_model(options.model, num_classes=10, in_channels=channels, image_size=size).train().to(device)
    for layer in model.modules():
        if isinstance(layer, Conv2d):
            layer.__class__ = torch.nn.Conv2d  # type: ignore[assignment]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)
    turns = Turns()
    for _ in range(options.epochs):
        turns.wait()
        order = torch.randperm(options.samples, device=device)
        steps = options.samples // options.batch_size
        chosen = (order[step * options.batch_size : (step + 1) * options.batch_size] for step in range(steps))
        batches = ((inputs[rows], labels[rows]) for rows in chosen)
        with torch.autocast(device.type, torch.bfloat16, enabled=options.precision == "bf16-mixed"):
            train_epoch(turns, model, optimizer, batches)


def train_epoch(turns: Turns, model: Any, optimizer: Any, batches: Iterable[Any]) -> None:
    """What a step needs, and nothing else."""
    import torch
    from torch.nn.functional import cross_entropy

    count = 0
    for inputs, labels in batches:
        turns.step()
        optimizer.zero_grad()
        cross_entropy(model(inputs), labels).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
        count += len(labels)
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    turns.done(count)


def plain_lightning(options: argparse.Namespace) -> None:
    """LeNet-5 on MNIST by Lightning's Trainer, torchvision's data set and transforms, two workers."""
    import lightning as L
    import torch
    from torch.nn.functional import cross_entropy
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import MNIST

    import zoo

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = zoo.create_model("lenet5")
            self.turns = Turns()

        def on_train_epoch_start(self) -> None:
            self.turns.wait()

        def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
            self.turns.step()
            inputs, labels = batch
            loss = cross_entropy(self.network(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def on_train_epoch_end(self) -> None:
            self.turns.done(int(self.trainer.num_training_batches) * options.batch_size)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=1e-3)

    normalize = transforms.Normalize((0.1307,), (0.3081,))
    transform = transforms.Compose([transforms.Pad(2), transforms.ToTensor(), normalize])  # 32 x 32, as in the paper
    dataset = MNIST(options.root, train=True, transform=transform)
    loader = DataLoader(dataset, batch_size=options.batch_size, shuffle=True, num_workers=2, drop_last=True)
    L.Trainer(max_epochs=options.epochs).fit(Module(), loader)


if __name__ == "__main__":
    main()
