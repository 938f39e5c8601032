"""Shapley values: exact for few players, from the value of every subset; sampled orders for many players."""

from collections.abc import Callable
from math import factorial

import numpy as np


def subsets_of(number: int) -> np.ndarray:
    """List all subsets of `number` players: (2^number, number) bool. Bit k of a row's index says whether k is in."""
    return (np.arange(2**number)[:, None] >> np.arange(number)[None, :]) % 2 == 1


def shapley_values(values: np.ndarray) -> np.ndarray:
    """Compute the Shapley value of each player (Shapley 1953).

    The values sum to the value of all players minus that of no player.

    Args:
        values: (2^n,) value of each subset, in the order of `subsets_of`.

    Returns:
        (n,) float64.

    Raises:
        ValueError: if the number of values is not a power of two.
    """
    number = len(values).bit_length() - 1
    if len(values) != 2**number:
        raise ValueError(f"{len(values)} values are not those of all subsets, whose number is a power of two")
    subsets, values = subsets_of(number), np.asarray(values, dtype=np.float64)
    sizes = subsets.sum(axis=1)
    weights = np.array([factorial(k) * factorial(number - k - 1) / factorial(number) for k in range(number)])
    result = np.zeros(number)
    for player in range(number):
        without = np.flatnonzero(~subsets[:, player])
        result[player] = (weights[sizes[without]] * (values[without + 2**player] - values[without])).sum()
    return result


def sampled_shapley_values(
    score: Callable[[np.ndarray], np.ndarray], number: int, orders: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Estimate Shapley values from random orders of the players, each walked forwards and backwards.

    The estimator is that of `shap.PermutationExplainer`, which the tests compare it with. The package is not called,
    because it compiles code for up to 20 seconds in every new process, and asks for ten subsets at a time.

    Args:
        score: function from subsets (n, players) bool to values (n,).
        number: number of players, at least 1.
        orders: number of random orders, at least 2.
        seed: seed of the orders.

    Returns:
        Shapley values (players,), which sum to the value of all players minus that of none; their standard errors over
        the orders (players,); the value of all players; the value of none.
    """
    random = np.random.default_rng(seed)
    walks = []
    for _ in range(orders):
        order = random.permutation(number)
        walks += [order, order[::-1]]
    # Walk w adds player walks[w][k] in step k. Without the empty and the whole set, which all walks share.
    steps = [np.isin(np.arange(number), walk[:size]) for walk in walks for size in range(1, number)]
    ends = np.array([np.zeros(number, bool), np.ones(number, bool)])
    values = score(np.concatenate([ends, np.array(steps, bool).reshape(-1, number)]))
    empty, whole = float(values[0]), float(values[1])
    inner = values[2:].reshape(len(walks), number - 1)
    paths = np.concatenate([np.full((len(walks), 1), empty), inner, np.full((len(walks), 1), whole)], axis=1)
    gains = np.empty((len(walks), number))
    for row, walk in enumerate(walks):
        gains[row, walk] = np.diff(paths[row])
    pairs = gains.reshape(orders, 2, number).mean(1)
    return pairs.mean(0), pairs.std(0, ddof=1) / np.sqrt(orders), whole, empty
