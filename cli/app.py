"""`ZooCLI`: LightningCLI with our names, one owner for each setting, and everything checked before training starts."""

import importlib
from typing import Any, Literal

import lightning as L
from jsonargparse import Namespace
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from zoo import names as model_names
from zoo.checkpoint_io import AtomicCheckpointIO
from zoo.classifier import ImageClassifier
from zoo.cli.errors import UserError, user_errors
from zoo.cli.parser import HELP, Parser, restrict_imports
from zoo.cli.precision import settle_precision
from zoo.cli.progress import RunProgress
from zoo.cli.quiet import skip_driver_search
from zoo.cli.recipes import add_finetune, add_pretrained, add_recipe, check_recipe, recipe_changes, resolve_recipe
from zoo.cli.starting import find_weights, load_weights, prepare_finetune, prepare_images, read_finetune
from zoo.datamodules.base import LARGEST_SEED, ImageDataModule
from zoo.finetune import Finetune
from zoo.pretrained import Pretrained
from zoo.recipe import Recipe
from zoo.registry import MODELS, model_info

DESCRIPTIONS = {
    "fit": "Train a model, test it once on the test set, write a run folder.",
    "validate": "Evaluate a checkpoint on the validation split. Model and data come from the checkpoint.",
    "test": "Evaluate a checkpoint on the test set. Model and data come from the checkpoint.",
    "predict": "Classify image files and folders with a checkpoint: zoo predict --ckpt_path FILE IMAGES...",
}
TRAINER_DEFAULTS: dict[str, Any] = {
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    "use_distributed_sampler": False,  # the data modules' samplers count every test image exactly once
}


FSDP = "fsdp"
"""Of Lightning's name for its strategy, which needs GPUs, ours is made."""


class ZooCLI(LightningCLI):
    """Parses the options of one verb and builds data, model and trainer from them.

    Args:
        verb: fit, validate, test or predict.
        arguments: The options as `zoo.cli.front.prepare` returns them.

    Attributes:
        notices: Lines for the user about what was adapted.
        recipe_name: Name of the recipe that training started from.
        recipe: The recipe with the user's changes; for `fit` only.
        found: The trained weights to start from, if the user asked for some.
        finetune: What of them is trained; for `fit` only.
        derived: Settings that fine-tuning may change, as they were before.
        ends_by_steps: Whether `--trainer.max_steps` ends the run rather than the recipe's epochs.
    """

    def __init__(self, verb: str, arguments: list[str]) -> None:
        self.verb, self.arguments = verb, arguments
        self.notices: list[str] = []
        self.recipe_name = "default"
        self.found: Pretrained | None = None
        self.finetune = Finetune()
        self.derived: dict[str, Any] = {}
        self.ends_by_steps = False
        for name in MODELS:
            getattr(model_names, name)  # the parser finds short names in config files among existing classes
        restrict_imports()
        skip_driver_search()
        super().__init__(
            ImageClassifier,
            ImageDataModule,
            save_config_callback=None,
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=0,
            parser_kwargs={"prog": f"zoo {verb}", "description": DESCRIPTIONS[verb]},
            parser_class=Parser,
            subclass_mode_model=True,
            subclass_mode_data=True,
            args=arguments,
            run=False,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    # Parsing

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The trainer, and where there is something to choose, model and data."""
        parser.add_lightning_class_args(L.Trainer, "trainer")
        parser.set_defaults({f"trainer.{key}": value for key, value in TRAINER_DEFAULTS.items()})
        if self.verb != "predict":
            parser.add_subclass_arguments(ImageClassifier, "model", required=True)
            parser.add_subclass_arguments(ImageDataModule, "data", required=True)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The verb's own options."""
        parser.add_argument("--precision", type=str | None, default=None, help=HELP["precision"])
        if self.verb == "fit":
            add_recipe(parser)
            add_finetune(parser)
            parser.add_argument(
                "--run_dir", type=str | None, default=None, help="Run folder. Default: runs/MODEL-DATA/TIME"
            )
            parser.add_argument(
                "--resume", type=bool, default=False, help="Go on with the run of --config or --run_dir."
            )
            parser.add_argument(
                "--resume_inexact",
                type=bool,
                default=False,
                help="Go on although settings have changed, with a warning (--resume-inexact).",
            )
            parser.add_argument(
                "--compile",
                type=bool,
                default=False,
                help="Compile the network: minutes at the start, then faster steps.",
            )
            parser.add_argument(
                "--profile", type=bool, default=False, help="Show where the time of a training step goes."
            )
            parser.add_argument(
                "--checkpoint_activations",
                type=bool,
                default=False,
                help="Compute blocks again in the backward pass: less memory, more time, the same numbers.",
            )
            parser.add_argument(
                "--checkpoint_every",
                type=int,
                default=0,
                help="Steps after which last.ckpt is saved within an epoch too; 0: at its end alone.",
            )
            parser.add_argument(
                "--no_test", type=bool, default=False, help="Leave the test set alone at the end (--no-test)."
            )
            parser.add_argument(
                "--ckpt_path", type=str | None, default=None, help="Go on from this checkpoint in a new run folder."
            )
        else:
            parser.add_argument(
                "--ckpt_path",
                type=str | None,
                default=None,
                help="A checkpoint, an exported file, lenet5.mnist, hf-hub:...",
            )
            if self.verb != "predict":
                add_pretrained(parser)
        if self.verb == "predict":
            parser.add_argument("--output", type=str | None, default=None, help="Write NAME.csv or NAME.json too.")
            parser.add_argument("--top_k", type=int, default=5, help="Classes to show for each image.")
            parser.add_argument("--batch_size", type=int, default=64, help="Images in one batch.")
            parser.add_argument(
                "--tta",
                type=Literal["none", "flip", "crops"],
                default="none",
                help="Average over views of each image: with its mirror image, or ten crops.",
            )

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse, and keep apart what the user said from what are defaults."""
        assert isinstance(parser, Parser) and isinstance(args, list)
        parser.arguments = args
        self.config = parser.parse_args(args)
        self.said: Namespace = parser.parse_args(args, defaults=False)

    def _set_seed(self) -> None:
        """Seed the run, or say what is wrong with the seed."""
        seed = self.config.get("seed_everything")
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= LARGEST_SEED:
            what = "null" if seed is None else seed
            raise UserError(f"seed_everything is {what}: it must be a whole number from 0 to {LARGEST_SEED}")
        super()._set_seed()

    def _parse_ckpt_path(self) -> None:
        """Leave the checkpoint alone: Lightning would let it override the command line and import what it names."""

    # Building

    def instantiate_classes(self) -> None:
        """Build the data, fit the model's and the recipe's settings to it and to what the user said, build the rest."""
        with user_errors(ValueError, TypeError, OSError, MisconfigurationException, ModuleNotFoundError):
            if self.verb == "fit":
                self.finetune = read_finetune(self)
                prepare_finetune(self)
            device = settle_precision(self)
            self.config_init = self.parser.instantiate(namespace(trainer=self.config.trainer))
            self._check_strategy(device)
            if self.verb != "predict":
                self.found = find_weights(self)
                self.datamodule = self._build("data")
                self._match_model_to_data()
                if self.verb == "fit":
                    self._resolve_recipe()
                self.model = self._build("model")
                if self.found is not None:
                    self.notices += load_weights(self, self.found)
                if self.verb == "fit":
                    self.model.recipe = self.recipe
                    self.model.finetune = self.finetune
                    endless = self.config_init.trainer.max_epochs == -1 or self.ends_by_steps
                    name, output, is_trained = self.model_name, self.model.output, bool(self.model.loaded)
                    self.finetune.check(name, output, is_trained=is_trained, is_endless=endless)
                    self.model.prepare_finetune()
                    if self.config_init.trainer.strategy == FSDP:
                        from zoo.fsdp import check_sharding  # which takes a while to import

                        check_sharding(self.recipe, self.finetune, self.config.trainer.precision)
            self.trainer = self.instantiate_trainer()

    def _build(self, key: str) -> Any:
        """The chosen class with its arguments, which are plain values: parsing has checked both."""
        module, _, name = self.config[key].class_path.rpartition(".")
        arguments = self.config[key].get("init_args") or namespace()
        return getattr(importlib.import_module(module), name)(**arguments.as_dict())

    def _match_model_to_data(self) -> None:
        """Classes and channels follow the data; the image size is what the user said, or what the model needs."""
        arguments, data = self.config.model.init_args, self.datamodule
        classes, channels = self.said.get("model.init_args.num_classes"), self.said.get("model.init_args.in_channels")
        name = data.spec.name
        if classes is not None and classes < data.num_classes:
            raise UserError(f"model.num_classes is {classes}, but '{name}' has {data.num_classes} classes")
        if channels is not None and channels != data.in_channels:
            raise UserError(f"model.in_channels is {channels}, but images of '{name}' have {data.in_channels}")
        arguments.num_classes = classes or data.num_classes
        arguments.in_channels = data.in_channels
        if self.found is not None:
            prepare_images(self, self.found)
        native = data.spec.image_size
        if data.spec.any_size and self.model_name in MODELS:
            native = model_info(self.model_name).reference.image_size
        arguments.image_size = data.image_size = self._image_size(native)
        if data.spec.any_size:
            at = f"{data.image_size} x {data.image_size}"
            self.notices.append(f"images of {name} are cut square and resized to {at} (--data.image_size)")
        elif data.image_size > native:
            how = "with a black border" if data.border else "enlarged"
            at = f"{how} at {data.image_size} x {data.image_size}"
            self.notices.append(f"images of {name} are {native} x {native}: {self.model_name} gets them {at}")

    def _image_size(self, native: int) -> int:
        of_model, of_data = self.said.get("model.init_args.image_size"), self.said.get("data.init_args.image_size")
        if self.verb == "fit" and of_model and of_data and of_model != of_data:
            raise UserError(f"model.image_size is {of_model} and data.image_size is {of_data}: say one of them")
        needed = model_info(self.model_name).image_size if self.model_name in MODELS else 1
        if self.found is not None and self.found.preprocessing:
            return int(of_model or of_data or self.found.preprocessing["image_size"])
        return int(of_model or of_data or max(native, needed))

    @property
    def model_name(self) -> str:
        """The registered name of the chosen model."""
        return str(self.config.model.class_path).rpartition(".")[2]

    def _resolve_recipe(self) -> None:
        """Settle the recipe, and give the trainer and the data what it owns."""
        said, trainer = self.said.get("recipe") or namespace(), self.config_init.trainer
        self.recipe_name = said.get("name") or "default"
        base = model_info(self.model_name).recipe(self.recipe_name) if self.model_name in MODELS else Recipe()
        changes = recipe_changes(self.said, self.arguments)
        self.recipe, notice = resolve_recipe(base, changes, self._said_in_files(changes))
        self.notices += [notice] if notice else []
        self.datamodule.batch_size = self.recipe.batch_size
        self.ends_by_steps = self.said.get("trainer.max_steps") not in (None, -1) and "epochs" not in changes
        if (trainer.max_epochs != -1 or "epochs" in changes) and not self.ends_by_steps:
            trainer.max_epochs = self.recipe.epochs
        epochs = None if trainer.max_epochs == -1 or self.ends_by_steps else self.recipe.epochs
        check_recipe(self.recipe, base, changes, self.said, self.arguments, epochs)
        trainer.gradient_clip_val = None  # the recipe has it now, and clips
        if self.recipe.schedule != "constant" and trainer.max_epochs == -1 and not self.ends_by_steps:
            raise UserError(f"trainer.max_epochs is -1, but the {self.recipe.schedule} schedule needs an end: set it")
        if self.recipe.swa and trainer.max_epochs == -1 and not self.ends_by_steps:
            raise UserError(f"recipe.swa is {self.recipe.swa}, a fraction of the run: set trainer.max_epochs")

    def _said_in_files(self, changes: dict[str, Any]) -> dict[str, Any]:
        """The fields of the recipe that the user's files set: looked for only where the rate is to be scaled."""
        files = [word for word in self.arguments if word.partition("=")[0] in ("--config", "-c")]
        if not changes.get("scale_lr") or not files:
            return {}
        return recipe_changes(self.parser.parse_args(files, defaults=False), [])

    def _check_strategy(self, device: str) -> None:
        """Processes that are forked or spawned keep to themselves what they trained; ddp starts the command again."""
        strategy = str(self.config_init.trainer.strategy)
        if strategy.endswith(("_spawn", "_fork", "_notebook")):
            raise UserError(f"trainer.strategy is {strategy}, which is for notebooks: use ddp")
        if strategy.startswith("fsdp_"):
            raise UserError(f"trainer.strategy is {strategy}: use fsdp or ddp")
        if strategy == FSDP and device not in ("cpu", "cuda"):
            raise UserError(f"trainer.strategy is {strategy}, which is for CPUs and NVIDIA GPUs: use ddp or auto")

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """The trainer as configured; `kwargs` win."""
        return self.make_trainer({**self.config_init.trainer, **kwargs})

    def make_trainer(self, settings: dict[str, Any]) -> L.Trainer:
        """A trainer of these settings, with atomic checkpoints and our progress bar."""
        if settings.get("strategy") == FSDP:
            from zoo.fsdp import FullySharded

            settings["strategy"] = FullySharded()
        settings["callbacks"] = as_list(settings.get("callbacks"))
        settings["plugins"] = [*as_list(settings.get("plugins")), AtomicCheckpointIO()]
        if SLURMEnvironment.detect() and not any(isinstance(one, ClusterEnvironment) for one in settings["plugins"]):
            # Lightning would write a checkpoint that nothing reads, and put the job into the queue again to begin anew.
            settings["plugins"].append(SLURMEnvironment(auto_requeue=False))
        if settings.get("enable_progress_bar") is not False and not settings.get("barebones"):
            settings["callbacks"].append(RunProgress())
        if self.verb != "fit":
            settings["logger"] = settings.get("logger") or False
        return L.Trainer(**settings)


def namespace(**values: Any) -> Namespace:
    """A configuration with these parts."""
    return Namespace(**values)  # type: ignore[no-untyped-call]  # jsonargparse leaves its constructor untyped


def as_list(value: Any) -> list[Any]:
    """Options that take one thing or several, as a list."""
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]
