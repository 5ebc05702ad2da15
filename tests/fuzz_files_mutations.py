"""Changes to files: blind ones, and ones that keep check sums right so that they get past the first check."""

import gzip
import struct
import zlib
from random import Random

EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
STRANGE_TEXT = (
    "", " ", "\0", '"', ",", ";", "\t", "\n", "\r\n", "\x0b", "\u2028", "\ufeff", "\u202e", "é", "e\u0301", "ß", "ANT",
    "ant ", "0", "-1", "1e9", "9" * 5000, "x" * 200_000, "../" * 50, "/dev/null", "/", ".", "~", "nan", "None",
    "\U0001d7d8", "\u00b2", "train", "a" * 300, "=1+1", "%s%n", "\x1b[31m",
)  # fmt: skip


def mutate(data: bytes, random: Random, donor: bytes) -> bytes:
    """One to three blind changes; `donor` is what foreign pieces come from."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        data = random.choice(_BLIND)(bytearray(data or donor), random, donor)
    return data


def mutate_in_place(data: bytes, random: Random, donor: bytes) -> bytes:
    """Change bytes anywhere, so that nothing moves."""
    for _ in range(random.choice((1, 1, 2, 3))):
        start, end = _piece(data, random)
        bit = bytes([data[start] ^ 1 << random.randrange(8)])
        foreign = (donor * 1024)[random.randrange(len(donor)) :][: end - start]
        new = random.choice((bit, bit, bytes([random.randrange(11)]), foreign, b"\0" * (end - start)))
        data = data[:start] + new + data[start + len(new) :]
    return data


def mutate_png(data: bytes, random: Random, donor: bytes) -> bytes:
    """Change what is within one chunk, and make its length and check sum right again."""
    chunks, place = list[tuple[bytes, bytes]](), 8
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += length + 12
    number = random.randrange(len(chunks))
    kind, content = chunks[number]
    if kind == b"IDAT" and random.random() < 0.7:
        try:
            content = zlib.compress(mutate(zlib.decompress(content), random, donor))
        except zlib.error:  # a picture in several chunks
            content = mutate(content, random, donor)
    else:
        content = mutate(content, random, donor)
    chunks[number] = kind, content
    if random.random() < 0.2:
        chunks.insert(random.randrange(len(chunks) + 1), random.choice(chunks))
    parts = [struct.pack(">I", len(content)) + kind + content + _sum(kind + content) for kind, content in chunks]
    return data[:8] + b"".join(parts)


def mutate_gzip(data: bytes, random: Random, donor: bytes) -> bytes:
    """Change what is within a .gz, and pack it again."""
    change = random.choice((mutate, mutate_in_place, mutate_in_place))
    return gzip.compress(change(gzip.decompress(data), random, donor), 1)


def mutate_table(data: bytes, random: Random, donor: bytes) -> bytes:
    """Change cells, rows and separators of a table."""
    if random.random() < 0.2:
        return mutate(data, random, donor)
    lines = data.decode().split("\n")
    for _ in range(random.choice((1, 1, 2, 3))):
        row = random.randrange(len(lines))
        cells = lines[row].split(",")
        cell = random.randrange(len(cells))
        strange = random.choice(STRANGE_TEXT)
        other = lines[random.randrange(len(lines))]
        match random.randrange(12):
            case 0:
                del lines[row]
            case 1:
                lines.insert(random.randrange(len(lines) + 1), other)
            case 2:
                lines[row] = other
            case 3:
                lines[row] = ",".join(reversed(cells))
            case 4:
                lines[row] = lines[row].replace(",", random.choice(";\t|"))
            case 5:
                place = random.randrange(len(lines[row]) + 1)
                lines[row] = lines[row][:place] + '"' + lines[row][place:]
            case 6:
                cells.insert(cell, strange)
                lines[row] = ",".join(cells)
            case 7:
                cells[cell] = random.choice(other.split(","))
                lines[row] = ",".join(cells)
            case 8:
                cells[cell] += strange
                lines[row] = ",".join(cells)
            case _:
                cells[cell] = strange
                lines[row] = ",".join(cells)
        lines = lines or [""]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def change_rows(lines: list[str], random: Random) -> list[str]:
    """Other rows and labels, as people change tables; the first row stays."""
    header, *rows = lines
    labels = [row.split(",")[1] for row in rows]
    for _ in range(random.choice((1, 1, 2, 3))):
        place = random.randrange(len(rows))
        path = rows[place].split(",")[0]
        match random.randrange(5):
            case 0:
                del rows[place]
            case 1:
                rows.append(rows[place])
            case 2:
                rows.insert(0, rows.pop(place))
            case 3:
                rows[place] = f"{path},{random.choice(labels)}"
            case _:
                strange = random.choice(
                    ("zebra", "0", "-1", "\u202e", "e\u0301", "a b", "10", "x" * 300, "\U0001d7d8", "=1+1")
                )
                for other in {place, *random.sample(range(len(rows)), 3)}:
                    rows[other] = f"{rows[other].split(',')[0]},{strange}"
    return [header, *rows]


def change_dialect(lines: list[str], random: Random) -> bytes:
    """The same table as another program writes it."""
    cells = [line.split(",") for line in lines]
    cells[0] = [random.choice((name, name.upper(), f" {name} ")) for name in cells[0]]
    if random.random() < 0.3:
        cells = [[str(row), *line] for row, line in enumerate(cells)]  # the numbers of the rows
    if random.random() < 0.3:
        cells = [[f'"{cell}"' for cell in line] for line in cells]
    delimiter, end = random.choice((",", ";", "\t", ", ")), random.choice(("\n", "\r\n", "\n\n"))
    return end.join(delimiter.join(line) for line in cells).encode(random.choice(("utf-8", "utf-8-sig")))


def _sum(content: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(content))


def _place(data: bytearray, random: Random) -> int:
    """Half of all changes are in the first bytes, where formats keep their facts."""
    return random.randrange(min(len(data), 64) if random.random() < 0.5 else len(data))


def _piece(data: bytes | bytearray, random: Random) -> tuple[int, int]:
    start = random.randrange(len(data))
    return start, min(len(data), start + random.choice((1, 2, 3, 4, 8, 16, 64, 256, 512, 1024)))


def _flip(data: bytearray, random: Random, _: bytes) -> bytes:
    for _ in range(random.choice((1, 1, 2, 8))):
        data[_place(data, random)] ^= 1 << random.randrange(8)
    return bytes(data)


def _set(data: bytearray, random: Random, _: bytes) -> bytes:
    data[_place(data, random)] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))
    return bytes(data)


def _number(data: bytearray, random: Random, _: bytes) -> bytes:
    """An extreme number over 1, 2, 4 or 8 bytes, in either order."""
    place, size = _place(data, random), random.choice((1, 2, 4, 8))
    number = random.choice(EXTREMES) % (1 << 8 * size)
    return bytes(data[:place]) + number.to_bytes(size, random.choice(("big", "little"))) + bytes(data[place + size :])


def _truncate(data: bytearray, random: Random, _: bytes) -> bytes:
    return bytes(data[: random.randrange(len(data))])


def _delete(data: bytearray, random: Random, _: bytes) -> bytes:
    start, end = _piece(data, random)
    return bytes(data[:start] + data[end:])


def _duplicate(data: bytearray, random: Random, _: bytes) -> bytes:
    start, end = _piece(data, random)
    return bytes(data[:end] + data[start:end] * random.choice((1, 1, 2, 50)) + data[end:])


def _splice(data: bytearray, random: Random, donor: bytes) -> bytes:
    start, end = _piece(donor, random)
    place = _place(data, random)
    return bytes(data[:place] + donor[start:end] + data[place + (end - start) :])


def _insert(data: bytearray, random: Random, donor: bytes) -> bytes:
    start, end = _piece(donor, random)
    place = _place(data, random)
    return bytes(data[:place] + donor[start:end] + data[place:])


def _fill(data: bytearray, random: Random, _: bytes) -> bytes:
    start, end = _piece(data, random)
    return bytes(data[:start]) + random.choice((b"\0", b"\xff")) * (end - start) + bytes(data[end:])


def _append(data: bytearray, random: Random, donor: bytes) -> bytes:
    return bytes(data) + random.choice((b"\0" * 512, b"\n", donor[:1000]))


_BLIND = (_flip, _flip, _flip, _set, _set, _number, _number, _truncate, _delete, _duplicate, _splice, _splice, _insert,
          _fill, _append)  # fmt: skip
