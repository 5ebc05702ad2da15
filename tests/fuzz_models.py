"""Models, flags, sizes and recipes drawn by hypothesis: each is built, trained a step, saved and loaded, or refused.

The long run is `python -m tests.fuzz_models --cases 3000 --seed 0`, the short one `tests/test_fuzz_models.py`. A case
prints as the Python that checks it again: `check(Case(...))`.
"""

import argparse
import logging
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader, TensorDataset

import zoo
from tests.figures import write_figures
from tests.fuzz_models_cases import Case, cases, wrong_cases
from zoo.classifier import ImageClassifier
from zoo.divergence import DivergedError
from zoo.finetune import Finetune
from zoo.kinds import one_line
from zoo.losses import compute_loss
from zoo.recipe import Recipe

ONE_STEP: dict[str, Any] = {
    **{"accelerator": "cpu", "max_epochs": 1, "num_sanity_val_steps": 0, "log_every_n_steps": 1, "logger": False},
    **{"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False},
}
HANG_SECONDS = 300
"""A case takes seconds at most, and resnet1202 less than a minute: on a busy machine too, this long is a hang."""


class Gradients(Callback):
    """Notes the trained parameters that a step left without a gradient, and its loss."""

    def __init__(self) -> None:
        self.missing: list[str] = []

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trained = [(name, p) for name, p in pl_module.named_parameters() if p.requires_grad]
        self.missing = [name for name, parameter in trained if parameter.grad is None] if trained else ["all"]


def check(case: Case) -> str:
    """What came of a case: trained, shaped or refused, or diverged in its first step.

    Raises:
        AssertionError: If it is a violation; so is any other exception.
    """
    try:
        with torch.random.fork_rng(), torch.device("cpu" if case.whole else "meta"):
            torch.manual_seed(0)
            model = zoo.create_model(case.name, **case.flags)
            model.recipe, model.finetune = Recipe(**case.recipe), Finetune(**case.finetune)
        assert not case.wrong, f"{case.wrong} was taken"
        return check_training(case, model) if case.whole else check_shapes(case, model)
    except (ValueError, DivergedError) as error:
        check_message(case, str(error))
        return "diverged" if isinstance(error, DivergedError) else "refused"


def check_message(case: Case, message: str) -> None:
    """A message is one line; that on a wrong value has its name, and the value itself."""
    assert message, "the message is empty"
    assert "\n" not in message, f"more than one line: {message!r}"
    if case.wrong:
        place, _, name = case.wrong.partition(".")
        value = getattr(case, place)[name]
        assert name in message, f"{message!r} does not name {name}"
        assert any(one_line(text)[:20] in message for text in (str(value), repr(value))), f"{message!r} has no value"


def images(model: ImageClassifier, number: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(number, model.in_channels, model.image_size, model.image_size, generator=generator)


def check_shapes(case: Case, model: ImageClassifier) -> str:
    """Forward and backward on the meta device: the shape of the logits, a gradient for every parameter."""
    logits = model(images(model, case.batch).to("meta"))
    assert logits.shape == (case.batch, model.num_classes), logits.shape
    labels = torch.zeros(case.batch, dtype=torch.long, device="meta")
    compute_loss(model.recipe.loss, logits, labels, model.recipe.label_smoothing).backward()
    missing = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not missing, f"no gradient: {missing}"
    return "shaped"


def check_training(case: Case, model: ImageClassifier) -> str:
    """A step of training, then a checkpoint: what is loaded gives the very logits of what was saved."""
    x = images(model, case.batch)
    logits = model.eval()(x)
    assert logits.shape == (case.batch, model.num_classes), logits.shape
    assert logits.isfinite().all(), "the logits are not finite"
    model.loaded = tuple(model.state_dict()) if case.finetune else ()
    data = TensorDataset(x, torch.arange(case.batch) % model.num_classes)
    gradients = Gradients()
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(default_root_dir=folder, callbacks=[gradients], **ONE_STEP)
        loader = DataLoader(data, batch_size=case.batch)
        trainer.fit(model.train(), loader, loader)
        assert not gradients.missing, f"no gradient: {gradients.missing}"
        assert all(parameter.requires_grad for parameter in model.parameters()), "something stays frozen"
        path = Path(folder, "model.ckpt")
        trainer.save_checkpoint(path)
        loaded = zoo.load(path)
    assert (loaded.recipe, loaded.finetune) == (model.recipe, model.finetune), "other settings after loading"
    assert type(loaded) is type(model)
    contiguous = torch.contiguous_format  # L-BFGS lays weights out so, and sums are then taken in another order
    after = [network.to(memory_format=contiguous).eval()(x) for network in (model, loaded)]
    assert torch.equal(*(logits.nan_to_num(1e9) for logits in after)), "other logits after loading"
    return "trained"


# The long run


class Campaign:
    """Counts what came of the cases, and prints violations and the time left."""

    def __init__(self, number: int) -> None:
        self.number, self.started = number, time.monotonic()
        self.outcomes: Counter[str] = Counter()

    def run(self, case: Case) -> None:
        """Check one case; a violation is printed and counted, and the run goes on."""
        kind = "wrong" if case.wrong else "sound"
        try:
            with time_limit(HANG_SECONDS):
                self.outcomes[f"{kind} {check(case)}"] += 1
        except Exception as error:  # whatever it is, it is a violation
            self.outcomes["violations"] += 1
            print(f"VIOLATION {type(error).__name__}: {str(error)[:500]}\n    check({case!r})", flush=True)
        done = sum(self.outcomes.values())
        if done % max(self.number // 50, 1) == 0:
            left = (time.monotonic() - self.started) / done * (self.number - done) / 60
            print(f"{done}/{self.number}, about {left:.0f} min left: {dict(self.outcomes)}", flush=True)


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise TimeoutError in what takes longer."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"no end after {seconds} s")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def draw(strategy: SearchStrategy[Case], number: int, first: int, run: Callable[[Case], None]) -> None:
    """Give `run` so many cases, which follow from the seed `first`."""
    plain = settings(
        max_examples=number,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    seed(first)(plain(given(strategy)(run)))()


def main() -> int:
    """Run the campaign; 1 if anything was violated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="keep the figures")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    campaign = Campaign(options.cases)
    wrong = options.cases // 4
    draw(wrong_cases(), wrong, options.seed, lambda case: campaign.run(case))
    draw(cases(), options.cases - wrong, options.seed, lambda case: campaign.run(case))
    seconds = round(time.monotonic() - campaign.started)
    figures = {"cases": sum(campaign.outcomes.values()), "seed": options.seed, "violations": 0}
    figures |= {**dict(sorted(campaign.outcomes.items())), "seconds": seconds}
    print(figures)
    if options.write:
        write_figures("fuzz_models", {**figures})
    return 1 if campaign.outcomes["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
