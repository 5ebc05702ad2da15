"""`FullySharded`: weights, gradients and optimiser state divided among processes, on GPUs and on CPUs alike."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_map_only

from zoo.classifier import ImageClassifier
from zoo.finetune import Finetune
from zoo.recipe import Recipe

WHOLE_WEIGHTS = ("ema", "swa", "l1", "max_norm")
"""Fields of the recipe for which a process would need more of the weights than its share."""


class FullySharded(DDPStrategy):
    """Data parallel training in which each process keeps a share of weights, gradients and optimiser state.

    Lightning's DDP with PyTorch's `fully_shard` in the place of its wrapper (FSDP2; Rajbhandari et al. 2020, stage 3;
    Zhao et al. 2023). Lightning's own FSDPStrategy needs GPUs, and its ModelParallelStrategy numbers the optimiser's
    state in another order than the optimiser does. Here checkpoints are those of one process: whole tensors, which
    any other strategy reads.

    As under DDP, the statistics of batch normalisation are those of the first process. While the network is evaluated,
    every process has the whole of it: they may have different numbers of batches, and would wait for each other. A
    network that was trained stays divided; a checkpoint has it whole.

    Raises:
        ValueError: In `Trainer.fit`, if the recipe or the precision needs what a share of the weights cannot give.

    Example:
        >>> trainer = Trainer(strategy=FullySharded(), accelerator="cpu", devices=2)
        >>> trainer.world_size
        2
    """

    def setup(self, trainer: Trainer) -> None:
        """Divide the network, unless an earlier run has, and set up the rest."""
        model, is_fit = self.lightning_module, trainer.state.fn == TrainerFn.FITTING
        if not isinstance(model, ImageClassifier):
            raise ValueError(
                f"{type(model).__name__} is no ImageClassifier, whose stages say how to divide it: use ddp"
            )
        if is_fit:
            check_sharding(model.recipe, model.finetune, trainer.precision)
        if is_fit and self._layer_sync is not None and not isinstance(model, FSDPModule):
            self.model = self._layer_sync.apply(model)
        super(DDPStrategy, self).setup(trainer)  # DDP's own sends the network from process to process as it is

    def _setup_model(self, model: nn.Module) -> nn.Module:  # type: ignore[override]  # DDP's returns its wrapper
        if not isinstance(model, FSDPModule):
            assert isinstance(model, ImageClassifier)
            shard(model, init_device_mesh(self.root_device.type, (self.world_size,)))
        return model

    def teardown(self) -> None:
        """Leave the shares on their device, as Lightning's ModelParallelStrategy does."""
        assert self.cluster_environment is not None and self.accelerator is not None
        self.cluster_environment.teardown()
        self.precision_plugin.teardown()
        self.accelerator.teardown()

    # Checkpoints

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Whole weights, in every process: all of them look whether the numbers are finite."""
        return _whole(super().lightning_module_state_dict())

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The state of an optimiser, as one of whole weights has it."""
        return _whole(super().optimizer_state(optimizer))

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Take up this process's share of the state in a checkpoint."""
        states = [_divided(*both) for both in zip(self.optimizers, checkpoint["optimizer_states"], strict=True)]
        super().load_optimizer_state_dict({"optimizer_states": states})

    # Evaluation

    def on_validation_start(self) -> None:
        """Gather the network."""
        self._gather()

    def on_validation_end(self) -> None:
        """Divide it again."""
        self._divide()

    def on_test_start(self) -> None:
        """Gather the network."""
        self._gather()

    def on_test_end(self) -> None:
        """Divide it again."""
        self._divide()

    def on_predict_start(self) -> None:
        """Gather the network."""
        self._gather()

    def on_predict_end(self) -> None:
        """Divide it again."""
        self._divide()

    def _gather(self) -> None:
        assert self.lightning_module is not None
        _share(self.lightning_module.buffers())
        for part in self._parts():
            part.set_reshard_after_forward(False, recurse=False)
            part.unshard()

    def _divide(self) -> None:
        for part in self._parts():
            part.set_reshard_after_forward(True, recurse=False)
            part.reshard()

    def _parts(self) -> list[FSDPModule]:
        assert self.lightning_module is not None
        return [part for part in self.lightning_module.modules() if isinstance(part, FSDPModule)]


def check_sharding(recipe: Recipe, finetune: Finetune, precision: object) -> None:
    """Raise ValueError if a network cannot be trained in this way by processes that have a share of it each."""
    for name in WHOLE_WEIGHTS:
        if value := getattr(recipe, name):
            raise ValueError(
                f"recipe.{name} is {value}, which needs whole weights: it must be 0 with the strategy fsdp"
            )
    if recipe.optimizer == "lbfgs":
        raise ValueError("recipe.optimizer is lbfgs, which needs whole weights: use another one or the strategy ddp")
    if finetune.freezes:
        raise ValueError(f"finetune.method is {finetune.method}: it must be none or full with the strategy fsdp")
    if finetune.l2sp:
        raise ValueError(f"finetune.l2sp is {finetune.l2sp}: it must be 0 with the strategy fsdp")
    if precision == "16-mixed":
        raise ValueError("trainer.precision is 16-mixed, and each share would be scaled for itself: use bf16-mixed")


def shard(model: ImageClassifier, mesh: DeviceMesh) -> None:
    """Divide the weights of `model` among the processes of `mesh`, stage by stage; each is whole while it computes.

    A stage that is no layer of its own is divided by its layers. State dicts of whole tensors can still be loaded.
    """
    model.to(memory_format=torch.contiguous_format)  # shares are rows of a tensor
    _share([*model.parameters(), *model.buffers()])
    layers, name = set(model.modules()), type(model).__name__
    for stage in model.stages():
        for part in [stage] if stage in layers else stage.children():
            if part in layers and next(part.parameters(), None) is not None and not isinstance(part, FSDPModule):
                fully_shard(part, mesh=mesh)
    fully_shard(model, mesh=mesh)
    type(model).__name__ = name  # of the class that PyTorch has made of it: the registry's name
    model.register_load_state_dict_pre_hook(_divide_state)  # type: ignore[no-untyped-call]  # torch leaves it untyped


def _share(tensors: Iterable[Tensor]) -> None:
    """Take over what the first process has."""
    for tensor in tensors:
        dist.broadcast(tensor.detach(), src=0)


def _whole(state: dict[str, Any]) -> dict[str, Any]:
    """The state with whole tensors in the place of shares."""
    whole: dict[str, Any] = tree_map_only(DTensor, lambda share: share.full_tensor().cpu(), state)
    return whole


def _divided(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """The state of an optimiser with shares in the place of whole tensors, as its parameters are divided.

    Fused steps take no shares: whether there are some is not for the run to say that wrote the state.
    """
    groups = [
        {**group, **{key: value for key, value in own.items() if key == "fused"}}
        for group, own in zip(state["param_groups"], optimizer.param_groups, strict=True)
    ]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    shares = {
        number: {key: _share_of(value, parameters[number]) for key, value in values.items()}
        for number, values in state["state"].items()
    }
    return {"state": shares, "param_groups": groups}


def _divide_state(model: nn.Module, state: dict[str, Any], *_: object) -> None:
    for name, parameter in model.named_parameters():
        if name in state:
            state[name] = _share_of(state[name], parameter)


def _share_of(value: Any, parameter: Tensor) -> Any:
    """This process's share of a tensor that belongs to a parameter; whatever else there is, as it is."""
    is_whole = isinstance(value, Tensor) and not isinstance(value, DTensor) and value.shape == parameter.shape
    if not is_whole or not isinstance(parameter, DTensor):
        return value
    mesh, placements = parameter.device_mesh, parameter.placements
    # None: every process has read the same file, so that nothing need be sent.
    return distribute_tensor(value.to(parameter.device), mesh, placements, src_data_rank=None)
