"""Which packages share a layer: large ones have one each, the small ones share one. Pure."""

from __future__ import annotations

from typing import TypeVar

__all__ = ["LARGE", "MOST_LAYERS", "group", "room"]

T = TypeVar("T")

LARGE = 1_000_000
"""bytes; what is not smaller gets a layer of its own"""
MOST_LAYERS = 100
"""in an image: more than about 120 have killed a Docker engine"""


def room(base: int, others: int) -> int:
    """How many layers are left for packages, where the base has ``base`` and the rest of ours ``others``."""
    return MOST_LAYERS - base - others


def group(sizes: dict[T, int], most: int) -> list[tuple[T, ...]]:
    """Items by layer, in the order given; those that share one come last, and are the smallest.

    ``most``: layers there may be; where it is less than one there is one all the same.
    """
    large = [item for item, size in sizes.items() if size >= LARGE]
    small = [item for item in sizes if item not in set(large)]
    allowed = max(most, 1) - (1 if small else 0)
    if len(large) > allowed:
        allowed = max(most, 1) - 1
        alone = set(sorted(large, key=lambda item: -sizes[item])[:allowed])
        small = [item for item in sizes if item not in alone]
        large = [item for item in large if item in alone]
    return [*((item,) for item in large), *([tuple(small)] if small else [])]
