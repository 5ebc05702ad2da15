"""Opening a dataset with the library `datasets`. Nothing touches the network unless the user asks for a download."""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from zoo.datamodules.layout import SPLITS, shown

Rows = Any  # a datasets.Dataset; the library has no type hints
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_SETTINGS = ("README.md", ".huggingface.yaml")  # files of a folder that may say where its data are
_COMMIT = re.compile(r"[0-9a-f]{40}")


def open_rows(path: str, config: str | None, revision: str | None, *, download: bool) -> tuple[dict[str, Rows], str]:
    """The splits train, val and test of a dataset as far as it has them, or "all"; and what is in it besides.

    Args:
        path: A folder, or the name of a dataset on the hub: user/name.
        config: Which configuration of the dataset.
        revision: Which branch, tag or commit on the hub.
        download: Whether a dataset of the hub may be fetched.

    Raises:
        ModuleNotFoundError: The library is not installed.
        FileNotFoundError: There is no such folder, or the dataset was never fetched.
        ValueError: It cannot be read, or has no training images.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        with _library(offline=not download) as datasets:
            found = _open_folder(datasets, folder, config, download=download)
    elif not _HUB_NAME.fullmatch(path):
        raise FileNotFoundError(f"{shown(path)}: no such folder, and no name on the hub, which has the form user/name")
    else:
        with _library(offline=not download) as datasets:
            found = _open_hub(datasets, path, config, revision, download=download)
    return _named_splits(found, path)


@contextmanager
def _library(*, offline: bool) -> Iterator[Any]:
    """The library; without network if `offline`, and without its log, whose lines repeat the errors."""
    try:
        import datasets
        from huggingface_hub import constants
    except ModuleNotFoundError as error:
        if error.name not in ("datasets", "huggingface_hub"):
            raise
        raise ModuleNotFoundError(
            "--data huggingface needs the package datasets: pip install datasets", name=error.name
        ) from None
    # The environment variable of the same name is read when the library is imported, which may be long ago. The first
    # of the two is asked before a dataset is looked for on the hub, the second at every request.
    switches: list[tuple[Any, bool]] = [(module, module.HF_HUB_OFFLINE) for module in (datasets.config, constants)]
    log = logging.getLogger("datasets")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        for module, was_offline in switches:
            module.HF_HUB_OFFLINE = offline or was_offline
        yield datasets
    finally:
        for module, was_offline in switches:
            module.HF_HUB_OFFLINE = was_offline
        log.setLevel(level)


def _open_folder(datasets: Any, folder: Path, config: str | None, *, download: bool) -> Any:
    if not download:
        _refuse_addresses(folder)
    try:
        if any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):
            return datasets.load_from_disk(str(folder), keep_in_memory=False)
        # An absolute path: the library takes a folder called json for its reader of that name.
        return datasets.load_dataset(str(folder.absolute()), config, keep_in_memory=False)
    except Exception as error:  # whatever its readers stumble on
        raise ValueError(f"{shown(str(folder))}: {_reason(error)}") from None


def _refuse_addresses(folder: Path) -> None:
    """Refuse a folder whose settings name files on the network, which the library would fetch offline too."""
    for file in (folder / name for name in _SETTINGS):
        text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
        if file.suffix == ".md":
            parts = re.split(r"^---\s*$", text, maxsplit=2, flags=re.MULTILINE)
            text = parts[1] if len(parts) == 3 and not parts[0].strip() else ""
        try:
            settings = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(f"{shown(str(file))}: is not valid YAML: {' '.join(str(error).split())}") from None
        if isinstance(settings, Mapping) and "://" in str(settings.get("configs")):
            raise ValueError(f"{shown(str(file))}: names files on the network: --data.download true fetches them")


def _open_hub(datasets: Any, name: str, config: str | None, revision: str | None, *, download: bool) -> Any:
    cache = Path(datasets.config.HF_DATASETS_CACHE)
    try:
        found = datasets.load_dataset(name, config, revision=revision, keep_in_memory=False)
    except Exception as error:
        if download:
            raise ValueError(f"{name} could not be fetched: {_reason(error)}") from None
        if isinstance(error, OSError):
            raise FileNotFoundError(f"{name} is not in {cache}: --data.download true fetches it") from None
        raise ValueError(f"{name} in {cache}: {_reason(error)} (--data.download true fetches others)") from None
    if revision is not None and not download:
        _check_revision(next(iter(found.values())), name, revision)
    return found


def _check_revision(rows: Rows, name: str, revision: str) -> None:
    """Without the network, the library takes the newest version that it has, whichever was asked for."""
    from huggingface_hub import constants

    reference = Path(constants.HF_HUB_CACHE, f"datasets--{name.replace('/', '--')}", "refs", revision)
    is_known = not _COMMIT.fullmatch(revision) and reference.is_file()
    commit = reference.read_text().strip() if is_known else revision
    folder = Path(rows.cache_files[0]["filename"]).parent
    if folder.name != commit:
        raise FileNotFoundError(
            f"{name}: revision {revision} is not the one in {folder}: --data.download true fetches it"
        )


def _reason(error: BaseException) -> str:
    """The message in one line; the library's own often says less than the one that it was raised from."""
    return shown(" ".join(str(error.__cause__ or error).split())) or type(error).__name__


def _named_splits(found: Any, path: str) -> tuple[dict[str, Rows], str]:
    if not isinstance(found, Mapping):  # a single Dataset, saved without a name
        found = {"train": found}
    splits: dict[str, Rows] = {}
    for name, rows in found.items():
        split = SPLITS.get(str(name).lower())
        if split in splits:
            raise ValueError(f"{path}: has two splits for {split}, {', '.join(map(str, found))}")
        if split is not None:
            splits[split] = rows
    if "train" not in splits or not len(splits["train"]):
        raise ValueError(f"{path}: has no images in a split called train, only {', '.join(map(str, found))}")
    others = [str(name) for name in found if str(name).lower() not in SPLITS]
    return splits, f"{path}: not used: split {', '.join(others)}" if others else ""
