"""What the traps of the dependencies require of this package: each requirement is named by the test that keeps it."""

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

REQUIREMENTS = {
    "A1": "albumentations is pinned, and every transform that is used gives known numbers",
    "A2": "its successor under another licence is not installed with us",
    "A3": "batches are the same for any number and kind of workers; epochs differ, workers never repeat each other",
    "A4": "importing and building augmentation opens no connection",
    "A5": "what albumentations only warns of is an error; images in memory are never changed",
    "A6": "OpenCV starts no threads in workers",
    "C1": "every model and data set can be named on the command line and in a file",
    "C2": "no abbreviations; files named like a model are no trouble; what was resolved is said at the start",
    "C3": "no option is silently ignored or overridden",
    "C4": "a checkpoint does not override the command line",
    "C5": "runs have folders of their own; a run can be repeated and resumed in its place",
    "C6": "wrong input: a short message without a traceback, exit status 2",
    "C7": "quick answers without importing torch",
    "C8": "configurations name classes of an allow-list only, which a variable extends",
    "S1": "versions of the dependencies that are known to be bad are excluded",
    "S2": "checkpoints are local files of tensors and plain values; nothing that they name is imported or run",
    "S3": "the arguments of a model are plain values, and its checkpoint loads without code",
    "S4": "a checkpoint says which model it holds, and loads as that",
    "S5": "released weights are verified by SHA-256 before they are parsed",
    "S6": "without a network, pretrained weights end with one line at once",
    "R1": "killed at any step and resumed: the weights of the uninterrupted run",
    "R2": "another batch size, devices or data: refused, or said",
    "R3": "two checkpoints of the end are kept; a damaged one falls back to the one before",
    "R4": "a full disk, a read-only folder, a kill while writing: the previous checkpoint stays, the status is not 0",
    "R5": "signals leave a checkpoint and their exit status",
    "D1": "deterministic algorithms suffice for every model",
    "D2": "the same run twice gives the same numbers, and results say what they depend on",
    "I1": "downloads: https, hashes, nothing half-written, nothing outside the folder",
    "I2": "images are decoded right or refused by name",
    "I3": "classes come from the training images; files that are none are reported before training",
    "P1": "metrics on one and two processes are equal for any number of images",
    "P2": "results say on how many devices they were measured",
    "T1": "compiled or not, a checkpoint has the same names; no compiler is one line",
    "N1": "a loss that is no number ends the run with epoch, step and rate, and nothing of it is saved",
}
TESTS = sorted(Path(__file__).parent.glob("test_*.py"))


@cache
def named() -> Counter[str]:
    """How many tests name each requirement in their docstring."""
    found: Counter[str] = Counter()
    for path in TESTS:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found.update(set(re.findall(r"\bREQ-([A-Z]\d+)\b", ast.get_docstring(node) or "")))
    return found


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_a_test_keeps_it(name: str) -> None:
    assert named()[name] > 0, f"no test keeps REQ-{name}: {REQUIREMENTS[name]}"


def test_no_test_names_another() -> None:
    assert named().keys() <= REQUIREMENTS.keys()
