"""The reference that variants are scored against: a record, and which of its chains is mutated."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from protlm.data.numbering import number_chains
from protlm.data.readers import InputPolicy, ReadReport, iterate_records
from protlm.errors import DataError, did_you_mean
from protlm.types.alphabet import STANDARD, clean_residues
from protlm.types.record import Chain, Record, Role

_MOST_CHAINS = 64


@dataclass(frozen=True)
class WildType:
    """A record with one chain that varies; the others are its context."""

    record: Record
    chain: int = 0
    """0-based."""

    @classmethod
    def of(cls, record: Record, chain: str | None = None) -> "WildType":
        """Take a record as the reference.

        Parameters
        ----------
        record
            Any record.
        chain
            Name of the chain that varies, as in `Record.chain_names`; the first by default.
        """
        names = list(record.chain_names)
        if chain is not None and chain not in names:
            raise DataError(
                f"'{record.id}' has no chain '{chain}'", hint=f"--chain is one of {', '.join(names)}"
            )
        return cls(record, 0 if chain is None else names.index(chain))

    @property
    def residues(self) -> str:
        """Of the chain that varies."""
        return self.record.chains[self.chain].residues

    def describe(self) -> str:
        """Say what the reference is, in one line."""
        record, name = self.record, self.record.chain_names[self.chain]
        line = f"wild type: '{record.id}', {len(self.residues):,} residues"
        others = len(record.chains) - 1
        if others:
            line += f" of its {name} chain; {others:,} other chain{'s are' if others > 1 else ' is'} context"
        odd = sum(letter not in STANDARD for letter in self.residues)
        return line + (f"; {odd:,} sites are none of the twenty and get no score" if odd else "")


def read_wild_type(
    source: str | Path,
    *,
    chain: str | None = None,
    gaps: Literal["error", "remove"] = "error",
    report: ReadReport | None = None,
) -> WildType:
    """Read the reference from a file, or take it as a sequence.

    Parameters
    ----------
    source
        A path that exists wins; else residues. A file holds one record, such as a pair, or, if `chain` names
        one of them, the chains of a complex as a record each.
    chain
        Which chain varies: its id in a FASTA file of several, or ``heavy``, ``light``, ``chain1`` …; the
        first by default.
    gaps
        What to do with ``-`` and ``.``.
    report
        Filled with what was changed.

    Raises
    ------
    DataError
        If the file has several records and `chain` is not given, there is no such chain, or the text is
        neither a file nor residues.
    """
    report = report if report is not None else ReadReport()
    text = str(source).strip()
    if not text:
        raise DataError("the wild type is empty", hint="give a FASTA file or a sequence")
    is_file = os.path.exists(text)  # noqa: PTH110 - Path.exists fails on a sequence too long for a name
    looks_like_a_path = any(mark in text for mark in "/\\~") or Path(text).suffix[1:].isalnum()
    if looks_like_a_path and not is_file:
        raise DataError(f"no such file: {text}", hint="check the path, or pass the sequence itself")
    try:
        if is_file:
            return _of_file(Path(text), chain, InputPolicy(gaps=gaps), report)
        only = Record("wild_type", (Chain(clean_residues(text, gaps=gaps, counts=report.changed)),))
        return WildType.of(only, chain)
    except DataError as error:
        shown = text if len(text) <= 40 else f"{text[:40]}…"
        what = "wild type" if is_file else f"'{shown}' is no file, and as a sequence"
        hint = "check the path, or correct the sequence"
        if is_file or any(flag in (error.hint or "") for flag in ("--gaps", "--chain")):
            hint = _possible(error.hint)
        raise DataError(f"{what}: {error.message}", hint=hint) from None


def _possible(hint: str | None) -> str | None:
    """Say what can be done here where a hint names options that only readers of many records have."""
    if "--invalid" in (hint or ""):
        return "correct the wild type"
    if any(flag in (hint or "") for flag in ("--sequence", "--heavy", "--duplicate-ids", "--layout")):
        return "give a FASTA file with one record, or pass the sequence itself"
    return hint


def _of_file(path: Path, chain: str | None, policy: InputPolicy, report: ReadReport) -> WildType:
    records = []
    for record in iterate_records(path, policy=policy, report=report):
        records.append(record)
        if len(records) > (_MOST_CHAINS if chain else 1):
            break
    if len(records) == 1:
        return WildType.of(_with_roles(records[0]), chain)
    if chain is None:
        raise DataError(
            f"{path} has several records ('{records[0].id}', '{records[1].id}' …), "
            "but --wild-type needs exactly one",
            hint="pass the one you mean as a sequence or in a file of its own; or, if they are the chains of "
            f"one complex, pass --chain {records[0].id} to mutate that one in the context of the others",
        )
    return _complex(path, records, chain)


def _complex(path: Path, records: Sequence[Record], chain: str) -> WildType:
    """Make one record of several of one chain each; heavy goes before light."""
    ids = [record.id for record in records]
    if len(records) > _MOST_CHAINS or any(len(record.chains) > 1 for record in records):
        raise DataError(
            f"{path} is no complex: it has over {_MOST_CHAINS} records, or pairs among them",
            hint="give a file with the chains of one complex, a record each",
        )
    if chain not in ids:
        raise DataError(f"{path} has no chain '{chain}'", hint=did_you_mean(chain, ids))
    whole = _with_roles(Record(path.stem, tuple(record.chains[0] for record in records)))
    place = ids.index(chain)
    if [each.role for each in whole.chains] == [Role.LIGHT, Role.HEAVY]:
        return WildType(replace(whole, chains=whole.chains[::-1]), 1 - place)
    return WildType(whole, place)


def _with_roles(record: Record) -> Record:
    """Say which chains of several are heavy and light, where immunum finds it and nothing else does."""
    if len(record.chains) == 1 or any(chain.role is not Role.OTHER for chain in record.chains):
        return record
    numbered = number_chains(record.chains)
    roles = [each.role if isinstance(each, Chain) else Role.OTHER for each in numbered]
    chains = tuple(replace(chain, role=role) for chain, role in zip(record.chains, roles, strict=True))
    return replace(record, chains=chains)
