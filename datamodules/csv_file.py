"""Image files that a table lists with their labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from zoo.datamodules.files import FileDataModule, FileOptions
from zoo.datamodules.table import read_table, table_classes
from zoo.datamodules.tree import Tree


class CSV(FileDataModule):
    """Images that a CSV file lists: columns path and label, and if the images are divided, split (train, val, test).

    Args:
        file: The CSV file.
        root: Folder that the paths start from. The folder of the file if not given.
        **options: See `FileOptions` and `DataOptions`.
    """

    dataset = "csv"

    def __init__(self, file: str, root: str | None = None, **options: Unpack[FileOptions]) -> None:
        self.file = str(file)
        super().__init__(root, **options)

    def find_classes(self) -> Sequence[str]:
        """The different labels."""
        return table_classes(Path(self.file).expanduser(), self._folder)

    def read_tree(self) -> Tree:
        """All rows."""
        return read_table(Path(self.file).expanduser(), self._folder, self.spec.class_names)

    @property
    def _folder(self) -> Path | None:
        return None if self.root is None else Path(self.root).expanduser()

    def arguments(self) -> dict[str, object]:
        """The arguments that build these data again."""
        return {**super().arguments(), "file": self.file}
