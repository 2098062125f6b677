"""FASTA in which the two chains of an antibody are two records of one name."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from protlm.data.readers.policy import InputPolicy, ReadReport, UniqueIds
from protlm.errors import DataError
from protlm.types.alphabet import ResidueError, clean_residues
from protlm.types.record import Chain, Record, Role

Entry = tuple[int, str, str]
"""Line of the header, the header, the residues."""

_ROLES = {
    Role.HEAVY: ("h", "hc", "vh", "heavy", "heavychain", "heavy_chain"),
    Role.LIGHT: ("l", "lc", "vl", "light", "lightchain", "light_chain", "k", "vk", "kappa", "lambda"),
    Role.ALPHA: ("alpha", "tra"),
    Role.BETA: ("beta", "trb"),
    Role.GAMMA: ("gamma", "trg"),
    Role.DELTA: ("delta", "trd"),
}
_ROLE_OF_WORD = {word: role for role, words in _ROLES.items() for word in words}
_NUMBERED = r"seq\d+|chain_?\d+"
_WORDS = "|".join(sorted(_ROLE_OF_WORD, key=len, reverse=True))
_ENDING = re.compile(rf"^(.+)[_|.:/\-]({_WORDS}|{_NUMBERED})$", re.IGNORECASE)
_IN_DESCRIPTION = re.compile(r"\b(heavy|light|vh|vl|alpha|beta|gamma|delta)\b", re.IGNORECASE)


@dataclass(frozen=True)
class _Part:
    """One FASTA record of a pair."""

    line: int
    role: Role
    text: str


def first_word(header: str) -> str:
    r"""Give what comes before the first white space, a tab included; empty where there is nothing.

    Parameters
    ----------
    header
        Without ``>``.

    Examples
    --------
    >>> first_word("a_H\tsome words")
    'a_H'
    """
    return header.split(maxsplit=1)[0] if header.strip() else ""


def split_name(header: str) -> tuple[str, Role]:
    """Give the name that the chains of one antibody share, and which chain this is.

    Parameters
    ----------
    header
        Without ``>``. The name is what comes before white space, less an ending such as ``_H``, ``.VL``,
        ``|heavy`` or ``_seq2``; where the ending does not say which chain it is, the rest of the header
        may.

    Examples
    --------
    >>> split_name("mab1_VH some words"), split_name("8659_seq2"), split_name("mab2 heavy chain")
    (('mab1', <Role.HEAVY: 1>), ('8659', <Role.OTHER: 0>), ('mab2', <Role.HEAVY: 1>))
    """
    name, description = [*header.split(maxsplit=1), "", ""][:2]
    match = _ENDING.match(name)
    stem, word = (match[1], match[2].lower()) if match else (name, "")
    role = _ROLE_OF_WORD.get(word, Role.OTHER)
    if role is Role.OTHER and (told := _IN_DESCRIPTION.search(description)):
        role = _ROLE_OF_WORD[told[1].lower()]
    return stem, role


def join_pairs(
    entries: Iterable[Entry], path: Path, policy: InputPolicy, report: ReadReport
) -> Iterator[tuple[str, Record | DataError]]:
    """Join the records of one name, in the order of their first ones, heavy before light.

    The whole file is held in memory, as the chains of a pair may be far apart.

    Parameters
    ----------
    entries
        Of a FASTA file.
    path
        For messages.
    policy, report
        As for every reader.
    """
    parts: dict[str, list[_Part]] = {}
    for line, header, text in entries:
        name, role = split_name(header)
        parts.setdefault(name or f"{path.name.split('.')[0]}:{line}", []).append(_Part(line, role, text))
    ids = UniqueIds(policy, report)
    for name, members in parts.items():
        where = f"{path}, line {members[0].line}, record '{name}'"
        counts: Counter[str] = Counter()
        try:
            chains = _chains(members, policy, counts)
        except DataError as error:
            yield where, error
            continue
        if len(members) == 1:
            counts["one chain of its name, kept alone"] += 1
        report.change(counts, where)
        yield where, Record(ids.claim(name, where), chains)


def look_paired(headers: Iterable[str]) -> bool:
    """Tell whether half or more of the names are two chains of one name.

    Parameters
    ----------
    headers
        Without ``>``.

    Examples
    --------
    >>> look_paired(["a_H", "a_L", "b_H", "b_L"]), look_paired(["a_1", "a_2"])
    (True, False)
    """
    names = [match[1] for header in headers if (match := _ENDING.match(first_word(header)))]
    paired = sum(count for count in Counter(names).values() if count == 2)
    return paired > 0 and 2 * paired >= len(names)


def _chains(members: Sequence[_Part], policy: InputPolicy, counts: Counter[str]) -> tuple[Chain, ...]:
    if len(members) > 2:
        lines = ", ".join(str(each.line) for each in members)
        raise ResidueError(
            f"{len(members)} chains of one name (lines {lines}); which of them pair is not known",
            hint="expected two; rename them, or pass --invalid drop",
            reason="more than two chains of one name",
        )
    roles = [each.role for each in members]
    if len(members) == 2 and roles[0] is roles[1] is not Role.OTHER:
        raise ResidueError(
            f"two {roles[0].name.lower()} chains of one name (lines {members[0].line} and {members[1].line})",
            hint="expected a heavy and a light one; rename one, or pass --invalid drop",
            reason="two chains of one kind and name",
        )
    chains = [
        Chain(clean_residues(each.text, gaps=policy.gaps, counts=counts), role=each.role) for each in members
    ]
    if Role.OTHER not in roles:
        chains.sort(key=lambda chain: chain.role)
    return tuple(chains)
