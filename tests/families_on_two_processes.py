"""Run by two processes (`test_deploy.py`): two steps of each family under DDP; prints one line of JSON for each.

The gradient that two processes average must be that of the whole batch in one process, and both must end with the same
weights. Nothing that depends on the batch as a whole (batch normalisation) or on chance (dropout) is switched on.
"""

import json
import sys

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import zoo
from zoo.losses import compute_loss


def difference(name: str, arguments: dict[str, object]) -> tuple[float, float]:
    """Largest difference to one process's gradient, relative to the largest gradient; and between the processes."""
    torch.manual_seed(0)
    model = zoo.create_model(name, num_classes=4, in_channels=1, **arguments)
    images = torch.randn(4, 1, model.image_size, model.image_size)
    labels = torch.tensor([0, 1, 2, 3])
    if name == "timm":
        model.eval()
    compute_loss(model.recipe.loss, model(images), labels).backward()
    expected = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad(set_to_none=True)

    rank = dist.get_rank()
    parallel = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    half = slice(2 * rank, 2 * rank + 2)
    gradients = []
    for _ in range(2):  # a parameter without a gradient is an error in the second step
        compute_loss(model.recipe.loss, parallel(images[half]), labels[half]).backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    scale = max(gradient.abs().max() for gradient in expected)
    pairs = zip(gradients[0], expected, strict=True)
    to_one_process = max((ours - whole).abs().max() for ours, whole in pairs) / scale
    weights = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    others = [torch.empty_like(weights) for _ in range(2)]
    dist.all_gather(others, weights)
    return to_one_process.item(), (others[0] - others[1]).abs().max().item()


if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    for family, arguments in json.loads(sys.argv[1]).items():
        result = difference(family, arguments)
        if dist.get_rank() == 0:
            print(json.dumps([family, *result]), flush=True)
    dist.barrier()  # a process that leaves first can bring the other's connection down
    dist.destroy_process_group()
