"""A search in its folder: Optuna's study in a file of SQLite, which one process at a time goes on with."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from filelock import FileLock, Timeout

from zoo.cli.errors import UserError, user_errors
from zoo.cli.search_study import Plan, Search

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
    with user_errors(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(
            f"another process is at the search in '{folder}': wait for it, or take another --name"
        ) from None
    try:
        place = _storage(storage)
        try:
            yield Search(plan, _study(plan, folder.name, place), folder)
        finally:
            place.remove_session()
            place.engine.dispose()
    finally:
        lock.release()


def _storage(file: Path) -> optuna.storages.RDBStorage:
    url = sqlalchemy.URL.create("sqlite", database=str(file.absolute())).render_as_string()
    try:
        return optuna.storages.RDBStorage(url.replace("{", "{{").replace("}", "}}"))  # Optuna calls format on it
    except Exception as error:  # of Optuna, SQLAlchemy or SQLite, whatever the file leads to
        what = str(error).partition("\n")[0]
        raise UserError(f"'{file}' cannot be used as a storage of Optuna: {what}") from error


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
