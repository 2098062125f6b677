"""Structures to records: what is read, which antibodies are in it, and what is left out."""

import hashlib
import math
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from protlm.data.backbone_tables import fits
from protlm.data.backbones import open_backbones
from protlm.data.domains import ANTIBODY_TYPES, DomainFinder
from protlm.data.numbering_report import NumberingReport
from protlm.data.readers.policy import InputPolicy, ReadReport, UniqueIds
from protlm.data.readers.sabdab_summary import read_summary
from protlm.data.readers.structure import SUFFIXES, StructureChain
from protlm.data.readers.structure_folder import find_structures, is_broken_link, structure_name
from protlm.data.structure_antibodies import (
    Antibody,
    FoundDomain,
    antibody_of_row,
    find_domains,
    pair_domains,
    touching_chains,
)
from protlm.data.structure_entries import (
    NO_ANTIGEN,
    Entry,
    LeftOut,
    file_entries,
    set_entries,
    summary_entries,
)
from protlm.data.structure_regions import (
    REGIONS,
    Part,
    cut_to_cdrs,
    take_region,
    whole_part,
    why_without_backbone,
)
from protlm.errors import ConfigError, DataError, did_you_mean
from protlm.recipes.archives import is_archive, unpack
from protlm.runs import file_hash
from protlm.types.record import Record

NO_DOMAIN = "no variable domain of an antibody"
_CHAIN_LABELS = ("heavy_chain", "light_chain", "antigen_chains")


@dataclass(frozen=True)
class StructureSettings:
    """What is taken of each structure."""

    region: str = "complex"
    """Of `REGIONS`."""
    summary: Path | None = None
    """A SAbDab summary, which names heavy, light and antigen chains."""
    is_numbered: bool = True
    """Whether chains are looked through for variable domains."""
    max_residues: int | None = None
    """Of a record; longer ones are left out."""
    labels: tuple[str, ...] = ()
    """Columns to keep; all if none is named."""
    group: tuple[str, ...] = ()
    """Labels that together name the group of a record."""

    def check(self) -> None:
        """Refuse settings that contradict each other."""
        if self.region not in REGIONS:
            raise ConfigError(f"unknown region '{self.region}'", hint=did_you_mean(self.region, REGIONS))
        if not self.is_numbered and (self.region != "complex" or self.summary is not None):
            what = f"--region {self.region}" if self.region != "complex" else "--summary"
            raise ConfigError(
                f"{what} needs variable domains, and --receptor none looks for none",
                hint="leave --receptor out",
            )


class StructureRecords:
    """The steps from structures to records, with counts of what happened.

    Parameters
    ----------
    settings
        What to take.
    policy
        `invalid` and `duplicate_ids` count.
    """

    def __init__(self, settings: StructureSettings, policy: InputPolicy) -> None:
        self.settings = settings
        self.reading, self.numbering = ReadReport(), NumberingReport()
        self.left_out = LeftOut(self.reading, policy.invalid)
        self.remarks: dict[str, list[str]] = {}
        self._finder = DomainFinder(ANTIBODY_TYPES)
        self._ids = UniqueIds(policy, self.reading)
        self._seen: set[tuple[str, int, tuple[str, ...]]] = set()

    def open(
        self, source: Path, stack: ExitStack
    ) -> tuple[Iterator[Entry], dict[str, pa.DataType], list[dict[str, Any]]]:
        """Give the structures, the kinds of their labels, and what stands in the manifest for the input.

        Parameters
        ----------
        source
            A structure file, a folder or archive of them, or a table or JSON of backbones.
        stack
            Removes what is unpacked.
        """
        if not source.exists():
            raise DataError(
                f"no such file or folder: {source}", hint="check the path and the working directory"
            )
        summary = self.settings.summary
        if summary is not None and not summary.is_file():
            raise DataError(f"no such file: {summary}", hint="--summary takes the table of SAbDab")
        folder = source
        if is_archive(source):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            unpack(source, folder)
            self.left_out.unpacked = folder, source
        kinds: dict[str, pa.DataType] = {name: pa.string() for name in _CHAIN_LABELS}
        if not folder.is_dir() and structure_name(folder) is None:
            if summary is not None:
                raise ConfigError(
                    f"--summary names structure files, and {source} is none",
                    hint=f"give a folder with files that end in {', '.join(SUFFIXES)}",
                )
            backbones = open_backbones(source)
            own = backbones.labels.to_arrow().schema if backbones.labels.width else pa.schema([])
            labels = self._labels({name: own.field(name).type for name in own.names})
            return set_entries(backbones, source.name), kinds | labels, [_fact(source)]
        try:
            files = find_structures(folder) if folder.is_dir() else {structure_name(folder) or "": folder}
        except DataError as error:
            raise self.left_out.named(error) from None
        inputs = [_fact(source) if source.is_file() else _folder_fact(source, files.values())]
        if summary is None:
            self._labels({})
            return file_entries(files, self.left_out, self.remarks), kinds, inputs
        rows = read_summary(summary)
        if not rows:
            raise DataError(f"{summary} has no row below its header", hint="download the summary again")
        names = dict.fromkeys(name for row in rows for name in row.labels)
        labels = self._labels({name: pa.float64() if name == "resolution" else pa.string() for name in names})
        entries = summary_entries(files, rows, self.left_out, self.remarks)
        return entries, kinds | labels, [*inputs, _fact(summary)]

    def _labels(self, there: Mapping[str, pa.DataType]) -> dict[str, pa.DataType]:
        """Give the labels that are kept, and refuse names that are none."""
        for option, asked in (("--label", self.settings.labels), ("--group-by", self.settings.group)):
            for name in asked:
                if name not in there:
                    hint = did_you_mean(name, there) if there else "structure files have no labels"
                    raise DataError(f"{option} {name}: there is no such label", hint=hint)
        return {
            name: kind
            for name, kind in there.items()
            if not self.settings.labels or name in (*self.settings.labels, *self.settings.group)
        }

    def records(
        self, entries: Iterable[Entry], waiting: deque[list[Part]], on_record: Callable[[], None] | None
    ) -> Iterator[Record]:
        """Give records, and put the parts of each at the end of a queue.

        Parameters
        ----------
        entries
            As `open` gives them.
        waiting
            The queue.
        on_record
            Called after each.
        """
        for entry in entries:
            for own_name, parts, labels in self._made(entry):
                if not self._is_fit(entry, own_name, parts):
                    continue
                if self._is_repeated(entry, parts):
                    self.left_out.drop("an antibody that an earlier row of the summary names", entry.where)
                    continue
                name = self._ids.claim(own_name, entry.where)
                kept = self._kept(entry.labels) | labels
                groups = [_group_part(entry.labels.get(each)) for each in self.settings.group]
                self._count(name, parts)
                waiting.append(parts)
                self.reading.num_read += 1
                if on_record is not None:
                    on_record()
                chains = tuple(part.chain for part in parts)
                yield Record(name, chains, kept, "|".join(groups) if any(groups) else "")

    def _is_repeated(self, entry: Entry, parts: Sequence[Part]) -> bool:
        """Tell whether a row has the chains of an earlier one, however it writes the pdb and orders them."""
        if entry.row is None:
            return False
        key = entry.row.pdb.lower(), entry.row.model, tuple(sorted(part.name for part in parts))
        is_repeated = key in self._seen
        self._seen.add(key)
        return is_repeated

    def _kept(self, labels: Mapping[str, Any]) -> dict[str, Any]:
        names = (*self.settings.labels, *self.settings.group)
        return {
            name: value
            for name, value in labels.items()
            if value is not None and (not self.settings.labels or name in names)
        }

    def _made(self, entry: Entry) -> Iterator[tuple[str, list[Part], dict[str, str]]]:
        """Give the name, the parts and the labels of each record of a structure."""
        region = self.settings.region
        if not self.settings.is_numbered:
            yield entry.name, [whole_part(chain) for chain in entry.chains], {}
            return
        chains = entry.chains
        if entry.row is not None:
            chains = tuple(each for each in chains if each.chain_id in (entry.row.heavy, entry.row.light))
        domains = find_domains(chains, self._finder)
        self._count_domains(entry.name, domains)
        if entry.row is not None:
            by_chain = {chain.chain_id: own for chain, own in zip(chains, domains, strict=True)}
            found = antibody_of_row(entry.row, by_chain)
            if isinstance(found, str):
                self.left_out.drop(found, entry.where)
                return
            yield from self._of_antibody(entry, entry.name, found, self._named_antigens(entry, found))
            return
        antibodies = pair_domains(domains)
        if not antibodies and region != "complex":
            self.left_out.drop(NO_DOMAIN, entry.where)
        elif not antibodies:
            yield entry.name, [whole_part(chain) for chain in chains], {}
        others = [chain for chain, own in zip(chains, domains, strict=True) if not own]
        touched: set[str] = set()
        names: Counter[str] = Counter()
        for antibody in antibodies:
            names[antibody.name] += 1
            name = f"{entry.name}_{antibody.name}" if len(antibodies) > 1 else entry.name
            if (again := names[antibody.name]) > 1:  # several of one kind in a chain
                name = f"{name}_{again}"
            antigens = touching_chains(antibody, others) if region == "complex" else []
            touched |= {chain.chain_id for chain in antigens}
            yield from self._of_antibody(entry, name, antibody, antigens)
        if antibodies and region == "complex":
            for chain in others:
                if chain.chain_id not in touched:
                    self.left_out.report.drop(
                        "a chain that touches no CDR, beside an antibody", f"{entry.where}, {chain.chain_id}"
                    )

    def _named_antigens(self, entry: Entry, antibody: Antibody) -> list[StructureChain] | None:
        """Give the antigens of a row; nothing where one is not there."""
        if self.settings.region != "complex" or entry.row is None:
            return []
        there = {chain.chain_id: chain for chain in entry.chains}
        own = {each.chain.chain_id for each in antibody.domains}
        if entry.row.other_antigens:
            rule = "antigen that is no protein, not in the record"
            names = ", ".join(entry.row.other_antigens)
            self.reading.changed[rule] += 1
            self.reading.examples.setdefault(rule, [f"{entry.where}: {names}"])
        wanted = [each for each in entry.row.antigens if each not in own]
        if absent := [each for each in wanted if each not in there]:
            self.left_out.drop(
                NO_ANTIGEN,
                f"{entry.where}: no protein chain '{absent[0]}' among {', '.join(there)}",
            )
            return None
        return [there[each] for each in wanted]

    def _of_antibody(
        self, entry: Entry, name: str, antibody: Antibody, antigens: Sequence[StructureChain] | None
    ) -> Iterator[tuple[str, list[Part], dict[str, str]]]:
        if antigens is None:
            return
        region = self.settings.region
        parts = take_region(antibody, antigens, region)
        if isinstance(parts, str):
            self.left_out.drop(parts, f"{entry.where}, {name}")
            return
        if entry.row is not None:
            shown = (entry.row.heavy, entry.row.light)
            found = [each.chain.chain_id for each in antibody.domains]
            if len(found) == 2 and found != list(shown):
                rule = "heavy and light chain named the wrong way round in the summary, put right"
                self.reading.changed[rule] += 1
                self.reading.examples.setdefault(rule, [entry.where])
            if antigens:
                name = f"{name}_{','.join(chain.chain_id for chain in antigens)}"
        labels = {
            "heavy_chain": _chain_id(antibody.heavy),
            "light_chain": _chain_id(antibody.light),
            "antigen_chains": ",".join(chain.chain_id for chain in antigens),
        }
        if "antigen_chains" in entry.labels and not antigens:
            del labels["antigen_chains"]
        yield name, parts, {key: value for key, value in labels.items() if value}

    def _is_fit(self, entry: Entry, name: str, parts: Sequence[Part]) -> bool:
        where = f"{entry.where}, {name}" if name not in entry.where else entry.where
        size = sum(len(part.chain) for part in parts)
        limit = self.settings.max_residues
        if limit is not None and size > limit:
            self.left_out.drop(f"longer than --max-residues {limit:,}", f"{where}: {size:,} residues")
        elif why := why_without_backbone(parts):
            self.left_out.drop(why[1], f"{where}, chain {why[0]}")
        elif not fits(np.concatenate([part.backbone for part in parts])):
            self.left_out.drop("an atom over 327.67 Å from the centre", where)
        elif self.settings.region == "cdrs" and not cut_to_cdrs(parts):
            self.left_out.drop("no CDR", where)
        else:
            return True
        return False

    def _count_domains(self, name: str, domains: Sequence[Sequence[FoundDomain]]) -> None:
        for own in domains:
            if len(own) > 1:
                loci = "+".join(each.domain.locus for each in own)
                self.numbering.domains[loci] += 1
                self.numbering.remember(loci, name)
                self.numbering.num_linker_residues += len(own[0].chain) - sum(
                    len(each.domain.positions) for each in own
                )

    def _count(self, name: str, parts: Sequence[Part]) -> None:
        for part in parts:
            if part.chain.locus:
                self.numbering.numbered[part.chain.locus] += 1
        known = np.concatenate([part.backbone for part in parts])
        if gone := int((~np.isfinite(known[:, :3]).all(axis=(1, 2))).sum()):
            rule = "residue without N, CA or C, kept in the sequence without a place"
            self.reading.changed[rule] += gone
            self.reading.examples.setdefault(rule, [name])

    def notes(self) -> list[str]:
        """Say where the reader's remarks are."""
        if not self.remarks:
            return []
        name, said = next(iter(self.remarks.items()))
        return [
            f"remarks on {len(self.remarks):,} files are in the manifest (first: {name}: {said[0]})",
        ]


def _group_part(value: Any) -> str:
    """Give a label as part of the name of a group; nothing where there is none, but 0 is a value."""
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)


def _chain_id(found: FoundDomain | None) -> str:
    return found.chain.chain_id if found is not None else ""


def _fact(path: Path) -> dict[str, Any]:
    return {"name": path.name, "sha256": file_hash(path), "bytes": path.stat().st_size}


def _folder_fact(folder: Path, files: Iterable[Path]) -> dict[str, Any]:
    """Give one hash for the files of a folder, by name and content."""
    digest, size, count = hashlib.sha256(), 0, 0
    for path in files:
        if is_broken_link(path):
            continue
        digest.update(f"{path.relative_to(folder)} {file_hash(path)};".encode())
        size, count = size + path.stat().st_size, count + 1
    return {"name": folder.name, "files": count, "sha256": digest.hexdigest(), "bytes": size}
