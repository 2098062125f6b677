"""Variants as substitutions on a wild type: parse, check, enumerate."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from protlm.errors import DataError
from protlm.types.alphabet import STANDARD

# nine digits at most: any longer number is no position, and int() has limits of its own
_MUTATION = re.compile(r"([A-Za-z])(-?[0-9]{1,9})([A-Za-z*=])")
_HGVS = re.compile(r"(?:p\.)?\(?([A-Z][a-z]{2}|[A-Z])([0-9]{1,9})([A-Z][a-z]{2}|[A-Z*=])\)?")
_JOINTS = re.compile(r"\s*[,;/+_|&]\s*|\s+")
_MOST_SHOWN = 60
_THREE_LETTERS = "AlaCysAspGluPheGlyHisIleLysLeuMetAsnProGlnArgSerThrValTrpTyrTer"
_ONE_LETTER: dict[str, str] = {
    _THREE_LETTERS[3 * index : 3 * index + 3]: letter for index, letter in enumerate(STANDARD + "*")
}


@dataclass(frozen=True, slots=True, order=True)
class Mutation:
    """One substitution."""

    index: int
    """0-based in the wild-type chain."""
    wild_type: str
    mutant: str


@dataclass(frozen=True, slots=True)
class Variant:
    """A set of substitutions at different sites, none of them being the wild type itself; or a sequence.

    Where the length changes, `residues` is the whole chain and `mutations` is empty.
    """

    mutations: tuple[Mutation, ...]
    residues: str = ""

    @property
    def is_indel(self) -> bool:
        """Whether it has another length than the wild type."""
        return bool(self.residues)

    @property
    def is_wild_type(self) -> bool:
        """Whether nothing is changed."""
        return not self.mutations and not self.residues

    def label(self, *, offset: int = 0) -> str:
        """Print the variant in the form that `parse_variant` reads; ``WT`` for the wild type.

        One of another length is printed as its sequence.

        Parameters
        ----------
        offset
            Added to the 1-based positions.

        Examples
        --------
        >>> parse_variant("t3s : M1L", "MKT").label()
        'M1L:T3S'
        """
        parts = [f"{each.wild_type}{each.index + 1 + offset}{each.mutant}" for each in self.mutations]
        return self.residues or ":".join(parts) or "WT"

    def apply(self, wild_type: str) -> str:
        """Write the variant's sequence.

        Parameters
        ----------
        wild_type
            The sequence the variant was parsed against.

        Examples
        --------
        >>> parse_variant("M1L:T3S", "MKT").apply("MKT")
        'LKS'
        """
        if self.residues:
            return self.residues
        residues = list(wild_type)
        for mutation in self.mutations:
            residues[mutation.index] = mutation.mutant
        return "".join(residues)


def parse_variant(
    text: str | None, wild_type: str, *, offset: int = 0, propose_offset: bool = True
) -> Variant:
    """Read a variant such as ``"A42G:K50R"`` and check it against the wild type.

    Letter case and white space around a substitution do not matter. A substitution by the same
    residue (``A42A``, ``A42=``) is checked and then left out.

    Parameters
    ----------
    text
        Substitutions joined by ``:``; empty, ``WT`` or `None` is the wild type.
    wild_type
        The reference sequence.
    offset
        Subtracted from each printed position to give the 1-based position in `wild_type`.
    propose_offset
        Whether the error for a wrong letter or position searches for the offset that fits, which costs
        far more than the parsing; a reader of many variants does so once for all.

    Raises
    ------
    DataError
        If the text does not parse, a position is out of range, the wild-type letter differs or is
        none of the twenty, the new one is none of the twenty, or a site is named twice. A wrong
        letter proposes the offset that fits.

    Examples
    --------
    >>> parse_variant("H24E", "HPET", offset=23).mutations
    (Mutation(index=0, wild_type='H', mutant='E'),)
    """
    text = (text or "").strip()
    if text.upper() in ("", "WT"):
        return Variant(())
    mutations: list[Mutation] = []
    for part in text.split(":"):
        match = _MUTATION.fullmatch(part.strip())
        if match is None:
            raise DataError(
                f"cannot read {_shown(part)} in variant {_shown(text)}", hint=_form_hint(part.strip())
            )
        wild, printed, mutant = match[1].upper(), int(match[2]), match[3].upper()
        mutant = wild if mutant == "=" else mutant
        index = _check_site(text, wild, printed, wild_type, offset, propose_offset)
        if mutant not in STANDARD:
            kind = "a stop" if mutant == "*" else "not one of the twenty amino acids"
            raise DataError(
                f"variant {_shown(text)} changes position {printed} to {mutant!r}, which is {kind}",
                hint=f"substitution scores are defined for the twenty amino acids; {_DROP}",
            )
        mutations.append(Mutation(index, wild, mutant))
    if len({mutation.index for mutation in mutations}) < len(mutations):
        raise DataError(
            f"variant {_shown(text)} changes the same position twice",
            hint=f"name each position once; {_DROP}",
        )
    return Variant(tuple(sorted(each for each in mutations if each.mutant != each.wild_type)))


class VariantParser:
    """Reads many variants of one wild type, each distinct substitution once; see `parse_variant`.

    It searches for no offset that would fit.

    Parameters
    ----------
    wild_type
        The reference sequence.
    offset
        Subtracted from each printed position.

    Examples
    --------
    >>> parse = VariantParser("MKT")
    >>> [parse(text).label() for text in ("T3S:M1L", "M1L", "WT")]
    ['M1L:T3S', 'M1L', 'WT']
    """

    def __init__(self, wild_type: str, *, offset: int = 0) -> None:
        self.wild_type = wild_type
        self.offset = offset
        self._known: dict[str, Mutation | None] = {}

    def __call__(self, text: str | None) -> Variant:
        """Read one; raises what `parse_variant` raises.

        Parameters
        ----------
        text
            As for `parse_variant`.
        """
        parts = text.split(":") if text else []
        mutations = [self._known[part] if part in self._known else self._learn(part) for part in parts]
        found = [mutation for mutation in mutations if mutation is not None]
        if not found or len(found) < len(parts) or len({each.index for each in found}) < len(parts):
            return self._parse(text)
        return Variant(tuple(sorted(found, key=_index)))

    def _learn(self, part: str) -> Mutation | None:
        """Read one substitution; `None` for what is none, or is wrong, and is left to `parse_variant`."""
        try:
            mutations = self._parse(part).mutations
        except DataError:
            mutations = ()
        return self._known.setdefault(part, mutations[0] if mutations else None)

    def _parse(self, text: str | None) -> Variant:
        return parse_variant(text, self.wild_type, offset=self.offset, propose_offset=False)


_index = attrgetter("index")
_DROP = "--invalid drop leaves such rows without a score"
_OTHER_WILD_TYPE = f"does it belong to this wild type? --offset N is subtracted from each position; {_DROP}"


def _shown(text: str) -> str:
    """Quote a text, cut where it is so long that no one would read it."""
    return repr(text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…")


def _form_hint(part: str) -> str:
    """Say how to write what is probably meant."""
    expected = "expected wild-type letter, position, new letter, as in A42G; several joined by ':'"
    joined = _JOINTS.split(part[:_MOST_SHOWN])
    if len(joined) > 1 and all(_MUTATION.fullmatch(each) for each in joined) and len(part) <= _MOST_SHOWN:
        return f"write it as {':'.join(joined)}: {expected}"
    if part.isalpha() and len(part) > 3:
        return (
            "is it a whole sequence? those go into a table of their own, in a column mutated_sequence; "
            f"else {expected}; {_DROP}"
        )
    match = _HGVS.fullmatch(part)
    if match is None:
        return f"{expected}; {_DROP}"
    letters = [
        _ONE_LETTER.get(letter, letter if len(letter) == 1 else "?") for letter in (match[1], match[3])
    ]
    if "?" in letters:
        return f"{expected}; {_DROP}"
    return f"write it as {letters[0]}{match[2]}{letters[1]}: {expected}"


def _check_site(text: str, wild: str, printed: int, wild_type: str, offset: int, propose_offset: bool) -> int:
    index = printed - offset - 1
    if not 0 <= index < len(wild_type):
        first, last = 1 + offset, len(wild_type) + offset
        raise DataError(
            f"variant {_shown(text)} names position {printed}, but positions run from {first} to {last} "
            f"(wild type of {len(wild_type)} residues, offset {offset})",
            hint=_offset_hint(text, wild_type, offset) if propose_offset else _OTHER_WILD_TYPE,
        )
    if wild_type[index] != wild:
        raise DataError(
            f"variant {_shown(text)} says position {printed} is {wild}, but the wild type has "
            f"{wild_type[index]} there (1-based, offset {offset})",
            hint=_offset_hint(text, wild_type, offset) if propose_offset else _OTHER_WILD_TYPE,
        )
    if wild not in STANDARD:
        raise DataError(
            f"variant {_shown(text)} changes position {printed}, where the wild type has {wild}",
            hint=f"substitution scores are defined for the twenty amino acids; {_DROP}",
        )
    return index


def _offset_hint(text: str, wild_type: str, offset: int) -> str:
    fits = [each for each in fitting_offsets([text], wild_type) if each != offset]
    if 1 <= len(fits) <= 3:
        return "with --offset " + " or ".join(map(str, fits)) + " the letters of this variant agree"
    return _OTHER_WILD_TYPE


def variant_of_sequence(residues: str, wild_type: str) -> Variant:
    """Compare a whole sequence with the wild type, letter by letter where both are equally long.

    Parameters
    ----------
    residues
        The variant, upper case, without gaps.
    wild_type
        The reference sequence.

    Raises
    ------
    DataError
        If a changed letter is none of the twenty, on either side, or there is no letter.

    Examples
    --------
    >>> variant_of_sequence("LKS", "MKT").label()
    'M1L:T3S'
    >>> variant_of_sequence("MKKT", "MKT").is_indel
    True
    """
    if not residues:
        raise DataError("a variant has no residues", hint=f"leave the record out; {_DROP}")
    if len(residues) != len(wild_type):
        return Variant((), residues)
    mutations = [
        Mutation(index, wild, mutant)
        for index, (wild, mutant) in enumerate(zip(wild_type, residues, strict=True))
        if wild != mutant
    ]
    for each in mutations:
        if each.wild_type not in STANDARD or each.mutant not in STANDARD:
            raise DataError(
                f"a variant changes position {each.index + 1} from {each.wild_type} to {each.mutant}",
                hint=f"substitution scores are defined for the twenty amino acids; {_DROP}",
            )
    return Variant(tuple(mutations))


def fitting_offsets(texts: Iterable[str], wild_type: str) -> list[int]:
    """Find every offset under which all wild-type letters agree.

    Parameters
    ----------
    texts
        Variants as printed; parts that cannot be read do not count.
    wild_type
        The reference sequence.

    Returns
    -------
    list of int
        Offsets by distance from 0.

    Examples
    --------
    >>> fitting_offsets(["H24E", "P25A"], "HPET")
    [23]
    """
    sites = _sites(texts)
    if not sites:
        return []
    smallest = min(position for _, position in sites)
    largest = max(position for _, position in sites)
    candidates = range(largest - len(wild_type), smallest)
    fits = [
        offset
        for offset in candidates
        if all(wild_type[position - offset - 1] == wild for wild, position in sites)
    ]
    return sorted(fits, key=abs)


def likely_offset(texts: Iterable[str], wild_type: str) -> tuple[int, float] | None:
    """Find the offset under which most sites agree, for a table with some wrong rows.

    Parameters
    ----------
    texts
        Variants as printed.
    wild_type
        The reference sequence.

    Returns
    -------
    tuple of int and float, or None
        The offset nearest to 0 among the best, and the share of distinct sites that agree. `None`
        where no variant can be read.

    Examples
    --------
    >>> likely_offset(["H24E", "P25A", "E26D", "Q27A"], "HPET")
    (23, 0.75)
    """
    sites = _sites(texts)
    places = {letter: np.flatnonzero(np.array(list(wild_type)) == letter) for letter in set(wild_type)}
    votes = [position - 1 - places[letter] for letter, position in sites if letter in places]
    if not votes:
        return None
    offsets, counts = np.unique(np.concatenate(votes), return_counts=True)
    best = offsets[counts == counts.max()]
    return int(best[np.abs(best).argmin()]), float(counts.max() / len(sites))


def _sites(texts: Iterable[str]) -> set[tuple[str, int]]:
    parts = (part.strip() for text in texts for part in (text or "").split(":"))
    return {(match[1].upper(), int(match[2])) for match in map(_MUTATION.fullmatch, parts) if match}


def all_single_substitutions(wild_type: str, *, offset: int = 0) -> Iterator[tuple[str, Variant]]:
    """Give every single substitution by position, then letter, with its printed name.

    Parameters
    ----------
    wild_type
        The reference sequence. Sites that are none of the twenty amino acids are left out.
    offset
        Added to the 1-based position to give the printed one.

    Examples
    --------
    >>> names = [name for name, _ in all_single_substitutions("MK", offset=10)]
    >>> len(names), names[0], names[-1]
    (38, 'M11A', 'K12Y')
    """
    for index, wild in enumerate(wild_type):
        if wild not in STANDARD:
            continue
        for mutant in STANDARD:
            if mutant != wild:
                name = f"{wild}{index + 1 + offset}{mutant}"
                yield name, Variant((Mutation(index, wild, mutant),))
