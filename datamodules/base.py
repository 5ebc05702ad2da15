"""The DataModule that all datasets share: three splits, augmentation for one of them, loaders that can be resumed."""

import hashlib
import os
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from zoo.datamodules.arrays import Arrays, Split
from zoo.datamodules.augment import Augment, build_augment, resolve_policy
from zoo.datamodules.batch import Sizing, crop_and_interpolation, for_channels, prepare_batch
from zoo.datamodules.checks import choice, whole_number
from zoo.datamodules.dataset import FeatureDataset, ImageDataset
from zoo.datamodules.download import Progress
from zoo.datamodules.loader import StatelessLoader, build_loader, default_num_workers, is_on_gpu, place
from zoo.datamodules.options import DataOptions, given_options
from zoo.datamodules.registry import dataset_spec
from zoo.datamodules.sampler import EvalSampler, TrainSampler, epoch_and_step, fitting_batch_size
from zoo.datamodules.splits import Selection
from zoo.datamodules.statistics import IMAGENET, channel_statistics

DEFAULT_BATCH_SIZE = 128
LARGEST_SEED = 2**32 - 1
_NEEDED = {"test": "test", "predict": "test", "validate": "val"}
"""The split that a stage is about; others, and no stage, start from the training images."""
_OF_TUNER = (".scale_batch_size_", ".lr_find_")
"""How the checkpoints are called to which Lightning's tuner goes back after each trial."""
_OF_PREPROCESSING = ("image_size", "crop", "interpolation", "permute_pixels")


class ImageDataModule(LightningDataModule):
    """Train, validation and test images of one dataset.

    The validation set is a stratified part of the training set and sees no augmentation. The test set is the official
    one, whole. Images travel as uint8 (N, H, W, C) and become normalised floats (N, C, H, W) on the device.

    Args:
        root: Folder that holds the dataset.
        download: Fetch the dataset into the folder if it is not there.
        **options: See `DataOptions`.
    """

    dataset = ""  # the name in the registry
    progress: Progress | None = None
    """Told how far downloading or decoding is: (done, total). Set by who can show it."""
    cached: Path | None = None
    """Where decoded images are kept, if they are."""
    is_stream = False
    """Whether training images come from a stream, in which they have no numbers."""

    def __init__(self, root: str | None = None, download: bool = False, **options: Unpack[DataOptions]) -> None:
        given = given_options(type(self), options, DataOptions)
        super().__init__()
        self.spec = dataset_spec(self.dataset)
        if self.spec.needs_root and not root:
            raise ValueError(f"{self.dataset} is read from a folder: give its path as root (--data.root DIR)")
        self.root = None if root is None else str(root)  # a path object could not be stored in a checkpoint
        self.download = download
        self.seed = whole_number("seed", given.get("seed", _run_seed()), least=0, most=LARGEST_SEED)
        self.selection = Selection(
            **{name: given[name] for name in Selection.__dataclass_fields__ if name in given} | {"seed": self.seed}
        )
        self.batch_size = given.get("batch_size", DEFAULT_BATCH_SIZE)
        self.num_workers = whole_number("num_workers", given.get("num_workers", self.default_num_workers()), least=0)
        self._image_size = whole_number("image_size", given["image_size"]) if "image_size" in given else None
        self.crop, self.interpolation = crop_and_interpolation(given)
        self.augment = resolve_policy(given.get("augment", self.spec.augment))
        published = "spec" if self.spec.mean else "auto"
        self.normalize = choice("normalize", given.get("normalize", published), ("spec", "auto", "imagenet"))
        self.sampler = choice("sampler", given.get("sampler", "shuffle"), ("shuffle", "balanced"))
        self.drop_last = bool(given.get("drop_last", True))
        self.permute_pixels: int | None = given.get("permute_pixels")
        if self.permute_pixels is not None:
            whole_number("permute_pixels", self.permute_pixels, least=0)
        self.splits: dict[str, Split] = {}
        self.notices: list[str] = []
        self._needed = "train"
        self._features: dict[str, FeatureDataset] = {}
        self._is_normalization_set = False
        self._border: int | None = None  # until `use_preprocessing` sets a trained model's
        self._batches_done = 0  # by the run that is being resumed
        self._hash = ""  # of the training images, once it was needed

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    @property
    def in_channels(self) -> int:
        """1 for grey images, 3 for colour."""
        return self.spec.in_channels

    @property
    def class_names(self) -> list[str]:
        """What the labels 0, 1, 2, ... mean."""
        return [self.spec.class_names[number] for number in self.selection.classes(self.spec.class_names)]

    @property
    def class_counts(self) -> list[int]:
        """How many training images each class has, once `setup` has run."""
        counts: list[int] = np.bincount(self.splits["train"].labels, minlength=self.num_classes).tolist()
        return counts

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
    def sizing(self) -> Sizing:
        """How an image comes to its size, but for the random changes of training images."""
        return Sizing(self.image_size, self.border, self.crop, self.interpolation)

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
            "args": self.arguments(),
            "preprocessing": self.preprocessing(),
            "class_names": self.class_names,
        }

    def preprocessing(self) -> dict[str, Any]:
        """How an image becomes what the network sees."""
        facts: dict[str, Any] = {"image_size": self.image_size, "in_channels": self.in_channels, "border": self.border}
        facts |= {"mean": list(self.spec.mean), "std": list(self.spec.std), **self.sizing.unusual()}
        return facts if self.permute_pixels is None else {**facts, "permute_pixels": self.permute_pixels}

    def arguments(self) -> dict[str, Any]:
        """The arguments that build these data again, on another machine too; those not given are left out."""
        chosen = {"root": self.root, "image_size": self.image_size, **self._choices()}
        return {name: _plain(value) for name, value in chosen.items() if value is not None}

    def _choices(self) -> dict[str, Any]:
        """What a run must keep to be resumed exactly."""
        names = ("batch_size", "augment", "normalize", "sampler", "drop_last", "permute_pixels")
        sizing = {"crop": None, "interpolation": None, **self.sizing.unusual()}
        return {**{name: getattr(self, name) for name in names}, **sizing, **asdict(self.selection)}

    def use_preprocessing(self, preprocessing: Mapping[str, Any], *, keep: Collection[str] = ()) -> None:
        """Prepare images as a trained model expects them: what `preprocessing()` said in its training.

        Mean and deviation of a model for colour become their averages for grey images; those for grey are repeated.

        Args:
            preprocessing: What it said.
            keep: Options that stay as they are here: image_size, which keeps the border of another size too, crop,
                interpolation, permute_pixels, and normalize for mean and deviation. Other names mean nothing.

        Raises:
            ValueError: The crop or the interpolation is none.
        """
        kept = {name: getattr(self, name) for name in keep if name in _OF_PREPROCESSING}
        chosen = {"permute_pixels": None, **preprocessing, **kept}
        self.image_size, self.permute_pixels = chosen["image_size"], chosen["permute_pixels"]
        self.crop, self.interpolation = crop_and_interpolation(chosen)
        if self.image_size == preprocessing["image_size"]:
            self._border = preprocessing["border"]
        if "normalize" not in keep:
            mean, std = (for_channels(preprocessing[name], self.in_channels) for name in ("mean", "std"))
            self.use_normalization(mean, std)

    def use_normalization(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Normalise with this mean and deviation per channel, such as those of pretrained weights."""
        self.spec, self._is_normalization_set = replace(self.spec, mean=tuple(mean), std=tuple(std)), True

    def default_num_workers(self) -> int:
        """Loader processes if the user does not say how many."""
        return default_num_workers()

    def load(self) -> dict[str, Split]:
        """The dataset's own parts: train, test and, if it has one, val."""
        train, test = self.load_arrays()
        return {"train": Split.of(train), "test": Split.of(test)}

    def load_arrays(self) -> tuple[Arrays, Arrays]:
        """The official training and test sets of a dataset that fits into memory."""
        raise NotImplementedError(f"{type(self).__name__} must define load_arrays")

    def setup(self, stage: str | None = None) -> None:
        """Load and split the images that a stage needs; a second call changes nothing."""
        if stage == "fit":
            self._batches_done = 0  # Lightning calls load_state_dict after this if there is a run to resume
        self._needed = _NEEDED.get(stage or "", "train")
        if self._needed not in self.splits:
            parts = self.load()
            if self._needed == "test" in parts and self._is_normalized:
                parts = {"test": parts["test"]}  # how the others would be divided, or that they can't be, is no matter
            self.splits = self.selection.apply(parts, self.spec.class_names)
            if "train" in self.splits:
                self._normalize(self.splits["train"])
        if stage == "fit" and "train" not in self.splits:
            raise ValueError(f"{self.spec.name} has no training images")

    @property
    def _is_normalized(self) -> bool:
        """Whether mean and deviation are known without the training images."""
        return self._is_normalization_set or self.normalize == "spec"

    def _normalize(self, train: Split) -> None:
        if self._is_normalized:
            return
        if self.normalize == "imagenet" and self.in_channels != len(IMAGENET[0]):
            channels = f"{self.in_channels} channel" + "s" * (self.in_channels > 1)
            raise ValueError(f"normalize is imagenet, which is for colour: images of {self.spec.name} have {channels}")
        if self.normalize == "imagenet":
            self.use_normalization(*IMAGENET)
        else:
            self.use_normalization(*channel_statistics(train, self._side, self.interpolation))

    @property
    def _side(self) -> int:
        """The size at which the mean and deviation of images are taken."""
        return self.spec.image_size

    def train_dataloader(self) -> StatelessLoader:
        """Shuffled, augmented training images; a last batch that is not full is left out unless `drop_last` is off."""
        dataset = self._features.get("train") or self.make_dataset("train", is_training=True)
        rank, world = place(self.trainer)
        batch_size = fitting_batch_size(self.batch_size, len(dataset), world)
        if batch_size != self.batch_size:
            self._notice(f"batch_size {self.batch_size} is more than the training images: {batch_size} is used")
        position = None if self.trainer is None else self._position
        labels = self.splits["train"].labels if self.sampler == "balanced" else None
        sampler = TrainSampler(
            dataset, batch_size, seed=self.seed, rank=rank, world=world,
            position=position, drop_last=self.drop_last, labels=labels,
        )  # fmt: skip
        return self._loader(dataset, sampler)

    def val_dataloader(self) -> StatelessLoader:
        """Validation images in order, each exactly once."""
        features = self._features.get("val")
        return self.ordered_loader("val") if features is None else self._in_order(features)

    def test_dataloader(self) -> StatelessLoader:
        """Test images in order, each exactly once."""
        return self.ordered_loader("test")

    def predict_dataloader(self) -> StatelessLoader:
        """The test images."""
        return self.ordered_loader("test")

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Normalise uint8 images on the device; batches of floats pass through."""
        return prepare_batch(batch, self.preprocessing())

    def state_dict(self) -> dict[str, Any]:
        """Where the run stands, and what must stay the same for it to be resumed exactly."""
        return {"batches_done": self._done(), "facts": self._facts(self.trainer)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the position of a run that is being resumed; note what has changed since."""
        if self.trainer is None or self.trainer.state.fn != TrainerFn.FITTING:
            return
        self._batches_done = int(state_dict["batches_done"])
        for change in self.changes(state_dict, self.trainer):
            self._notice(f"not an exact resume: {change}")
            if not Path(str(self.trainer.ckpt_path)).name.startswith(_OF_TUNER):
                warnings.warn(f"not an exact resume: {change}", stacklevel=2)

    def changes(self, state_dict: Mapping[str, Any], trainer: Trainer) -> list[str]:
        """What has changed since the run whose `state_dict` this is, in lines; with none, resuming is exact."""
        before, now = state_dict.get("facts", {}), self._facts(trainer)
        changed = {name: value for name, value in now.items() if _differ(before.get(name, value), value)}
        others = ["the training images, their labels or classes are others"] if changed.pop("content", "") else []
        return [*(f"{name} was {before[name]} and is {value}" for name, value in changed.items()), *others]

    def _facts(self, trainer: Trainer | None) -> dict[str, Any]:
        where: dict[str, Any] = {"devices": place(trainer)[1]}
        if trainer is not None:
            where |= {"limit_train_batches": trainer.limit_train_batches, "precision": str(trainer.precision)}
            names = ("accumulate_grad_batches", "max_steps", "limit_val_batches", "check_val_every_n_epoch")
            where |= {name: getattr(trainer, name) for name in names}
            where |= {"val_check_interval": _plain_interval(trainer.val_check_interval)}
        what = {"dataset": self.spec.name, "images": self.sizes.get("train"), "run_seed": _run_seed()}
        chosen = _plain(self._choices())
        return {**what, "content": self._content(), "image_size": self.image_size, **where, **chosen}

    def _content(self) -> str:
        """A hash of the training images, their labels and the names of the classes."""
        if not self._hash and "train" in self.splits:
            classes = "\n".join(self.class_names)
            self._hash = hashlib.sha256(f"{self.splits['train'].content()} {classes}".encode()).hexdigest()
        return self._hash

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

    def make_augment(self) -> Augment | None:
        """What is done to training images at this size; None if nothing is."""
        size, channels, mirror = self.image_size, self.in_channels, self.spec.mirror
        return build_augment(self.augment, seed=self.seed, image_size=size, in_channels=channels, mirror=mirror)

    def make_dataset(self, name: str, *, is_training: bool = False) -> ImageDataset:
        """The images of a split, augmented if they are for training.

        Raises:
            ValueError: There is no such split.
        """
        if name not in self.splits:
            self.setup()
        if name not in self.splits:
            raise ValueError(f"{self.spec.name} has no {name} images")
        change = self.make_augment() if is_training else None
        return ImageDataset(self.splits[name], self.sizing, change)

    def ordered_loader(self, name: str) -> StatelessLoader:
        """The images of a split in order, each exactly once, without augmentation; needs no trainer.

        With a trainer on several devices, each has its share of them.
        """
        return self._in_order(self.make_dataset(name))

    def use_features(self, features: Mapping[str, Tensor]) -> None:
        """From now on, train and validate on features of the images, as a frozen network made them.

        Loaders for training and validation give (features (B, D), labels (B,)) in the order in which they gave images.
        Those for testing and prediction give images as before. Nothing is augmented.

        Args:
            features: Floats (N, D) for each of train and val, as far as these splits are used: row i belongs to the
                i-th image of `ordered_loader`. With none, all is as it was.

        Raises:
            ValueError: There are not as many rows as images, another split is named, or the images are a stream.
        """
        if features and self.is_stream:
            raise ValueError(f"{self.spec.name} is read as a stream, for which no features can be kept: use other data")
        if other := set(features) - {"train", "val"}:
            raise ValueError(f"features are for train and val, not for {min(other)}")
        self._features = {name: FeatureDataset(self.make_dataset(name).split, rows) for name, rows in features.items()}

    @property
    def gives_features(self) -> bool:
        """Whether training runs on features rather than images."""
        return bool(self._features)

    def _in_order(self, dataset: ImageDataset | FeatureDataset) -> StatelessLoader:
        rank, world = place(self.trainer)
        return self._loader(dataset, EvalSampler(dataset, max(1, self.batch_size // world), rank=rank, world=world))

    def _loader(self, dataset: ImageDataset | FeatureDataset, sampler: TrainSampler | EvalSampler) -> StatelessLoader:
        workers = self.num_workers if isinstance(dataset, ImageDataset) else 0  # features are there already
        return build_loader(dataset, sampler, num_workers=workers, pin_memory=is_on_gpu(self.trainer))

    def _notice(self, line: str) -> None:
        if line not in self.notices:
            self.notices.append(line)


def _run_seed() -> int:
    """The seed that Lightning was told, from which all randomness follows."""
    return int(os.environ.get("PL_GLOBAL_SEED", 0))


def _differ(before: Any, now: Any) -> bool:
    """Whether two settings are not the same: of batches, 1 is one, and 1.0 all of them."""
    return bool(before != now) or isinstance(before, float) != isinstance(now, float)


def _plain_interval(value: Any) -> Any:
    """How often is validated: a number, or as text what stands for a time."""
    return value if value is None or isinstance(value, int | float) else str(value)


def _plain(value: Any) -> Any:
    """Lists in the place of tuples, as checkpoints and JSON have them."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value
