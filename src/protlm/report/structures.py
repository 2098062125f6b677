"""Structures that score tables are shown on: which file, which chain, and how well it fits."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from protlm.data.readers.structure import (
    MIN_IDENTITY,
    ChainFit,
    Structure,
    StructureChain,
    fit_on_chain,
    read_structure,
)
from protlm.errors import ConfigError, DataError, did_you_mean
from protlm.report.figures.structure import ChainTrace
from protlm.report.sources import ScoreSource

_MOST_TOLD = 8
MAX_OTHER_RESIDUES = 4_000
"""Of further chains that are drawn, whole chains only."""


@dataclass(frozen=True)
class StructureRequest:
    """A structure as asked for on the command line."""

    path: Path
    chain_id: str | None = None
    """The author's; `None` for the chain that fits best."""
    label: str | None = None
    """Of the score table; `None` for every table that fits."""


@dataclass
class TableStructures:
    """What a score table is shown on."""

    chains: list["PlacedChain"] = field(default_factory=list)
    unfit: list[str] = field(default_factory=list)
    """Names of structures that have no such chain, but that of another table."""


@dataclass(frozen=True)
class PlacedChain:
    """A chain of a structure that has a wild type."""

    structure: Structure
    chain: StructureChain
    fit: ChainFit
    twins: tuple[str, ...]
    """Ids of further chains that fit as well."""

    @property
    def name(self) -> str:
        """Of structure and chain."""
        return f"{self.structure.name}, chain {_id(self.chain)}"

    @property
    def others(self) -> list[StructureChain]:
        """Further chains, those of the most residues that can still be drawn left out."""
        kept, left = [], MAX_OTHER_RESIDUES
        for chain in self.structure.chains:
            if chain is not self.chain and (size := int(chain.is_resolved.sum())) <= left:
                kept.append(chain)
                left -= size
        return kept


def parse_request(text: str, labels: Sequence[str]) -> StructureRequest:
    """Read ``[TABLE=]FILE[:CHAIN]``.

    Parameters
    ----------
    text
        As typed. What is the name of a file as a whole is that file.
    labels
        Names of the score tables.

    Raises
    ------
    ConfigError
        If there is no such score table.

    Examples
    --------
    >>> parse_request("vh=1abc.pdb:H", ["vh", "vl"])
    StructureRequest(path=PosixPath('1abc.pdb'), chain_id='H', label='vh')
    """
    label, mark, rest = text.partition("=")
    if not mark or _is_file(text):
        label, rest = None, text
    elif label not in labels:
        raise ConfigError(
            f"--structure {text}: no score table here is called '{label}'", hint=did_you_mean(label, labels)
        )
    path, mark, chain_id = rest.rpartition(":")
    if not mark or Path(rest).exists():
        return StructureRequest(Path(rest), None, label)
    return StructureRequest(Path(path), chain_id, label)


def _is_file(text: str) -> bool:
    """Whether this is a file, with a chain behind it or not."""
    return Path(text).exists() or Path(text.rpartition(":")[0]).is_file()


def place_structures(texts: Sequence[str], tables: Sequence[ScoreSource]) -> dict[str, TableStructures]:
    """Find the chain of each structure that each score table is about.

    Parameters
    ----------
    texts
        ``[TABLE=]FILE[:CHAIN]`` each. Without a table, all tables that fit get it, at least one.
    tables
        Score tables.

    Returns
    -------
    dict
        By label of the table.

    Raises
    ------
    ConfigError
        If there is no score table, or not the one that is named.
    DataError
        If a file or chain is not there, or no table fits.
    """
    if texts and not tables:
        raise ConfigError(
            f"--structure {texts[0]}: there is no score table to show on it",
            hint="give a table written by protlm score, as in report scan.parquet --structure 1abc.pdb",
        )
    placed = {table.label: TableStructures() for table in tables}
    for text in texts:
        request = parse_request(text, list(placed))
        structure = read_structure(request.path)
        asked = _asked(request, structure)
        wanted = [table for table in tables if request.label in (None, table.label)]
        misfits = []
        for table in wanted:
            found = _place(request.path, structure, asked, table)
            if isinstance(found, PlacedChain):
                placed[table.label].chains.append(found)
            else:
                misfits.append(found)
                placed[table.label].unfit.append(structure.name)
        if len(misfits) == len(wanted):
            raise misfits[0]
    return placed


def chain_trace(chain: StructureChain) -> ChainTrace:
    """Take the Cα atoms of what is resolved.

    Parameters
    ----------
    chain
        Any chain.
    """
    atoms = chain.backbone[:, 1]
    places = np.flatnonzero(~np.isnan(atoms).any(axis=1))
    return ChainTrace(
        _id(chain),
        "".join(chain.residues[place] for place in places),
        tuple(chain.residue_ids[place] for place in places),
        places,
        atoms[places].astype(np.float64),
    )


def _id(chain: StructureChain) -> str:
    return chain.chain_id or "(blank)"


def _asked(request: StructureRequest, structure: Structure) -> list[StructureChain]:
    if request.chain_id is None:
        return list(structure.chains)
    known = [chain.chain_id for chain in structure.chains]
    if request.chain_id not in known:
        raise DataError(
            f"{request.path} has no protein chain '{request.chain_id}'",
            hint=did_you_mean(request.chain_id, known),
        )
    return [structure.chains[known.index(request.chain_id)]]


def _place(
    path: Path, structure: Structure, asked: Sequence[StructureChain], table: ScoreSource
) -> PlacedChain | DataError:
    wild_type = table.facts["wild_type"]["residues"]
    by_residues = {chain.residues: fit_on_chain(chain, wild_type) for chain in asked}
    fits = [(chain, by_residues[chain.residues]) for chain in asked]
    fits.sort(key=lambda each: (each[1].is_enough, each[1].num_equal), reverse=True)
    (chain, best), *others = fits
    if not best.is_enough:
        return _misfit(path, table, fits)
    if not (~np.isnan(chain.backbone[best.places[best.places >= 0], 1])).any():
        raise DataError(
            f"{path}, chain '{chain.chain_id}': no residue of the wild type of {table.label} has a Cα atom",
            hint="give a file with the atoms of the backbone, or another chain",
        )
    twins = [_id(other) for other, fit in others if fit.is_enough and fit.num_equal == best.num_equal]
    return PlacedChain(structure, chain, best, tuple(twins))


def _misfit(path: Path, table: ScoreSource, fits: Sequence[tuple[StructureChain, ChainFit]]) -> DataError:
    what = f"the wild type of {table.label} ({len(table.facts['wild_type']['residues']):,} residues)"
    told = [
        f"{_id(chain)} of {len(chain):,} residues ({fit.share}: {fit.num_equal:,} of "
        f"{fit.num_aligned:,} aligned ones equal)"
        for chain, fit in fits[:_MOST_TOLD]
    ]
    more = f", and {len(fits) - _MOST_TOLD} more" if len(fits) > _MOST_TOLD else ""
    return DataError(
        f"{path}: no chain fits {what}; the best: {', '.join(told)}{more}",
        hint=f"{fits[0][1].num_needed} residues must align and {MIN_IDENTITY:.0%} of them be equal; is it "
        "the right file, and the right chain behind the colon?",
    )
