"""An oblivious key-value store: a table from which each key's value can be read, and that hides the keys.

Garbled cuckoo table with three positions per key and 64 dense columns (Garimella, Pinkas, Rosulek, Trieu and
Yanai, "Oblivious Key-Value Stores and Amplification for Private Set Intersection", CRYPTO 2021, section 4).
The value of a key is the exclusive or of its three sparse and its chosen dense entries. Keys are peeled off
where a position serves one key only; the few that are left are solved for with the dense columns. All that is
not determined is random, so with random values the table says nothing of which keys are in it.
"""

from __future__ import annotations

import os
from typing import Final

import numpy as np
from numba import njit

from mpcpriv.errors import MpcprivError

DENSE: Final = 64
WORD: Final = 8
VALUE: Final = 2 * WORD
"""Bytes of a value of two words."""


def height(keys: int) -> int:
    """Entries of a table for so many keys; 1.35 per key peel (the threshold is 1.23)."""
    return 3 * _segment(keys) + DENSE


def encode(keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The table with these values.

    Args:
        keys: (n, 4) uint64, pseudo-random and all different: three positions and the choice of dense columns.
        values: (n, words) uint64; pseudo-random to whoever is to learn nothing.

    Returns:
        (height(n), words) uint64.

    Raises:
        MpcprivError: these keys have no table, by a chance below 2^-40.
    """
    sparse = 3 * _segment(len(keys))
    words = values.shape[1]
    table = np.frombuffer(bytearray(os.urandom(WORD * words * height(len(keys)))), np.uint64)
    table = table.reshape(-1, words)
    places, dense = _places(keys, sparse), keys[:, 3]
    order, at = _peel(places, sparse)
    core = np.setdiff1d(np.arange(len(keys)), order)
    _solve(table, places[core], dense[core], values[core])
    _unpeel(table, places, dense, values, order, at)
    return table


def decode(table: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """The value of each key, (n, words) uint64; of one that is not in the table one that means nothing."""
    return _read(table, _places(keys, len(table) - DENSE), keys[:, 3])


def _segment(keys: int) -> int:
    return -(-keys * 9 // 20) + 16


def _places(keys: np.ndarray, sparse: int) -> np.ndarray:
    third = sparse // 3
    return (keys[:, :3] % np.uint64(third)).astype(np.int64) + third * np.arange(3)


@njit(cache=True, nogil=True)
def _peel(places: np.ndarray, sparse: int) -> tuple[np.ndarray, np.ndarray]:
    """The keys in the order of peeling, and the position that was each one's alone."""
    degree, users = np.zeros(sparse, np.int64), np.zeros(sparse, np.int64)
    for key in range(len(places)):
        for j in range(3):
            degree[places[key, j]] += 1
            users[places[key, j]] ^= key  # with one user left, that is the user
    waiting = np.flatnonzero(degree == 1)
    stack = np.empty(sparse + 3 * len(places), np.int64)
    stack[: len(waiting)] = waiting
    top, count = len(waiting), 0
    order, at = np.empty(len(places), np.int64), np.empty(len(places), np.int64)
    while top:
        top -= 1
        place = stack[top]
        if degree[place] != 1:
            continue
        key = users[place]
        order[count], at[count] = key, place
        count += 1
        for j in range(3):
            other = places[key, j]
            degree[other] -= 1
            users[other] ^= key
            if degree[other] == 1:
                stack[top] = other
                top += 1
    return order[:count], at[:count]


@njit(cache=True, nogil=True)
def _read(table: np.ndarray, places: np.ndarray, dense: np.ndarray) -> np.ndarray:
    words = table.shape[1]
    found = np.zeros((len(places), words), np.uint64)
    first = len(table) - DENSE
    for key in range(len(places)):
        for word in range(words):
            value = np.uint64(0)
            for j in range(3):
                value ^= table[places[key, j], word]
            for bit in range(DENSE):
                value ^= table[first + bit, word] * ((dense[key] >> np.uint64(bit)) & np.uint64(1))
            found[key, word] = value
    return found


@njit(cache=True, nogil=True)
def _unpeel(
    table: np.ndarray,
    places: np.ndarray,
    dense: np.ndarray,
    values: np.ndarray,
    order: np.ndarray,
    at: np.ndarray,
) -> None:
    """Gives each peeled key its value by the entry that was its own, the last one first."""
    for step in range(len(order) - 1, -1, -1):
        key = order[step]
        now = _read(table, places[key : key + 1], dense[key : key + 1])
        for word in range(table.shape[1]):
            table[at[step], word] ^= now[0, word] ^ values[key, word]


def _solve(table: np.ndarray, places: np.ndarray, dense: np.ndarray, values: np.ndarray) -> None:
    """Changes as many entries as there are keys left, so that these get their values (Gauss-Jordan)."""
    columns = [*np.unique(places).tolist(), *range(len(table) - DENSE, len(table))]
    number = {column: i for i, column in enumerate(columns)}
    first = len(columns) - DENSE
    missing = _read(table, places, dense) ^ values
    rows: list[tuple[int, int, int]] = []  # columns as bits, what they must change by, the pivot
    for key in range(len(places)):
        bits = sum(1 << number[place] for place in places[key].tolist()) | int(dense[key]) << first
        change = int.from_bytes(missing[key].tobytes(), "little")
        for other, by, pivot in rows:
            if bits >> pivot & 1:
                bits, change = bits ^ other, change ^ by
        if not bits:
            raise MpcprivError("identifiers without a table, a chance below 2^-40; run the alignment again")
        pivot = bits.bit_length() - 1
        rows = [
            (other ^ bits, by ^ change, p) if other >> pivot & 1 else (other, by, p) for other, by, p in rows
        ]
        rows.append((bits, change, pivot))
    for _, change, pivot in rows:
        table[columns[pivot]] ^= np.frombuffer(change.to_bytes(missing.shape[1] * WORD, "little"), np.uint64)
