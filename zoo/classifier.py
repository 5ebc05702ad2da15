"""`ImageClassifier`: the only training logic. A family subclasses it and adds layers, nothing else."""

import os
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Self

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.enums import GradClipAlgorithmType
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from zoo.averaging import MovingAverage, TailAverage
from zoo.checkpoint_io import prepare_trainer
from zoo.description import describe, is_ours, warn_of_difference
from zoo.divergence import LossWatch, check_checkpoint, check_weights
from zoo.finetune import Finetune, freeze, freeze_modes, start_penalty
from zoo.kinds import check_kinds
from zoo.layers import Init, check_size, initialize
from zoo.losses import balanced_weights, compute_loss, l1_penalty, mix
from zoo.metrics import Average
from zoo.optim import (
    check_line_search,
    clip_by_norm,
    hidden_layers,
    limit_norms,
    make_optimizer,
    rate_factor,
    repeatable,
)
from zoo.recipe import Recipe
from zoo.registry import MODELS
from zoo.resuming import check_same_run, inexact_changes
from zoo.seeds import mixed_seed
from zoo.step_figures import StepFigures, over_processes
from zoo.stopping import StopEarly

OWN_KINDS = {"recipe": Recipe, "finetune": Finetune}
"""Attributes that say how a model is trained, and what they are."""


class ImageClassifier(L.LightningModule):
    """An image classifier that knows how it is trained.

    A subclass builds its layers in data order in `__init__`, ends it with `self.finish(...)`, and has `stages`. Where
    its layers are not called `features` and `classifier`, it has `forward_features` and `forward_head` too. Called like
    any `nn.Module`, it maps normalised images `(N, in_channels, image_size, image_size)` to logits `(N, num_classes)`.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of the images: 1 for grey, 3 for colour.
        image_size: Height and width of the images in pixels.

    Attributes:
        recipe: How the model is trained; replace it before `Trainer.fit`.
        finetune: Which part of it is trained, and when; replace it before `Trainer.fit`.
        pretrained: Which weights it started from, as `create_model` was told; empty if from random ones.
        loaded: Names of the tensors that came with those weights.
        feature_shape: Where batches hold features of frozen layers in place of images: the shape of one image's.
        data: Name and arguments of the data module that the model was trained on; empty until then.
        preprocessing: What turned images into tensors in training; empty until a data module has said so.
        class_names: Names of the classes; empty until a data module has said so.
    """

    any_size: ClassVar[bool] = False
    """Whether the network, once built, takes images of other sizes too."""

    def __init__(self, num_classes: int, in_channels: int, image_size: int) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        check_kinds(self.hparams, type(self).__init__)
        for name, value in (("num_classes", num_classes), ("in_channels", in_channels), ("image_size", image_size)):
            check_size(name, value)
        self.num_classes, self.in_channels, self.image_size = num_classes, in_channels, image_size
        info = MODELS.get(type(self).__name__)
        self.recipe = info.recipe() if info else Recipe()
        self.finetune = Finetune()
        self.pretrained = ""
        self.loaded: tuple[str, ...] = ()
        self.feature_shape: tuple[int, ...] | None = None
        self.data: dict[str, Any] = {}
        self.preprocessing: dict[str, Any] = {}
        self.class_names: list[str] = []
        self._seed = 0
        self._class_weights: Tensor | None = None
        self._trained_stages: int | None = None  # counted from the output; None is all
        self._start: dict[str, Tensor] = {}  # of the weights that `finetune.l2sp` pulls back
        self._watch = LossWatch()
        self._seen = StepFigures()
        # Attributes: Lightning finds, moves and syncs metrics by attribute.
        self.train_loss, self.train_acc = Average(), Average()
        self.val_loss, self.val_acc = Average(), Average()
        self.test_loss, self.test_acc = Average(), Average()

    # What a family provides

    features: nn.Sequential
    classifier: nn.Module

    def forward_features(self, x: Tensor) -> Tensor:
        """Images to the features that the head classifies."""
        z: Tensor = self.features(x)
        return z

    def forward_head(self, z: Tensor) -> Tensor:
        """Features to logits `(N, num_classes)`."""
        logits: Tensor = self.classifier(z.flatten(1))
        return logits

    def stages(self) -> list[nn.Module]:
        """The blocks from input to output: what is frozen, unfrozen and given its own rate as one."""
        raise NotImplementedError

    # What every family has

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; plain text needs none of what `nn.Module` checks for parameters and layers.

        Lightning notes the name of the current hook in an attribute forty times a step. That is 3 % of LeNet-5's time.
        """
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
            return
        if name in OWN_KINDS and not isinstance(value, OWN_KINDS[name]):
            raise TypeError(f"{name} is {value!r:.60}: it must be a zoo.{OWN_KINDS[name].__name__}")
        super().__setattr__(name, value)

    def finish(self, init: Init, paper: Callable[[nn.Module], None]) -> None:
        """Initialise the parameters (`paper` sets one layer as the paper does) and choose their memory layout."""
        initialize(self, init, self.output, paper)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """Images `(N, in_channels, image_size, image_size)` to logits `(N, num_classes)`."""
        expected = (self.in_channels, self.image_size, self.image_size)
        if x.ndim != 4 or x.shape[1] != self.in_channels or (not self.any_size and x.shape[1:] != expected):
            raise ValueError(
                f"images have shape {tuple(x.shape[1:])}: {type(self).__name__} was built for {expected}. "
                "Give model and data module the same image_size"
            )
        return self.forward_head(self.forward_features(x))

    @property
    def output(self) -> nn.Module:
        """The layer that gives the logits: the last linear one, since layers are listed in data order."""
        return [layer for layer in self.modules() if isinstance(layer, nn.Linear)][-1]

    def new_output(self, num_classes: int) -> nn.Module:
        """A fresh last layer for `num_classes` classes."""
        old = self.output
        assert isinstance(old, nn.Linear)
        new = nn.Linear(old.in_features, num_classes, device=old.weight.device, dtype=old.weight.dtype)
        nn.init.kaiming_normal_(new.weight, nonlinearity="linear")
        nn.init.zeros_(new.bias)
        return new

    def replace_output(self, num_classes: int) -> None:
        """Put a fresh last layer in the place of the old one."""
        old = self.output
        name = next(name for name, layer in self.named_modules() if layer is old)
        self.set_submodule(name, self.new_output(num_classes))

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last layer by a new one with `num_classes` outputs."""
        check_kinds({"num_classes": num_classes}, ImageClassifier.__init__)
        check_size("num_classes", num_classes)
        old = {name for name, layer in self.named_modules() if layer is self.output}
        self.replace_output(num_classes)
        self.num_classes = self.hparams["num_classes"] = num_classes
        self.class_names, self._start = [], {}
        self.loaded = tuple(name for name in self.loaded if name.rpartition(".")[0] not in old)

    # Training

    def setup(self, stage: str) -> None:
        """Remember how the data module prepares images and what it calls the classes; weigh the classes."""
        prepare_trainer(self.trainer)  # before it reads a checkpoint, which comes next
        data = getattr(self.trainer, "datamodule", None)
        classes = getattr(data, "num_classes", None)
        if isinstance(classes, int) and classes > self.num_classes:
            raise ValueError(f"num_classes is {self.num_classes}, but the data have {classes} classes")
        if describe_data := getattr(data, "describe", None):
            self.data = describe_data()
            warn_of_difference(self.preprocessing, self.data["preprocessing"])
            self.preprocessing, self.class_names = self.data["preprocessing"], self.data["class_names"]
        if stage == "fit":
            if getattr(data, "gives_features", False) and self.finetune.method != "linear":
                raise ValueError("the data module gives features in place of images: data.use_features({}) ends that")
            self.prepare_finetune()
            is_weighted = self.recipe.class_weights == "balanced"
            counts = getattr(data, "class_counts", None) if is_weighted else None
            self._class_weights = balanced_weights(counts, self.num_classes) if is_weighted else None

    def on_fit_start(self) -> None:
        """Take the run's seed: all randomness of a step is a function of (seed, epoch, step, rank)."""
        if not self.training:  # as `zoo.load` gives it; Lightning would keep that
            self.train()
        self._seed = int(os.environ.get("PL_GLOBAL_SEED", "0"))
        self._start = {name: value.to(self.device) for name, value in self._start.items()}
        self._seen.to(self.device)

    def on_train_start(self) -> None:
        """Freeze what is frozen in this epoch, which a resumed run may start in the middle of; take this step's rate.

        A checkpoint has the rate that followed when it was written: 0 at the end of a run that is now made longer.
        """
        self._freeze()
        schedule = self.lr_schedulers()
        if isinstance(schedule, LambdaLR):
            groups = schedule.optimizer.param_groups
            for group, peak, factor in zip(groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
                group["lr"] = peak * factor(schedule.last_epoch)

    def on_fit_end(self) -> None:
        """Nothing stays frozen after the run, and what it trained can be fine-tuned in turn."""
        self._thaw()
        self._start, self.loaded = {}, tuple(self.state_dict())

    def _thaw(self) -> None:
        if self._trained_stages is not None:
            self._trained_stages = None
            self.requires_grad_(True)
            self.train()

    def tuned_stages(self) -> list[nn.Module]:
        """The stages that have something to train."""
        return [stage for stage in self.stages() if next(stage.parameters(), None) is not None]

    def train(self, mode: bool = True) -> Self:
        """Set the mode of training; what is frozen stays in evaluation mode."""
        super().train(mode)
        if mode and self._trained_stages is not None:
            freeze_modes(self, self.tuned_stages(), self._trained_stages, freeze_bn=self.finetune.freeze_bn)
        return self

    def _freeze(self) -> None:
        """Freeze what is frozen in the current epoch: nothing but the epoch decides, so that resuming is exact."""
        if self.finetune.freezes:
            stages, epochs = self.tuned_stages(), self.trainer.max_epochs
            self._trained_stages = self.finetune.trained_stages(len(stages), self.current_epoch, epochs)
            freeze(self, stages, self._trained_stages)
            self.train()

    def prepare_finetune(self) -> None:
        """Check that this network can be fine-tuned as `finetune` says; keep what the run needs of its first weights.

        What is never trained is frozen now, before a strategy wraps the network and an optimiser is made of the rest.

        Raises:
            ValueError: If it cannot.
        """
        self._thaw()  # after a run that broke off
        endless = self._trainer is not None and (self.trainer.max_epochs or -1) < 0
        self.finetune.check(type(self).__name__, self.output, is_trained=bool(self.loaded), is_endless=endless)
        if self.finetune.l2sp and not self._start:  # only once: a run that is resumed has other weights by then
            parameters = dict(self.named_parameters())
            self._start = {name: parameters[name].detach().clone() for name in self.loaded if name in parameters}
        if self.finetune.freezes:
            stages = self.tuned_stages()
            freeze(self, stages, self.finetune.most_trained(len(stages)))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed dropout and mixing, so that a resumed run draws what the uninterrupted one would have drawn."""
        self._seed_step(batch_idx)

    def _seed_step(self, batch_idx: int) -> None:
        seed = mixed_seed(self._seed, self.current_epoch, batch_idx, self.global_rank)
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Loss of one batch of images and labels `(N,)`."""
        images, labels = batch
        targets = labels
        if self.recipe.mixup or self.recipe.cutmix:
            images, targets = mix(images, labels, self.recipe, self.num_classes)
        images, targets = self._cast((images, targets))
        logits = self._logits(images)
        weights = None if self._class_weights is None else self._class_weights.to(logits)
        loss = compute_loss(self.recipe.loss, logits, targets, self.recipe.label_smoothing, weights)
        correct = (logits.detach().argmax(dim=1) == labels).sum()
        figures: Sequence[Tensor] = (loss.detach(), correct, correct.new_full((), len(labels)))
        if self._start:
            loss = loss + self.finetune.l2sp * start_penalty(self, self._start)
        if self.recipe.l1:
            loss = loss + self.recipe.l1 * l1_penalty(self, self.recipe)
        watched = loss.detach()
        if self._shares_figures:
            watched, *figures = over_processes(watched, *figures)
        self._seen.add(*figures)
        self._watch.check(watched, batch_idx, self.trainer)
        return loss

    @property
    def _shares_figures(self) -> bool:
        """Whether each process knows the figures of all, so that the checkpoint of one has them: not on TPUs."""
        return self.trainer.world_size > 1 and self.device.type != "xla"

    def _logits(self, images: Tensor) -> Tensor:
        """Logits of images `(N, C, H, W)`, or of features `(N, D)` that frozen layers gave before the run."""
        if self.feature_shape is not None and images.ndim == 2:
            from zoo.features import logits_from_features

            return logits_from_features(self, images, self.feature_shape)
        logits: Tensor = self(images)
        return logits

    def on_train_epoch_start(self) -> None:
        """Forget the steps of the last epoch; freeze what is frozen in this one."""
        self._seen.cut(0)
        self._freeze()

    def on_train_epoch_end(self) -> None:
        """Log the epoch's averages; stop before Lightning saves, which comes next, weights that are no numbers."""
        if self._seen:  # a run that is resumed at the end of an epoch has taken no step of it
            loss, correct, images = self._seen.sums()
            self.train_loss.update(loss, images)
            self.train_acc.update(correct, images)
            self._log("train")
            self._seen.cut(0)  # before the checkpoint is written, which would keep them
        check_weights(self, self.current_epoch)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Count one batch of the validation split."""
        self._evaluate("val", batch)

    def on_validation_epoch_end(self) -> None:
        """Log the averages over the validation split."""
        self._log("val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Count one batch of the test set."""
        self._evaluate("test", batch)

    def on_test_epoch_end(self) -> None:
        """Log the averages over the test set."""
        self._log("test")

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> tuple[Tensor, Tensor]:
        """Class probabilities `(N, num_classes)` of a batch, and the indices or labels that came with the images."""
        images, index = self._cast(batch)
        return self(images).float().softmax(dim=1), index

    def _evaluate(self, stage: str, batch: tuple[Tensor, Tensor]) -> None:
        images, labels = self._cast(batch)
        logits = self._logits(images)
        self._count(stage, compute_loss(self.recipe.loss, logits, labels), logits, labels)

    def _cast(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Images in the precision of the weights: they are normalised after Lightning has converted the batch."""
        images, rest = batch
        return images.to(self.dtype), rest.to(self.dtype) if rest.is_floating_point() else rest

    def _count(self, stage: str, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        images = len(labels)
        getattr(self, f"{stage}_loss").update(loss.float() * images, images)
        getattr(self, f"{stage}_acc").update((logits.argmax(dim=1) == labels).sum(), images)

    def _log(self, stage: str) -> None:
        # Once an epoch: a call of `log` at every step costs a small network a fifth of its training time.
        self.log_dict({f"{stage}/{name}": getattr(self, f"{stage}_{name}") for name in ("loss", "acc")})

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: torch.optim.Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Take a step. L-BFGS evaluates its batch several times: metrics count the first, and all draw alike."""
        if self.recipe.optimizer != "lbfgs" or optimizer_closure is None:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        else:
            steps = len(self._seen)
            closure = repeatable(self, partial(self._seed_step, batch_idx), optimizer_closure)
            super().optimizer_step(epoch, batch_idx, optimizer, closure)
            self._seen.cut(steps + 1)
        if self.recipe.max_norm:
            limit_norms(self, self.output, self.recipe.max_norm)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The recipe's optimiser and schedule.

        Raises:
            ValueError: If the network or the trainer does not go with the recipe.
        """
        self.check_recipe(self.trainer)
        fused = True if self._can_fuse() else None
        optimizer = make_optimizer(self, self.stages(), self.recipe, head_lr=self.finetune.head_lr, fused=fused)
        self.trainer.fit_loop.setup_data()  # counts the batches, also when the run ends by steps
        total_steps = self.trainer.estimated_stepping_batches
        steps_per_epoch = self.trainer.num_training_batches / self.trainer.accumulate_grad_batches
        schedule = LambdaLR(optimizer, lambda step: rate_factor(self.recipe, step, total_steps, steps_per_epoch))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _can_fuse(self) -> bool:
        """Whether the optimiser can take its step in one pass, which on a CPU saves a fifth of VGG's time.

        That takes no gradients of a scaler's, with momentum no parameters that join the others later, and no shares of
        parameters.
        """
        if self.device.type != "cpu" or self.trainer.precision == "16-mixed" or self.finetune.changes:
            return False
        return all(type(parameter) is nn.Parameter for parameter in self.parameters())

    def check_recipe(self, trainer: L.Trainer) -> None:
        """Check that this network can be trained as its recipe and its `finetune` say.

        Args:
            trainer: Who is to train it.

        Raises:
            ValueError: If the network or the trainer does not go with them.
        """
        if self.recipe.optimizer == "lbfgs":
            check_line_search(trainer)
            if self.finetune.head_lr:
                raise ValueError(f"finetune.head_lr is {self.finetune.head_lr}: it must be 0 with the optimizer lbfgs")
        if self.recipe.early_stopping and not trainer.limit_val_batches:
            raise ValueError(f"recipe.early_stopping is {self.recipe.early_stopping}, but nothing is validated: set 0")
        if self.recipe.layer_decay != 1 and self.finetune.most_trained(len(self.tuned_stages())) == 1:
            what = f"one stage of {type(self).__name__} is trained"
            raise ValueError(f"recipe.layer_decay is {self.recipe.layer_decay}, but {what}: it must be 1")
        if self.recipe.max_norm and not hidden_layers(self, self.output):
            what = f"{type(self).__name__} has no hidden layer that is trained"
            raise ValueError(f"recipe.max_norm is {self.recipe.max_norm}, but {what}: it must be 0")

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip as the trainer says if it says anything, else as the recipe does."""
        value = self.recipe.gradient_clip or None if gradient_clip_val is None else gradient_clip_val
        if not value:
            return
        plugin, algorithm = self.trainer.precision_plugin, gradient_clip_algorithm or "norm"
        if algorithm == "norm" and self.dtype == torch.float32 and self._can_fuse():
            clip_by_norm(optimizer, value)
        elif isinstance(plugin, MixedPrecision) and plugin.scaler is None:
            # Lightning refuses to clip for a fused step, which is for gradients of a scaler's: here there is none.
            Precision.clip_gradients(plugin, optimizer, value, GradClipAlgorithmType(algorithm))
        else:
            self.clip_gradients(optimizer, value, algorithm)

    def configure_callbacks(self) -> list[Callback]:
        """The average of the weights and the early end, if the recipe asks for them."""
        ema, swa, patience = self.recipe.ema, self.recipe.swa, self.recipe.early_stopping
        averages: list[Callback] = [MovingAverage(ema)] if ema else [TailAverage(swa)] if swa else []
        return averages + ([StopEarly(patience)] if patience else [])

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what rebuilds this model from its name, as plain values (`zoo.load` reads them).

        Within an epoch, add what its averages are made of too, so that an interruption does not change them.
        """
        check_checkpoint(checkpoint)
        checkpoint["zoo"] = self.description()
        if self._seen and "optimizer_states" in checkpoint and (self._shares_figures or self.trainer.world_size == 1):
            checkpoint["seen"] = self._seen.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the averages of the epoch that was interrupted; warn of what has changed since.

        Raises:
            ValueError: If it is something that the checkpoint would silently decide.
        """
        trainer = self._trainer
        if trainer is not None and trainer.state.fn == TrainerFn.FITTING and is_ours(checkpoint.get("zoo")):
            from zoo.checkpoint import check_parts

            check_parts(checkpoint, trainer.ckpt_path or "the checkpoint")
            check_same_run(self, checkpoint["zoo"])
            for change in inexact_changes(self, checkpoint["zoo"]):
                warnings.warn(f"not an exact resume: {change}", stacklevel=2)
        self._seen.load_state_dict(checkpoint.get("seen", {"losses": (), "correct": (), "images": ()}))

    def description(self) -> dict[str, Any]:
        """Name, arguments, recipe and data of this model, as plain values."""
        return describe(self)

    @classmethod
    def load_from_checkpoint(
        cls,
        checkpoint_path: Any,
        map_location: Any = None,
        hparams_file: Any = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """The trained model in a file, as `zoo.load` gives it: nothing that the file names is imported or run.

        Lightning's own method would fetch addresses, and run what is in them.

        Args:
            checkpoint_path: What `zoo.load` takes.
            map_location: A device to put the model on.
            hparams_file: Must be None, as the checkpoint has the arguments.
            strict: Must not be False.
            weights_only: Must not be False.
            kwargs: Must be empty: a network with other arguments has other weights.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file holds a model of another class, `zoo.load` refuses it, or an option is not as above.
        """
        from zoo.checkpoint import load_as

        rules = [
            ("map_location", map_location, isinstance(map_location, str | int | torch.device | None)),
            ("hparams_file", hparams_file, hparams_file is None),
            ("strict", strict, strict is not False),
            ("weights_only", weights_only, weights_only is not False),
            *((name, value, False) for name, value in kwargs.items()),
        ]
        for name, value, holds in rules:
            if not holds:
                raise ValueError(f"{name} is {value!r:.60}: a checkpoint is loaded as it was saved, leave {name} out")
        model = load_as(cls, checkpoint_path)
        assert isinstance(model, cls)
        return model if map_location is None else model.to(torch.device(map_location))
