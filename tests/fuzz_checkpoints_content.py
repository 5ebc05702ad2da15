"""Ways to change what a checkpoint says, in a sound file: plain values of other kinds and sizes, other tensors."""

import copy
import io
import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import torch
from torch import Tensor

Mutation = Callable[[Random, bytes, Sequence[bytes]], bytes]
"""Makes a file of another; it may take from the others."""

DEEP: Any = 1
for _ in range(200):
    DEEP = [DEEP]
ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)
SHARED: Any = [1]
for _ in range(15):
    SHARED = [SHARED] * 10
PLAIN: tuple[Any, ...] = (
    *(None, True, False, 0, 1, 2, 7, -1, 11, 10**12, -(10**12), 2**63, -(2**63), 10**30, 10**9),
    *(0.5, -0.5, 1e300, math.nan, math.inf, -math.inf),
    *("", "3", "none", "relu", "x" * 10_000, "\x1b[2J", "\u202e\u0000", "a\nb", "../../etc/passwd", "hf-hub:a/b"),
    *("http://example.org/x", "s3://bucket/x", "os.system", "!!python/name:os.system"),
    *([], [1], ["a"], [10**9], [10**9, 10**9], [1] * 5000, [None], {}, {"a": 1}, {"": {}}, {"download": True}),
)
STRANGE: tuple[Any, ...] = (
    *(DEEP, ENDLESS, SHARED, (1, 2), {1, 2}, b"bytes", 1j, {1: 2}, torch.ones(2), torch.Size([3]), torch.float16),
    torch.device("cpu"),
)


def _replace(random: Random, value: Any, *, strange: bool) -> Any:
    if isinstance(value, Tensor):
        return _other_tensor(random, value)
    if isinstance(value, bool | int | float) and random.random() < 0.4:
        return random.choice((value + 1, -value, value * 2, value * 1000, str(value), [value], float(value)))
    if isinstance(value, str) and random.random() < 0.3:
        return random.choice((value.upper(), value + "x", value[:1], [value], {value: value}))
    if isinstance(value, list) and random.random() < 0.5:
        return random.choice((value * 2, value[:-1], value[::-1], [*value, None], dict(enumerate(value))))
    return copy.deepcopy(random.choice((*PLAIN, *STRANGE) if strange else PLAIN))


def _other_tensor(random: Random, value: Tensor) -> Any:
    kinds = (torch.int64, torch.float16, torch.bfloat16, torch.float64, torch.bool, torch.complex64, torch.float8_e5m2)
    changes: tuple[Callable[[], Any], ...] = (
        lambda: value.to(random.choice(kinds)),
        lambda: value.to(random.choice(kinds)),
        lambda: torch.full_like(value, random.choice((math.nan, math.inf)), dtype=torch.float32),
        lambda: value.flatten(),
        lambda: value.unsqueeze(0),
        lambda: value[:0] if value.ndim else value.reshape(1),
        lambda: value.flatten()[:1].expand(random.choice((3, 10**12))),
        lambda: value.flatten()[:1].expand(value.numel()).reshape(value.shape),
        lambda: value.float().to_sparse() if value.ndim else value,
        lambda: value.to("meta"),
        lambda: value.float().contiguous().mT if value.ndim > 1 else -value.float(),
        lambda: value.tolist() if value.numel() < 1000 else None,
        lambda: random.choice(PLAIN),
    )
    return random.choice(changes)()


def change(random: Random, tree: Any, *, strange: bool, stop: float = 0.15) -> Any:
    """A copy of nested dictionaries and lists in which one thing has changed."""
    is_inner = isinstance(tree, dict | list) and len(tree) > 0
    if not is_inner or random.random() < stop:
        return _replace(random, tree, strange=strange)
    same = copy.copy(tree)
    key = random.choice(list(tree) if isinstance(tree, dict) else range(len(tree)))
    what = random.random()
    if what < 0.12:
        del same[key]
    elif what < 0.2 and isinstance(same, dict):
        same[random.choice(("x", "", "num_classes", "\n", "self", "pretrained", 7))] = same[key]
    elif what < 0.25 and isinstance(same, dict):
        same[f"{key}x"] = same.pop(key)
    else:
        same[key] = change(random, tree[key], strange=strange)
    return same


def _saved(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def _loaded(data: bytes) -> Any:
    return torch.load(io.BytesIO(data), weights_only=True)


def change_anything(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    return _saved(change(random, _loaded(data), strange=True, stop=0.02))


def change_one(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """In one of the dictionaries of a checkpoint, each as often as any other."""
    content = _loaded(data)
    key = random.choice(list(content))
    return _saved({**content, key: change(random, content[key], strange=True, stop=0.05)})


def change_description(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    content = _loaded(data)
    if "zoo" not in content:
        return change_anything(random, data, others)
    facts = content["zoo"]
    for _ in range(random.choice((1, 1, 2))):
        key = random.choice(list(facts))
        facts = {**facts, key: change(random, facts[key], strange=True, stop=0.05)}
    return _saved({**content, "zoo": facts})


def exchange_descriptions(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """One file's network described as another's."""
    content = _loaded(data)
    theirs = [found for other in others if other[:2] == b"PK" for found in [_loaded(other)] if "zoo" in found]
    key = random.choice(("zoo", "zoo", "state_dict", *(key for key in theirs[0] if key in content)))
    return _saved({**content, key: random.choice(theirs)[key]})


CONTENT: tuple[Mutation, ...] = (
    *(change_anything, change_one, change_one, exchange_descriptions),
    *(change_description, change_description, change_description),
)
