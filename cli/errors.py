"""What a user sees when the input is wrong: one short message, exit status 2."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

USAGE_STATUS = 2
LONGEST, LONGEST_WORD = 400, 120
"""Characters of a message of a library's, and of a value in any."""
LONG_WORD = re.compile(rf"[^\s/]{{{LONGEST_WORD + 1},}}")
OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "not enough memory", "Storage size calculation overflowed")
"""What torch says, on CPUs and on devices."""


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
    # Of torch's C++ follows the stack, and a value may be as long as its file.
    text = " ".join(str(error).partition("Exception raised from")[0].split())
    return (text if len(text) <= LONGEST else f"{text[:LONGEST]} ...") or type(error).__name__


def memory_error(error: Exception) -> UserError | None:
    """What to tell the user if memory did not suffice; None if it is another error."""
    text = str(error)
    if not isinstance(error, MemoryError) and not any(words in text for words in OUT_OF_MEMORY):
        return None
    size = re.search(r"allocate (\d+) bytes|allocate ([\d.]+ [KMGTPE]?i?B)", text)
    what = f" for {int(size[1]) / 2**30:,.1f} GiB" if size and size[1] else f" for {size[2]}" if size else ""
    return UserError(f"memory does not suffice{what}: take a smaller model, image_size, batch_size or data set")


def print_error(error: UserError) -> int:
    """Print the message to standard error, what is no text in it as '?' and long values cut; the exit status."""
    lines = str(error).splitlines()
    text = "\n".join("".join(c if c.isprintable() else "?" for c in line) for line in lines)
    text = LONG_WORD.sub(lambda word: f"{word[0][:LONGEST_WORD]}...", text)
    print(f"zoo: error: {text}", file=sys.stderr)
    return USAGE_STATUS
