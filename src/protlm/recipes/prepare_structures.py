"""prepare with structures: backbones beside the records of a corpus, row for row."""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from protlm.data.backbone_tables import BackboneWriter
from protlm.data.backbones import BACKBONES
from protlm.data.corpus import Corpus, CorpusWriter
from protlm.data.germline_report import GermlineReport
from protlm.data.groups import with_default_groups
from protlm.data.numbering_report import NumberingReport
from protlm.data.readers.policy import InputPolicy, ReadReport
from protlm.data.splits import is_held_out
from protlm.data.structure_regions import (
    Part,
    cut_to_cdrs,
    join_parts,
)
from protlm.errors import ConfigError
from protlm.recipes.outputs import claim_folder
from protlm.recipes.prepare import HELD_OUT, NO_GERMLINE, TRAIN, germline_step, nothing_left
from protlm.recipes.structure_records import StructureRecords, StructureSettings
from protlm.runs import file_hash
from protlm.types.record import Record


@dataclass
class PreparedStructures:
    """A corpus with backbones and what happened on the way."""

    corpus: Corpus
    reading: ReadReport
    numbering: NumberingReport
    germline: GermlineReport | None
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Say how it went, a line each."""
        germline = self.germline.lines() if self.germline is not None and self.numbering.numbered else []
        return [*self.reading.lines(), *self.numbering.lines(), *germline, *self.notes]


def prepare_structures(
    source: Path | str,
    out: Path | str,
    *,
    settings: StructureSettings | None = None,
    policy: InputPolicy | None = None,
    germline: Sequence[str] = ("auto",),
    holdout: float = 0.0,
    seed: int = 0,
    force: bool = False,
    on_record: Callable[[], None] | None = None,
) -> PreparedStructures:
    """Read structures and write a corpus with ``backbones.parquet`` beside its tables.

    Row i of that file is record i of the main table: the same id, and the same residues, chain by chain, in
    the same order. Antibody chains come first, heavy before light, then antigens. Without a summary, domains
    found by numbering are paired by the distance of their second cysteines, and chains that touch a CDR are
    antigen. Files without an antibody are one record of all their chains.

    Parameters
    ----------
    source
        A structure file, a folder or archive of them, or a table or JSON that `open_backbones` reads.
    out
        Corpus folder to make.
    settings
        What to take.
    policy
        `invalid` and `duplicate_ids` count.
    germline, holdout, seed, force, on_record
        As for `protlm.recipes.prepare.prepare`.

    Raises
    ------
    DataError
        If the input is wrong, the folder is taken, or nothing is left.
    ConfigError
        If the settings contradict each other.
    """
    settings, policy, source, out = (
        settings or StructureSettings(),
        policy or InputPolicy(invalid="drop"),
        Path(source),
        Path(out),
    )
    settings.check()
    if not 0 <= holdout < 1:
        raise ConfigError(
            f"--holdout {holdout} is not a share", hint="expected a number from 0 up to below 1"
        )
    claim_folder(out)
    making = StructureRecords(settings, policy)
    genes = GermlineReport()
    assign = germline_step(germline if settings.is_numbered else (NO_GERMLINE,), genes)
    with ExitStack() as stack:
        writer = stack.enter_context(CorpusWriter(out, force=force))
        entries, label_types, inputs = making.open(source, stack)
        beside = stack.enter_context(BackboneWriter(writer.folder / BACKBONES, label_types))
        waiting: deque[list[Part]] = deque()
        for numbered in with_default_groups(assign(making.records(entries, waiting, on_record))):
            record, parts = _together(numbered, waiting.popleft(), settings.region)
            subset = ""
            if holdout:
                subset = HELD_OUT if is_held_out(record, holdout, seed=seed) else TRAIN
            writer.add(record, subset=subset)
            beside.add(join_parts(record.id, parts), record.labels)
        if not beside.num_rows:
            raise nothing_left(source, making.reading)
        beside.close()
        path = writer.folder / BACKBONES
        manifest: dict[str, Any] = {
            "inputs": inputs,
            "changed": dict(making.reading.changed),
            "dropped": dict(making.reading.dropped),
            "examples": making.reading.examples,
            "structures": {"region": settings.region, "remarks": making.remarks},
            "backbones": {"file": BACKBONES, "rows": beside.num_rows, "sha256": file_hash(path)},
            "numbering": making.numbering.facts(),
            "germline": genes.facts(),
        }
        if holdout:
            manifest["split"] = {"by": "group", "holdout": holdout, "seed": seed}
        corpus = writer.close(manifest)
    return PreparedStructures(corpus, making.reading, making.numbering, genes, making.notes())


def _together(record: Record, parts: list[Part], region: str) -> tuple[Record, list[Part]]:
    """Put the chains, which have germline tracks now, to their coordinates; CDRs are cut here."""
    letters = [part.chain.residues for part in parts]
    if [chain.residues for chain in record.chains] != letters:
        raise AssertionError(f"record '{record.id}' and its coordinates are out of step")
    parts = [replace(part, chain=chain) for part, chain in zip(parts, record.chains, strict=True)]
    if region == "cdrs":
        parts = cut_to_cdrs(parts)
        record = replace(record, chains=tuple(part.chain for part in parts))
    return record, parts
