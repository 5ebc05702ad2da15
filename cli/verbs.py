"""The verbs that run a model."""

from collections.abc import Callable
from functools import partial

from zoo.cli.evaluation import evaluate, predict
from zoo.cli.training import fit

RUN: dict[str, Callable[[list[str]], int]] = {
    "fit": fit,
    "validate": partial(evaluate, "validate"),
    "test": partial(evaluate, "test"),
    "predict": predict,
}
