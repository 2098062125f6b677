"""Per-residue columns to tracks: masks of abstar, strings of regions, alignments with a germline.

Whatever does not fit its sequence is a `ResidueError`; nothing is shifted until it fits.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from protlm.types.alphabet import STANDARD, UNUSUAL, ResidueError
from protlm.types.regions import REGIONS, Mutated, Region, Segment

_LETTERS = frozenset(STANDARD + UNUSUAL)
_NOT_LETTERS = re.compile(r"[\s.\-]+")
_MIN_GERMLINE_IDENTITY = 0.5
"""Below this a germline's string is taken to be shifted; unrelated residues agree in about one of sixteen."""

_NO_CODE = 255
SEGMENT_CODES = {segment.name: segment.value for segment in (Segment.V, Segment.N, Segment.D, Segment.J)}
MUTATED_CODES = {"0": Mutated.GERMLINE.value, "1": Mutated.MUTATED.value}
_FRAMEWORK, _LAST_FRAMEWORK = 0, 4
_CDR_CODES = {"0": 0, "1": 1, "2": 2, "3": 3, "4": 4}
_CDR_REGIONS = {1: Region.CDR1, 2: Region.CDR2, 3: Region.CDR3}


def mask_codes(mask: str, codes: Mapping[str, int], column: str, text: str, length: int) -> np.ndarray:
    """Give the code of each residue's letter in a mask.

    Parameters
    ----------
    mask
        One letter per residue, or per letter of `text`.
    codes
        Code in [0, 254] by letter.
    column
        For messages.
    text
        The sequence as it is in the file, which may have a stop and gaps that `length` does not count.
    length
        Residues of the chain.

    Raises
    ------
    ResidueError
        If the mask has another length, or another letter.

    Examples
    --------
    >>> mask_codes("VVN", SEGMENT_CODES, "gene_segment_mask_aa", "MKT", 3).tolist()
    [1, 1, 2]
    """
    if len(mask) == len(text) != length:  # the mask goes with the sequence before stop and gaps went
        mask = "".join(mark for mark, letter in zip(mask, text, strict=True) if letter.upper() in _LETTERS)
    if len(mask) != length:
        raise ResidueError(
            f"column '{column}' has {len(mask)} letters for {length} residues",
            hint="it needs one letter per residue; mend it, leave the column out, or pass --invalid drop",
            reason=f"column '{column}' does not have one letter per residue",
        )
    table = np.full(256, _NO_CODE, dtype=np.uint8)
    table[[ord(letter) for letter in codes]] = list(codes.values())
    found = table[np.frombuffer(mask.encode("latin-1", "replace"), dtype=np.uint8)]
    if (found == _NO_CODE).any():
        place = int(np.argmax(found == _NO_CODE))
        raise ResidueError(
            f"column '{column}' has {mask[place]!r} at position {place + 1}",
            hint=f"expected only {', '.join(codes)}; mend it, leave the column out, or pass --invalid drop",
            reason=f"column '{column}' has other letters than {', '.join(codes)}",
        )
    return found


def regions_of_mask(mask: str, column: str, text: str, length: int) -> np.ndarray:
    """Give the region of each residue from a mask of 0 framework, 1 CDR1, 2 CDR2, 3 CDR3.

    A framework is known by the CDRs beside it, so where CDR1 or CDR2 is absent, the zeros around its place
    stay `NONE`. A 4, which some tools write in framework 4, is read as framework.

    Parameters
    ----------
    mask, column, text, length
        As for `mask_codes`.

    Returns
    -------
    numpy.ndarray
        `Region` codes, uint8 ``[length]``.

    Raises
    ------
    ResidueError
        As for `mask_codes`; and if the CDRs are not one stretch each, in order.

    Examples
    --------
    >>> regions_of_mask("0102030", "cdr_mask_aa", "MKTAYIA", 7).tolist()
    [1, 2, 3, 4, 5, 6, 7]
    """
    codes = mask_codes(mask, _CDR_CODES, column, text, length)
    codes = np.where(codes == _LAST_FRAMEWORK, _FRAMEWORK, codes)
    changes = np.flatnonzero(np.diff(codes)) + 1
    starts = np.concatenate([[0], changes]).astype(int)
    stops = np.append(changes, length)
    regions = np.zeros(length, dtype=np.uint8)
    before = 0
    for number, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        code = int(codes[start])
        if code == _FRAMEWORK:
            after = int(codes[starts[number + 1]]) if number + 1 < len(starts) else before + 1
            if after == before + 1 and (before or number + 1 < len(starts)):
                regions[start:stop] = 2 * before + 1
        elif code <= before:
            raise ResidueError(
                f"column '{column}' has CDR{code} at position {start + 1}, after CDR{before}",
                hint="expected one stretch each of 1, 2 and 3, in this order; mend it, or pass "
                "--regions immunum to number instead",
                reason=f"column '{column}' has CDRs out of order",
            )
        else:
            regions[start:stop] = _CDR_REGIONS[code]
            before = code
    return regions


def regions_of_strings(strings: Mapping[Region, tuple[str, str]], residues: str) -> np.ndarray:
    """Give the region of each residue from the residues of each region.

    Strings of neighbouring regions are joined and must be found, in order, once, in the sequence. What is
    before the first and behind the last is `NONE`; between two CDRs it is the framework.

    Parameters
    ----------
    strings
        Column name and residues by region; empty ones are regions that are not known. Gaps, white space
        and a stop at the end are ignored.
    residues
        Of the chain.

    Returns
    -------
    numpy.ndarray
        `Region` codes, uint8.

    Raises
    ------
    ResidueError
        Naming the first column that does not fit.

    Examples
    --------
    >>> strings = {Region.CDR1: ("cdr1", "K"), Region.FR2: ("fwr2", "TA"), Region.CDR2: ("cdr2", "Y")}
    >>> regions_of_strings(strings, "MKTAYIA").tolist()
    [0, 2, 3, 3, 4, 0, 0]
    """
    clean = {
        region: (column, _NOT_LETTERS.sub("", text).upper().removesuffix("*"))
        for region, (column, text) in strings.items()
    }
    known = [region for region in REGIONS if clean.get(region, ("", ""))[1]]
    regions = np.zeros(len(residues), dtype=np.uint8)
    start = 0
    for run in _runs(known):
        start = _place(run, clean, residues, start)
        for region in run:
            stop = start + len(clean[region][1])
            regions[start:stop] = region
            start = stop
    _fill_frameworks(regions)
    return regions


def _runs(known: Sequence[Region]) -> list[list[Region]]:
    """Part regions where one is missing between them."""
    runs: list[list[Region]] = []
    for region in known:
        if runs and region == runs[-1][-1] + 1:
            runs[-1].append(region)
        else:
            runs.append([region])
    return runs


def _place(
    run: Sequence[Region], strings: Mapping[Region, tuple[str, str]], residues: str, start: int
) -> int:
    """Find the joined residues of a run behind `start`."""
    joined = "".join(strings[region][1] for region in run)
    place = residues.find(joined, start)
    if place < 0:
        column = _first_misfit(run, strings, residues, start)
        behind = f" behind position {start}" if start else ""
        whole = "" if len(run) == 1 else f", joined with the columns before it as '{strings[run[0]][0]}'…,"
        raise ResidueError(
            f"column '{column}'{whole} is no part of the sequence{behind}",
            hint="mend it, or pass --regions immunum to number instead",
            reason=f"column '{column}' does not fit the sequence",
        )
    if residues.find(joined, place + 1) >= 0:
        names = ", ".join(f"'{strings[region][0]}'" for region in run)
        raise ResidueError(
            f"{joined!r} of column {names} is at more than one place of the sequence",
            hint="give the regions beside it too, or pass --regions immunum to number instead",
            reason=f"column {names} fits at more than one place",
        )
    return place


def _first_misfit(
    run: Sequence[Region], strings: Mapping[Region, tuple[str, str]], residues: str, start: int
) -> str:
    joined = ""
    for region in run:
        column, text = strings[region]
        joined += text
        if residues.find(joined, start) < 0:
            return column
    return strings[run[-1]][0]  # not reached: the whole was not found


def _fill_frameworks(regions: np.ndarray) -> None:
    """Label what lies between two CDRs that follow each other."""
    for before, after in ((Region.CDR1, Region.CDR2), (Region.CDR2, Region.CDR3)):
        left, right = np.flatnonzero(regions == before), np.flatnonzero(regions == after)
        if len(left) and len(right):
            between = regions[left[-1] + 1 : right[0]]
            between[between == Region.NONE] = before + 1


def germline_track(germline: str, alignment: str, column: str, residues: str) -> np.ndarray:
    r"""Give the germline's letter at each residue from two aligned strings.

    Parameters
    ----------
    germline
        Aligned with `alignment`, letter by letter; X, gaps and stops stand for nothing.
    alignment
        The sequence with gaps; without a column for it, the residues themselves.
    column
        For messages.
    residues
        Of the chain; the alignment without gaps must be part of them, at one place.

    Returns
    -------
    numpy.ndarray
        Letters as bytes, uint8, 0 where not known.

    Raises
    ------
    ResidueError
        If they do not align letter by letter, or differ in more than half of the letters.

    Examples
    --------
    >>> bytes(germline_track("MRXS-", "MK-SV", "germline_alignment_aa", "AMKSV"))
    b'\x00MRS\x00'
    """
    if len(germline) != len(alignment):
        raise _no_germline(
            f"column '{column}' has {len(germline)} letters for {len(alignment)} aligned with it", column
        )
    pairs = np.frombuffer((alignment + germline).upper().encode("latin-1", "replace"), dtype=np.uint8)
    aligned, letters = pairs.reshape(2, -1)
    inside = ~np.isin(aligned, np.frombuffer(b"-.*", dtype=np.uint8))
    letters = np.where(np.isin(letters, np.frombuffer(STANDARD.encode(), dtype=np.uint8)), letters, 0)[inside]
    plain = aligned[inside].tobytes().decode("latin-1")
    place = residues.find(plain)
    if place < 0 or residues.find(plain, place + 1) >= 0:
        raise _no_germline(
            f"the alignment with column '{column}' is not at one place of the sequence", column
        )
    track = np.zeros(len(residues), dtype=np.uint8)
    track[place : place + len(letters)] = letters
    own = np.frombuffer(residues.encode(), dtype=np.uint8)
    known = track != 0
    if known.any() and float((own == track)[known].mean()) < _MIN_GERMLINE_IDENTITY:
        raise _no_germline(f"column '{column}' agrees in fewer than half of its letters", column)
    return track


def _no_germline(message: str, column: str) -> ResidueError:
    return ResidueError(message, reason=f"column '{column}' does not align with the sequence")


def mutated_of_germline(germline: np.ndarray, residues: str) -> np.ndarray:
    r"""Give `Mutated` codes from a germline track.

    Parameters
    ----------
    germline
        What `germline_track` gave.
    residues
        Of the chain.

    Examples
    --------
    >>> mutated_of_germline(np.frombuffer(b"M\0R", np.uint8), "MKK").tolist()
    [1, 0, 2]
    """
    own = np.frombuffer(residues.encode(), dtype=np.uint8)
    codes = np.where(own == germline, Mutated.GERMLINE, Mutated.MUTATED)
    return np.where(germline == 0, Mutated.NONE, codes).astype(np.uint8)
