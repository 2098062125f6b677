"""prepare with a wild type: an alignment of its family to a corpus."""

from dataclasses import dataclass
from pathlib import Path

from protlm.data.corpus import Corpus, CorpusWriter
from protlm.data.family import FamilyRecords, RowsAs, read_family
from protlm.data.readers import check_file
from protlm.errors import DataError
from protlm.recipes.outputs import claim_folder
from protlm.recipes.prepare import HELD_OUT, TRAIN
from protlm.runs import file_hash
from protlm.scoring.wild_type import read_wild_type


@dataclass(frozen=True)
class PreparedFamily:
    """A corpus of homologues and what happened on the way."""

    corpus: Corpus
    family: FamilyRecords

    def lines(self) -> list[str]:
        """Say how it went, a line each."""
        return self.family.lines()


def prepare_family(
    source: Path | str,
    out: Path | str,
    *,
    wild_type: str,
    rows_as: RowsAs = "aligned",
    query: str | None = None,
    offset: int | None = None,
    min_coverage: float = 0.5,
    identity: float | None = 0.8,
    holdout: float = 0.0,
    seed: int = 0,
    force: bool = False,
) -> PreparedFamily:
    """Write the homologues of a wild type as a corpus, with weights and a held-out part.

    Parameters
    ----------
    source
        A2M, A3M, aligned FASTA or Stockholm.
    out
        Corpus folder to make.
    wild_type
        A sequence, or a file with one record.
    rows_as, query, offset, min_coverage, identity
        As for `protlm.data.family.read_family`.
    holdout
        Share of the effective sequences for the subset ``holdout``; the rest goes to ``train``.
    seed
        Of the split.
    force
        Replace a corpus that is there.

    Raises
    ------
    DataError
        If the input is wrong or the folder is taken.
    """
    if not 0 <= holdout <= 0.5:
        raise DataError(f"--holdout {holdout} is not a share", hint="expected a number from 0 to 0.5")
    source = check_file(source)
    claim_folder(Path(out))
    family = read_family(
        source,
        wild_type=read_wild_type(wild_type).residues,
        rows_as=rows_as,
        query=query,
        offset=offset,
        min_coverage=min_coverage,
        identity=identity,
        holdout=holdout,
        seed=seed,
    )
    if holdout and not family.is_held_out.any():
        raise DataError(
            f"{source}: {family.num_free} rows have no other row so similar, too few to hold any out",
            hint="leave --holdout out, or raise --identity",
        )
    with CorpusWriter(out, force=force) as writer:
        for record, is_held_out in family:
            writer.add(record, subset=(HELD_OUT if is_held_out else TRAIN) if holdout else "")
        manifest = {
            "inputs": [{"name": source.name, "sha256": file_hash(source), "bytes": source.stat().st_size}],
            "family": {**family.facts(), "identity": identity, "min_coverage": min_coverage},
        }
        if holdout:
            manifest["split"] = {"by": "rows without a similar one", "holdout": holdout, "seed": seed}
        return PreparedFamily(writer.close(manifest), family)
