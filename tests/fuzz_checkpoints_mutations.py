"""Ways to damage a checkpoint or a file of weights: its bytes, the parts of its zip, its header."""

import io
import json
import warnings
import zipfile
from collections.abc import Sequence
from random import Random
from typing import Any

from tests.fuzz_checkpoints_content import CONTENT, Mutation, change
from zoo.safetensors_files import safetensors_parts


def mutate(random: Random, data: bytes, others: Sequence[bytes]) -> tuple[str, bytes]:
    """A damaged file, and what was done to it: `bytes: ...` if nothing that is read may have changed unnoticed."""
    groups: list[tuple[str, Sequence[Mutation], int]] = [("bytes", BYTES, 30)]
    groups += [("zip", ZIP, 25), ("content", CONTENT, 45)] if data[:2] == b"PK" else [("header", HEADER, 70)]
    group, mutations, _ = random.choices(groups, [weight for _, _, weight in groups])[0]
    mutation = random.choice(mutations)
    return f"{group}: {mutation.__name__}", mutation(random, data, others)


# Bytes, whatever they are


def _place(random: Random, data: bytes) -> int:
    """Anywhere, or where the formats have their tables."""
    where = random.choice(("anywhere", "beginning", "end"))
    start, stop = {"anywhere": (0, len(data)), "beginning": (0, 4096), "end": (len(data) - 3072, len(data))}[where]
    return random.randrange(max(start, 0), min(stop, len(data)))


def flip_bits(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 8))):
        changed[_place(random, data)] ^= 1 << random.randrange(8)
    return bytes(changed)


def truncate(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    return data[: _place(random, data)]


def cut_out(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    start = _place(random, data)
    return data[:start] + data[start + random.choice((1, 8, 64, 4096)) :]


def repeat(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    start = _place(random, data)
    return data[:start] + data[max(0, start - random.choice((1, 8, 64, 4096))) : start] + data[start:]


def overwrite(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    start, length = _place(random, data), random.choice((1, 8, 64, 512))
    noise = random.choice((bytes(length), b"\xff" * length, random.randbytes(length)))
    return data[:start] + noise[: len(data) - start] + data[start + length :]


def splice(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    other, start = random.choice(others), _place(random, data)
    return random.choice((data[:start] + other[start:], data[:start] + other[_place(random, other) :], other + data))


def append(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    return data + random.choice((b"\0", random.randbytes(64), bytes(70_000)))


BYTES: tuple[Mutation, ...] = (flip_bits, flip_bits, flip_bits, truncate, cut_out, repeat, overwrite, splice, append)


# The parts of a zip, in a sound zip with right check sums

Parts = list[tuple[str, bytes]]


def _parts(data: bytes) -> Parts:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(part.filename, archive.read(part)) for part in archive.infolist()]


def _packed(parts: Parts) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w") as archive:
        warnings.simplefilter("ignore")  # of a name that is there already
        for name, content in parts:
            archive.writestr(name, content)
    return file.getvalue()


def remove_part(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    parts = _parts(data)
    del parts[random.randrange(len(parts))]
    return _packed(parts)


def rename_part(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    parts = _parts(data)
    i = random.randrange(len(parts))
    name = random.choice((parts[i][0] + "x", "data.pkl", "../../etc/passwd", "/", "archive/data/9999", "a" * 60_000))
    parts[i] = (name, parts[i][1])
    return _packed(parts)


def double_part(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    parts = _parts(data)
    name, content = random.choice(parts)
    parts.insert(random.randrange(len(parts) + 1), (name, random.choice((content, bytes(len(content)), b""))))
    return _packed(parts)


def exchange_parts(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    parts = _parts(data)
    i, k = (random.randrange(len(parts)) for _ in range(2))
    parts[i], parts[k] = (parts[i][0], parts[k][1]), (parts[k][0], parts[i][1])
    return _packed(parts)


def change_part(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    parts = _parts(data)
    i = random.choice((0, 0, random.randrange(len(parts))))  # the first is the pickle
    name, content = parts[i]
    changes = (flip_bits, flip_bits, truncate, cut_out, repeat, overwrite)
    parts[i] = (name, random.choice(changes)(random, content, others) if content else b"\0")
    return _packed(parts)


def take_part(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    parts = _parts(data)
    theirs = [content for other in others if other[:2] == b"PK" for _, content in _parts(other)]
    i = random.randrange(len(parts))
    parts[i] = (parts[i][0], random.choice(theirs))
    return _packed(parts)


ZIP: tuple[Mutation, ...] = (
    *(remove_part, rename_part, double_part, exchange_parts, take_part),
    *(change_part, change_part, change_part),
)


# The header of safetensors


def _divided(data: bytes) -> tuple[dict[str, Any], bytes]:
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def _joined(header: Any, values: bytes) -> bytes:
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + values


def _without_digest(header: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in header["__metadata__"].items() if key != "zoo_sha256"}
    return {**header, "__metadata__": kept}


def change_header(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    header, values = _divided(data)
    if random.random() < 0.7:
        header = _without_digest(header)
    key = random.choice(list(header))
    return _joined({**header, key: change(random, header[key], strange=False)}, values)


def change_facts(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """The description, with a digest that fits or with none."""
    header, values = _divided(data)
    facts = json.loads(header["__metadata__"]["zoo"])
    key = random.choice(list(facts))
    text = json.dumps({**facts, key: change(random, facts[key], strange=False, stop=0.05)})
    if random.random() < 0.5:
        header = _without_digest(header)
        header["__metadata__"]["zoo"] = text
        return _joined(header, values)
    import safetensors.torch

    return b"".join(safetensors_parts(safetensors.torch.load(data), text))


def exchange_values(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Two tensors of one shape under each other's names."""
    header, values = _divided(data)
    names = [name for name in header if name != "__metadata__"]
    first, second = random.sample(names, 2)
    changed = {**_without_digest(header), first: header[second], second: header[first]}
    return _joined(changed, values)


HEADER: tuple[Mutation, ...] = (change_header, change_facts, change_facts, change_facts, exchange_values)
