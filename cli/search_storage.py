"""A search in its folder: Optuna's study in a file of SQLite, which one process at a time goes on with."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from filelock import FileLock, Timeout

from zoo.cli.errors import UserError, user_errors
from zoo.cli.search_study import Plan, Search
from zoo.cli.whole import undone

LOCK = ".lock"
FACTS = "zoo"
"""Where the study keeps what was asked for."""


@contextmanager
def opened(plan: Plan, folder: Path, storage: Path) -> Iterator[Search]:
    """The search in a folder, new or as it was left; nobody else goes on with it meanwhile.

    Args:
        plan: What is asked for.
        folder: The folder, whose name is the study's.
        storage: The file of the study, of SQLite.

    Raises:
        UserError: If another process has it, if the file is none of Optuna's, or if the search asked for other things.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with ExitStack() as stack:
        with user_errors(OSError):
            stack.enter_context(undone(folder))
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_locked(folder))
            study = stack.enter_context(_connected(plan, folder.name, storage))
        yield Search(plan, study, folder)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / LOCK, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(
            f"another process is at the search in '{folder}': wait for it, or take another --name"
        ) from None
    try:
        yield
    finally:
        with suppress(OSError):
            if [path.name for path in folder.iterdir()] == [LOCK]:  # no search has begun: there is nothing to guard
                (folder / LOCK).unlink()
        lock.release()


@contextmanager
def _connected(plan: Plan, name: str, file: Path) -> Iterator[optuna.Study]:
    """The study in its file; of one that cannot be begun there is no file left."""
    with ExitStack() as stack:
        with undone(file, file.with_name(f"{file.name}-journal")), _storage_errors(file):
            place = _storage(file)
            stack.callback(place.engine.dispose)
            stack.callback(place.remove_session)
            study = _study(plan, name, place)
        yield study


@contextmanager
def _storage_errors(file: Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # of Optuna, SQLAlchemy or SQLite, whatever the file leads to
        what = str(error.__cause__ or error).partition("\n")[0]
        raise UserError(f"'{file}' cannot be used as a storage of Optuna: {what}") from error


def _storage(file: Path) -> optuna.storages.RDBStorage:
    url = sqlalchemy.URL.create("sqlite", database=str(file.absolute())).render_as_string()
    return optuna.storages.RDBStorage(url.replace("{", "{{").replace("}", "}}"))  # Optuna calls format on it


def _study(plan: Plan, name: str, storage: optuna.storages.RDBStorage) -> optuna.Study:
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        direction="maximize" if plan.is_maximised else "minimize",
        pruner=optuna.pruners.MedianPruner(),
        load_if_exists=True,
    )
    before = study.user_attrs.get(FACTS)
    if before is None:
        study.set_user_attr(FACTS, plan.facts())
    else:
        _check_same(name, before, plan.facts())
    return study


def _check_same(name: str, before: dict[str, Any], now: dict[str, Any]) -> None:
    for key in now:
        if now[key] != before.get(key):
            what = f"its {key} were {_shown(before.get(key))} and are {_shown(now[key])}"
            raise UserError(f"the search '{name}' asked for something else, {what}: take another --name")


def _shown(value: Any) -> str:
    items = [f"{key}: {one}" for key, one in value.items()] if isinstance(value, dict) else value
    return " ".join(map(str, items)) if isinstance(items, list) else str(items)
