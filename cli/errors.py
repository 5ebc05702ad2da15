"""What a user sees when the input is wrong: one short message, exit status 2."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

USAGE_STATUS = 2


class UserError(Exception):
    """Wrong input, with the message that the user is to read."""


@contextmanager
def user_errors(*kinds: type[Exception]) -> Iterator[None]:
    """Turn exceptions of these kinds into `UserError`; `ZOO_TRACEBACK=1` leaves them alone, for debugging."""
    try:
        yield
    except kinds as error:
        if os.environ.get("ZOO_TRACEBACK") == "1":
            raise
        raise UserError(describe(error)) from error


def describe(error: BaseException) -> str:
    """The message of an exception as one line."""
    if isinstance(error, OSError) and error.strerror:
        where = f" '{error.filename}'" if error.filename else ""
        return f"{error.strerror.lower()}:{where}" if where else error.strerror.lower()
    if "Original Traceback" in str(error):  # torch's loader wraps what a process raised into its traceback
        return str(error).strip().splitlines()[-1].partition(": ")[2]
    return " ".join(str(error).split()) or type(error).__name__


def print_error(error: UserError) -> int:
    """Print the message to standard error; the exit status."""
    print(f"zoo: error: {error}", file=sys.stderr)
    return USAGE_STATUS
