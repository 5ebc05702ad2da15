"""The DataModule that all datasets share: three splits, augmentation for one of them, loaders that can be resumed."""

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn

from zoo.datamodules.arrays import ArrayDataset, Arrays, split
from zoo.datamodules.augment import build_augment, check_policy
from zoo.datamodules.batch import normalize_first
from zoo.datamodules.checks import fraction, whole_number
from zoo.datamodules.loader import StatelessLoader, build_loader, default_num_workers, is_on_gpu, place
from zoo.datamodules.registry import dataset_spec
from zoo.datamodules.sampler import EvalSampler, TrainSampler, epoch_and_step, fitting_batch_size

DEFAULT_BATCH_SIZE = 128


class ImageDataModule(LightningDataModule):
    """Train, validation and test images of one dataset.

    The validation set is a stratified part of the training set and sees no augmentation. The test set is the official
    one, whole. Images travel as uint8 (N, H, W, C) and become normalised floats (N, C, H, W) on the device.

    Args:
        root: Folder that holds the dataset.
        download: Fetch the dataset into the folder if it is not there.
        batch_size: Images per step over all devices together. 128 if not given.
        num_workers: Loader processes. If not given: none on one or two processors, else up to four.
        image_size: Side of the images in pixels. The dataset's own size if not given.
        augment: Changes to training images: none, flip_crop, affine, color, strong or imagenet. The dataset's own
            policy if not given. Digits are never mirrored, whatever the policy.
        val_size: Part of the training set that is held out for validation.
        seed: Seed of the validation split, the order and the augmentation. The run's seed if not given.
    """

    dataset = ""  # the name in the registry

    def __init__(
        self,
        root: str | None = None,
        download: bool = False,
        batch_size: int | None = None,
        num_workers: int | None = None,
        image_size: int | None = None,
        augment: str | None = None,
        val_size: float = 0.1,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.spec = dataset_spec(self.dataset)
        if self.spec.needs_root and not root:
            raise ValueError(f"{self.dataset} is read from a folder: give its path as root (--data.root DIR)")
        self.root = None if root is None else str(root)  # a path object could not be stored in a checkpoint
        self.download = download
        self.batch_size = DEFAULT_BATCH_SIZE if batch_size is None else batch_size
        workers = default_num_workers() if num_workers is None else num_workers
        self.num_workers = whole_number("num_workers", workers, least=0)
        self._image_size = None if image_size is None else whole_number("image_size", image_size)
        self.augment = check_policy(self.spec.augment if augment is None else augment)
        self.val_size = fraction("val_size", val_size)
        run_seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed
        self.seed = whole_number("seed", run_seed, least=0, most=2**32 - 1)
        self.splits: dict[str, Arrays] = {}
        self.notices: list[str] = []
        self._border: int | None = None  # until `use_preprocessing` sets a trained model's
        self._batches_done = 0  # by the run that is being resumed

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return self.spec.num_classes

    @property
    def in_channels(self) -> int:
        """1 for grey images, 3 for colour."""
        return self.spec.in_channels

    @property
    def class_names(self) -> list[str]:
        """What the labels 0, 1, 2, ... mean."""
        return list(self.spec.class_names)

    @property
    def image_size(self) -> int:
        """The side of the images in a batch; loaders made later follow a change."""
        return self.spec.image_size if self._image_size is None else self._image_size

    @image_size.setter
    def image_size(self, value: int) -> None:
        self._image_size = whole_number("image_size", value)

    @property
    def border(self) -> int:
        """Width of the black border around an image: what `DatasetSpec.pad_to` leaves, or none."""
        if self._border is not None:
            return self._border
        return (self.image_size - self.spec.image_size) // 2 if self.image_size == self.spec.pad_to else 0

    @property
    def batch_size(self) -> int:
        """Images per step over all devices together; loaders made later follow a change."""
        return self._batch_size

    @batch_size.setter
    def batch_size(self, value: int) -> None:
        self._batch_size = whole_number("batch_size", value)

    @property
    def sizes(self) -> dict[str, int]:
        """How many images each split has, once `setup` has run."""
        return {name: len(arrays) for name, arrays in self.splits.items()}

    def describe(self) -> dict[str, Any]:
        """What a checkpoint must know to rebuild the data and to prepare new images the same way: plain values only."""
        spec = self.spec
        return {
            "name": spec.name,
            "args": self._arguments(),
            "preprocessing": {
                "image_size": self.image_size,
                "in_channels": spec.in_channels,
                "mean": list(spec.mean),
                "std": list(spec.std),
                "border": self.border,
            },
            "class_names": self.class_names,
        }

    def _arguments(self) -> dict[str, Any]:
        # Without `download` and `num_workers`: they belong to a machine, not to the data.
        names = ("root", "batch_size", "image_size", "augment", "val_size", "seed")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def use_preprocessing(self, preprocessing: Mapping[str, Any]) -> None:
        """Prepare images as a trained model expects them: what `describe()["preprocessing"]` said in its training."""
        self.image_size = preprocessing["image_size"]
        mean, std = tuple(preprocessing["mean"]), tuple(preprocessing["std"])
        self.spec = replace(self.spec, mean=mean, std=std)
        self._border = preprocessing["border"]

    def load_arrays(self) -> tuple[Arrays, Arrays]:
        """The official training and test sets; every dataset defines this."""
        raise NotImplementedError(f"{type(self).__name__} must define load_arrays")

    def setup(self, stage: str | None = None) -> None:
        """Load and split the images; a second call changes nothing."""
        if stage == "fit":
            self._batches_done = 0  # Lightning calls load_state_dict after this if there is a run to resume
        if not self.splits:
            whole, test = self.load_arrays()
            train, val = split(whole, self.val_size, self.seed)
            self.splits = {"train": train, "val": val, "test": test}

    def train_dataloader(self) -> StatelessLoader:
        """Shuffled, augmented training images; the last batch is left out unless it is full."""
        dataset = self._images("train", self.augment)
        rank, world = place(self.trainer)
        batch_size = fitting_batch_size(self.batch_size, len(dataset), world)
        if batch_size != self.batch_size:
            self._notice(f"batch_size {self.batch_size} is more than the training images: {batch_size} is used")
        position = None if self.trainer is None else self._position
        sampler = TrainSampler(dataset, batch_size, seed=self.seed, rank=rank, world=world, position=position)
        return self._loader(dataset, sampler, batch_size // world)

    def val_dataloader(self) -> StatelessLoader:
        """Validation images in order, each exactly once."""
        return self._eval_loader("val")

    def test_dataloader(self) -> StatelessLoader:
        """Test images in order, each exactly once."""
        return self._eval_loader("test")

    def predict_dataloader(self) -> StatelessLoader:
        """The test images."""
        return self._eval_loader("test")

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Normalise uint8 images on the device; batches of floats pass through."""
        return normalize_first(batch, self.spec.mean, self.spec.std)

    def state_dict(self) -> dict[str, Any]:
        """Where the run stands, and what must stay the same for it to be resumed exactly."""
        return {"batches_done": self._done(), "facts": self._facts()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the position of a run that is being resumed; note what has changed since."""
        if self.trainer is None or self.trainer.state.fn != TrainerFn.FITTING:
            return
        self._batches_done = int(state_dict["batches_done"])
        for name, now in self._facts().items():
            before = state_dict["facts"].get(name, now)
            if before != now:
                self._notice(f"not an exact resume: {name} was {before} and is {now}")

    def _facts(self) -> dict[str, Any]:
        facts = {name: getattr(self, name) for name in ("batch_size", "image_size", "augment", "val_size", "seed")}
        limit = 1.0 if self.trainer is None else self.trainer.limit_train_batches
        return {"dataset": self.spec.name, **facts, "devices": place(self.trainer)[1], "limit_train_batches": limit}

    def _done(self) -> int:
        # Lightning restores its own counter after it may have built the loader and started its workers (a schedule
        # that asks for the number of steps does that); our copy of the counter is restored before. Take the later.
        if self.trainer is None:
            return self._batches_done
        total = self.trainer.fit_loop.epoch_loop.batch_progress.total
        return max(self._batches_done, int(total.processed))  # type: ignore[attr-defined]  # declared as its parent class

    def _position(self, steps: int) -> tuple[int, int]:
        limit = 1.0 if self.trainer is None else self.trainer.limit_train_batches
        return epoch_and_step(self._done(), steps, limit)

    def _images(self, name: str, augment: str = "none") -> ArrayDataset:
        self.setup()
        size, spec = self.image_size, self.spec
        change = build_augment(
            augment, seed=self.seed, image_size=size, in_channels=spec.in_channels, mirror=spec.mirror
        )
        return ArrayDataset(self.splits[name], size, self.border, change)

    def _eval_loader(self, name: str) -> StatelessLoader:
        dataset = self._images(name)
        rank, world = place(self.trainer)
        return self._loader(dataset, EvalSampler(dataset, rank=rank, world=world), max(1, self.batch_size // world))

    def _loader(self, dataset: ArrayDataset, sampler: TrainSampler | EvalSampler, batch_size: int) -> StatelessLoader:
        workers, pin_memory = self.num_workers, is_on_gpu(self.trainer)
        return build_loader(dataset, sampler, batch_size=batch_size, num_workers=workers, pin_memory=pin_memory)

    def _notice(self, line: str) -> None:
        if line not in self.notices:
            self.notices.append(line)
