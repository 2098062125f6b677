"""What a stream of records must remember of those that went by, in little memory."""

import struct

import numpy as np

_MAX_LOAD = 0.67
_NUM_TABLES = 256
_ALL = (1 << 64) - 1
_NUMBERS = struct.Struct("<QI")


class RecentRows:
    """Row numbers of what was written lately, by digest; what was not met for long is forgotten.

    Holds two generations of digests. When the young one is full it becomes the old one, and the old one goes;
    a digest that is met in the old one is young again. So what recurs within `generation` other digests is
    always found.

    Parameters
    ----------
    generation
        Digests of a generation; some 30 bytes each.

    Examples
    --------
    >>> rows, digests = RecentRows(generation=2), [bytes([number] * 12) for number in range(1, 6)]
    >>> for row, digest in enumerate(digests):
    ...     rows.add(digest, row)
    >>> rows.find(digests[0]), rows.find(digests[3]), rows.num_forgotten
    (None, 3, 2)
    """

    def __init__(self, generation: int = 1 << 22) -> None:
        self.generation = generation
        self.num_forgotten = 0
        """Digests that would no longer be found."""
        self._young, self._old = _new_tables(2), _new_tables(2)
        self._num_young = self._num_old = 0

    def find(self, digest: bytes) -> int | None:
        """Give the row of a digest; `None` where it is new, or forgotten.

        Parameters
        ----------
        digest
            At least 12 bytes, spread evenly.
        """
        number, check = _numbers(digest)
        row = _row_in(self._young, number, check)
        if row is None and (row := _row_in(self._old, number, check)) is not None:
            self._num_old -= 1  # is young again
            self.add(digest, row)
        return row

    def add(self, digest: bytes, row: int) -> None:
        """Remember the row of a digest that was not found.

        Parameters
        ----------
        digest
            At least 12 bytes, spread evenly.
        row
            Below 2³².
        """
        if self._num_young >= self.generation:
            self.num_forgotten += self._num_old
            self._old, self._num_old = self._young, self._num_young
            self._young, self._num_young = _new_tables(2), 0
        number, check = _numbers(digest)
        table = self._young[number % _NUM_TABLES]
        table.put(number, table.place_of(number), check, row)
        self._num_young += 1


class NumberSet:
    """A set of 64-bit numbers that are spread evenly, such as hashes, in 12 to 18 bytes each.

    A Python set takes 70 to 100.

    Examples
    --------
    >>> numbers = NumberSet()
    >>> numbers.add(7 << 60), numbers.add(7 << 60), 7 << 60 in numbers, 5 << 60 in numbers
    (True, False, True, False)
    """

    def __init__(self) -> None:
        self._tables = _new_tables(0)

    def __len__(self) -> int:
        return sum(table.count for table in self._tables)

    def __contains__(self, number: int) -> bool:
        number = number & _ALL or 1
        table = self._tables[number % _NUM_TABLES]
        return table.numbers[table.place_of(number)] == number

    def add(self, number: int) -> bool:
        """Add a number, and tell whether it is new.

        Parameters
        ----------
        number
            Its lower 64 bits count.
        """
        number = number & _ALL or 1
        table = self._tables[number % _NUM_TABLES]
        place = table.place_of(number)
        if table.numbers[place] == number:
            return False
        table.put(number, place)
        return True


class _Table:
    """Numbers above 0, each at the place that it has by its size or the next free one, with its values."""

    def __init__(self, num_values: int) -> None:
        self.count = 0
        none = np.zeros(0, dtype=np.uint64)
        self._lay_out(none, [none.astype(np.uint32)] * num_values, 32)

    def place_of(self, number: int) -> int:
        """Where the number stands, or would."""
        numbers, place = self.numbers, (number >> 32) * self._size >> 32
        while (there := numbers[place]) and there != number:
            place += 1
        return place

    def put(self, number: int, place: int, *values: int) -> None:
        """Put a number at its place."""
        self.numbers[place] = number
        for column, value in zip(self.values, values, strict=True):
            column[place] = value
        self.count += 1
        is_full = self.count > self._most
        if is_full or place + 1 == len(self.numbers):
            present = np.flatnonzero(self._arrays[0])
            numbers, *columns = (array[present] for array in self._arrays)
            self._lay_out(numbers, columns, self._size * 3 // 2 if is_full else self._size)

    def _lay_out(self, numbers: np.ndarray, values: list[np.ndarray], size: int) -> None:
        """Put each number at its place by size, or behind the one before it."""
        order = np.argsort(numbers)
        numbers = numbers[order]
        homes = ((numbers >> np.uint64(32)) * np.uint64(size) >> np.uint64(32)).astype(np.int64)
        ranks = np.arange(len(numbers))
        places = np.maximum.accumulate(homes - ranks) + ranks
        past = int(places[-1]) + 1 if len(places) else 0
        length = max(size, past) + 16  # the last place is always free, so that a search ends
        self._arrays = []
        for column in (numbers, *(each[order] for each in values)):
            laid_out = np.zeros(length, dtype=column.dtype)
            laid_out[places] = column
            self._arrays.append(laid_out)
        self.numbers, *self.values = map(memoryview, self._arrays)
        self.count, self._size, self._most = len(numbers), size, int(size * _MAX_LOAD)


def _new_tables(num_values: int) -> list[_Table]:
    return [_Table(num_values) for _ in range(_NUM_TABLES)]


def _numbers(digest: bytes) -> tuple[int, int]:
    number, check = _NUMBERS.unpack_from(digest)
    return number or 1, check


def _row_in(tables: list[_Table], number: int, check: int) -> int | None:
    table = tables[number % _NUM_TABLES]
    place = table.place_of(number)
    if table.numbers[place] != number or table.values[0][place] != check:
        return None
    return table.values[1][place]
