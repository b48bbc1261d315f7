"""Joining things that belong together, and drawing from a seed by name instead of by position."""

from __future__ import annotations

from collections.abc import Hashable
from hashlib import blake2b
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class Groups(Generic[Key]):
    """Disjoint groups of keys that grow by joining (union-find); a key never seen is a group of its own."""

    def __init__(self) -> None:
        self._parent: dict[Key, Key] = {}

    def root(self, key: Key) -> Key:
        """The member that stands for the group of `key`; which one depends on the order of joins, so it is not a name."""
        self._parent.setdefault(key, key)
        root = key
        while self._parent[root] != root:
            root = self._parent[root]
        while self._parent[key] != root:
            self._parent[key], key = root, self._parent[key]
        return root

    def join(self, one: Key, other: Key) -> None:
        """Make the groups of two keys one group."""
        self._parent[self.root(one)] = self.root(other)

    def members(self) -> list[list[Key]]:
        """All groups of the keys seen so far."""
        groups: dict[Key, list[Key]] = {}
        for key in self._parent:
            groups.setdefault(self.root(key), []).append(key)
        return list(groups.values())


def draw(seed: int, purpose: str, key: str) -> float:
    """A number in [0, 1), uniform over keys, that depends on nothing but seed, purpose and key: order and neighbours never matter."""
    digest = blake2b(f"{seed}\0{purpose}\0{key}".encode(), digest_size=8).digest()
    # 53 bits are all that a double holds below 1; more would round up to 1.0.
    return (int.from_bytes(digest, "big") >> 11) / 2**53
