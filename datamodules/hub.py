"""Images of the Hugging Face hub, or in a folder that its library `datasets` reads."""

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from zoo.datamodules.arrays import Indices, Pixels, a_few
from zoo.datamodules.decode import read_image, read_image_bytes
from zoo.datamodules.decoded import FORMAT, Job, sizes_and_dates
from zoo.datamodules.files import FileDataModule, FileOptions
from zoo.datamodules.hub_columns import class_names, find_columns, label_names
from zoo.datamodules.hub_open import Rows, open_rows
from zoo.datamodules.layout import refuse, unknown_classes
from zoo.datamodules.tree import Listing, Tree


class HuggingFace(FileDataModule):
    """Images of a dataset of the Hugging Face hub, or in a folder that the library `datasets` reads.

    The splits are the dataset's own: train, val (or valid, validation) and test. With train alone, a fifth of it is
    the test set. The class names are those of the dataset; labels without names count in their order. No code of a
    dataset is run. Without `download`, a dataset of the hub must be in the library's cache.

    The dataset is opened at once rather than in `prepare_data`, because it says how many classes there are; when
    several processes do that, the library lets one of them download.

    Args:
        path: user/name on the hub; or a folder: one that `save_to_disk` wrote, or one of Parquet or image files.
        config: Which configuration, if the dataset has several.
        revision: Branch, tag or commit on the hub. The newest if not given.
        image_column: The column of the images. The only one of the type Image if not given.
        label_column: The column of the labels. The only one of the type ClassLabel, of text or of whole numbers if
            not given.
        download: Fetch the dataset if it is not in the cache. Nothing else touches the network.
        **options: See `FileOptions` and `DataOptions`.
    """

    dataset = "huggingface"

    def __init__(
        self,
        path: str,
        config: str | None = None,
        revision: str | None = None,
        image_column: str | None = None,
        label_column: str | None = None,
        download: bool = False,
        **options: Unpack[FileOptions],
    ) -> None:
        self.path = str(path)
        self._named = {
            "config": config, "revision": revision, "image_column": image_column, "label_column": label_column
        }  # fmt: skip
        self._is_download_allowed = download
        self._opened: dict[str, Rows] | None = None
        self._remark = ""
        super().__init__(**options)
        self.download = download

    def find_classes(self) -> list[str]:
        """The classes that the training split names."""
        rows = self._open()["train"]
        return class_names(rows, self._columns(rows)[1], self.path)

    def arguments(self) -> dict[str, Any]:
        """The arguments that build these data again; a folder is looked for at the same place."""
        own = {"path": self.path, **self._named}
        return {**super().arguments(), **{name: value for name, value in own.items() if value is not None}}

    def read_tree(self) -> Tree:
        """The labels of all splits; `make_job` finds their images."""
        if self._remark:
            self._notice(self._remark)
        labels = {name: self._labels(name, rows) for name, rows in self._open().items()}
        parts = {name: Listing((), found) for name, found in labels.items() if found is not None}
        splits = {"all": parts["train"]} if list(parts) == ["train"] else parts
        return Tree(Path(self.path), self.spec.class_names, splits, {}, ())

    def _open(self) -> dict[str, Rows]:
        if self._opened is None:
            config, revision = self._named["config"], self._named["revision"]
            self._opened, self._remark = open_rows(self.path, config, revision, download=self._is_download_allowed)
        return self._opened

    def _columns(self, rows: Rows) -> tuple[str, str]:
        return find_columns(rows, self.path, self._named["image_column"], self._named["label_column"])

    def make_job(self, tree: Tree, name: str, side: int) -> Job:
        """The images of a split."""
        import datasets

        name = "train" if name == "all" else name
        rows = self._open()[name]
        image = self._columns(rows)[0]
        try:
            stored = rows.select_columns([image]).cast_column(image, datasets.Image(decode=False))
        except Exception as error:  # whatever kind of column the user named
            reason = " ".join(str(error).split())
            raise ValueError(f"{self.path}: column {image!r} does not hold images ({reason})") from None
        paths = np.array([os.fsencode(f"{self.path}, {name}, row {row}") for row in range(len(rows))])
        return RowsJob(paths, self._channels, side, stored)

    def _labels(self, split: str, rows: Rows) -> Indices | None:
        """The labels of a split; None if it has none, as the test images of a competition."""
        column = self._columns(rows)[1]
        names, codes = label_names(rows, column)
        present = {names[code] for code in np.unique(codes).tolist()}
        if None in present:
            missing = int(np.isin(codes, [code for code, name in enumerate(names) if name is None]).sum())
            if missing < len(codes) or split == "train":
                count = f"{missing:,} of {len(codes):,} images of {split}"
                raise ValueError(f"{self.path}: {count} have no label in column {column!r}")
            self._notice(f"{self.path}: the images of {split} have no labels and are left out")
            return None
        classes = self.spec.class_names
        refuse(unknown_classes([name for name in present if name is not None], classes, f"{self.path}, {split}"))
        places = {name: place for place, name in enumerate(classes)}
        numbers = np.array([places.get(name or "", -1) for name in names], dtype=np.int64)
        labels: Indices = numbers[codes]
        return labels


@dataclass(frozen=True)
class RowsJob(Job):
    """Which rows are decoded, and how.

    Attributes:
        paths: What errors call the rows.
        in_channels: 1 for grey, 3 for colour.
        side: Images with a shorter side above this are cut and resized to it; 0: every image stays as it is.
        rows: A datasets.Dataset with one column, which holds them as they were stored.
    """

    rows: Rows

    def decode(self, position: int) -> Pixels:
        """The image of one row as it was stored."""
        (stored,), name = self.rows[position].values(), os.fsdecode(self.paths[position])
        if stored is None or (stored["bytes"] is None and not stored["path"]):
            raise ValueError(f"{name}: no image")
        if stored["bytes"] is None:
            return read_image(stored["path"], self.in_channels)
        return read_image_bytes(stored["bytes"], name, self.in_channels)

    def key(self) -> str:
        """A hash of what the pixels depend on: the files, the column, and how the images are decoded."""
        (column,) = self.rows.column_names
        digest = hashlib.sha256(f"rows {FORMAT} {self.in_channels} {self.side} {len(self.paths)} {column}\n".encode())
        digest.update(np.ascontiguousarray(self.paths).data)
        assert self.rows.cache_files, "rows in memory"
        for file in self.rows.cache_files:
            status = Path(file["filename"]).stat()
            digest.update(f"{file['filename']} {status.st_size} {status.st_mtime_ns}\n".encode())
        digest.update(sizes_and_dates(self._image_files(column)))
        return digest.hexdigest()[:32]

    def _image_files(self, column: str) -> list[str]:
        """The paths of images that the library's files name but do not hold; looks at no bytes of the others."""
        held, paths = self.rows.with_format("arrow")[:].column(column).flatten()
        files: list[str] = paths.filter(held.is_null()).drop_null().to_pylist()
        return files

    def content(self) -> str:
        """A hash of the number of rows, and of the images in a few."""
        digest = hashlib.sha256(f"{len(self.paths)}".encode())
        for row in a_few(len(self.paths)).tolist():
            with suppress(ValueError, OSError):
                digest.update(np.ascontiguousarray(self.decode(row)).data)
        return digest.hexdigest()

    def expected_bytes(self) -> int:
        """About how much memory the decoded images take, judged by a few of them."""
        sizes = []
        for position in a_few(len(self.paths)).tolist():
            try:
                sizes.append(self.read(position).size)
            except (ValueError, OSError):
                continue
        return int(np.mean(sizes or [0]) * len(self.paths))
