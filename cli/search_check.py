"""A command of `zoo fit` up to where it would begin to train: everything is checked, nothing is written."""

from typing import Any

import lightning as L

from zoo.cli.progress_bar import read_data
from zoo.cli.training import FitCLI


class Rehearsal(FitCLI):
    """The command line of `fit` that reads the data and builds the model and a trainer, but makes no run folder.

    Args:
        arguments: The options as `zoo.cli.front.prepare` returns them.

    Raises:
        UserError: As `zoo fit` does, if it would refuse them.
    """

    def __init__(self, arguments: list[str]) -> None:
        super().__init__("fit", arguments)

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """The trainer on which the settings were tried."""
        read_data(self.datamodule, "fit")
        self._check_batches()
        return self.trial
