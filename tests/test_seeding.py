"""Random numbers that depend on a seed and names alone."""

from __future__ import annotations

import hashlib

import numpy as np

from fathom.seeding import digest, number, order


def test_numbers_are_the_first_bytes_of_the_digest_of_the_joined_parts() -> None:
    whole = hashlib.sha256(b"3:kitchen").digest()
    assert digest(3, "kitchen") == whole
    assert number(3, "kitchen") == int.from_bytes(whole[:8], "little")
    assert number(3, "kitchen", bits=56) == int.from_bytes(whole[:7], "little")
    assert number(3, "kitchen") != number(4, "kitchen") != number(3, "bath")


def test_names_that_are_no_unicode_have_numbers_too() -> None:
    assert number(0, "\udcff") != number(0, "\udcfe")


def test_an_order_is_a_permutation_that_the_seeds_decide() -> None:
    assert sorted(order(9, 5, 1)) == list(range(9))
    assert order(9, 5, 1) == np.random.default_rng([5, 1]).permutation(9).tolist() != order(9, 5, 2)
