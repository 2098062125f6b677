"""Sets and maps of hashes in little memory, against Python's own."""

import hashlib

import numpy as np
import pytest

from protlm.data.remembered import NumberSet, RecentRows


def digest_of(number):
    return hashlib.blake2b(str(number).encode(), digest_size=16).digest()


class TestNumberSet:
    def test_it_says_what_a_python_set_says(self):
        random = np.random.default_rng(0)
        drawn = random.integers(0, 30_000, 40_000).tolist()  # each more than once on average
        numbers, known = NumberSet(), set()
        for each in drawn:
            number = hash(("id", each))
            assert (number in numbers) == (number in known)
            assert numbers.add(number) == (number not in known)
            known.add(number)
        assert len(numbers) == len(known)
        assert all(number in numbers for number in known)

    @pytest.mark.parametrize("top", [0, 0xFFFFFFFF], ids=["small", "large"])
    def test_numbers_that_all_belong_to_one_place(self, top):
        """Thousands of the same upper half stand one behind the other, past the end of the table."""
        numbers = NumberSet()
        given = [top << 32 | low << 8 for low in range(1, 3000)]
        assert all(numbers.add(number) for number in given)
        assert not any(numbers.add(number) for number in given)
        assert len(numbers) == len(given)

    def test_it_is_small(self):
        numbers = NumberSet()
        for each in range(100_000):
            numbers.add(hash(("id", each)))
        held = sum(array.nbytes for table in numbers._tables for array in table._arrays)
        assert held / 100_000 < 18.5


class TestRecentRows:
    def test_all_is_found_while_it_fits(self):
        rows = RecentRows(generation=20_000)
        for number in range(20_000):
            assert rows.find(digest_of(number)) is None
            rows.add(digest_of(number), number)
        assert [rows.find(digest_of(number)) for number in range(0, 20_000, 97)] == list(range(0, 20_000, 97))
        assert rows.num_forgotten == 0

    def test_what_recurs_within_a_generation_is_never_forgotten(self):
        """A chain that is met every 90 others, among 5,000 that are met once, for generations of 100."""
        rows, found = RecentRows(generation=100), []
        rows.add(digest_of("common"), 7)
        for number in range(5_000):
            assert rows.find(digest_of(number)) is None
            rows.add(digest_of(number), number)
            if number % 90 == 89:
                found.append(rows.find(digest_of("common")))
        assert set(found) == {7}
        assert rows.find(digest_of(0)) is None
        held = sum(table.count for table in rows._young + rows._old)
        assert held <= 200
        assert 4_800 <= rows.num_forgotten <= 5_001
