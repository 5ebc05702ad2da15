"""One seed out of several numbers."""

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15


def mixed_seed(*numbers: int) -> int:
    """A seed from 0 to 2**63 - 1 that depends on each of the numbers and on their order.

    Each number is added to the state, which is then hashed by the last step of splitmix64 (Steele, Lea and Flood 2014).
    numpy's SeedSequence does the same at thirty times the cost, and this is done at every training step.

    Example:
        >>> mixed_seed(0, 1) != mixed_seed(1, 0)
        True
    """
    state = 0
    for number in numbers:
        state = (state + number + _GOLDEN) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1
