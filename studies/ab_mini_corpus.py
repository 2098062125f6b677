"""The corpus of `protlm-ab-mini`: antibody chains and pairs whose sequences are CC BY, CC0 or MIT.

    python studies/ab_mini_corpus.py DATA_FOLDER CORPUS

DATA_FOLDER holds the files named in `SOURCES` (the developers' shared data). Each chain is numbered by
immunum; a record without a numbered variable domain is left out and counted. The same residues are kept
once over all sources. Groups are the heavy CDR3, or that of the light chain where there is no heavy one;
one group in twenty is held out, in every source alike.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from protlm.data.corpus import CorpusWriter
from protlm.data.groups import cdr3_of
from protlm.data.numbering import number_records
from protlm.data.readers import ColumnNames, InputPolicy, iterate_records
from protlm.data.splits import is_held_out
from protlm.types.record import Record, Role

HELD_OUT = 0.05


@dataclass(frozen=True)
class Source:
    """One file, its columns, and the licence and attribution of its sequences."""

    path: str
    licence: str
    attribution: str
    columns: ColumnNames


def _pairs(heavy: str, light: str) -> ColumnNames:
    return ColumnNames(heavy=heavy, light=light)


def _single(column: str = "sequence") -> ColumnNames:
    return ColumnNames(sequence=column)


SOURCES = {
    "oas": Source(
        "antibody_pretrain/oas_heavy_regions.tsv.gz",
        "CC BY 4.0",
        "Observed Antibody Space (Olsen et al. 2022): Bernat et al. 2019, Briney et al. 2019",
        _single(),
    ),
    "srr": Source("antibody_pretrain/srr_hkl_10k.tsv.gz", "MIT", "ENPICOM immunum, test fixtures", _single()),
    **{
        f"pdb_{chain}": Source(
            f"antibody_numbering/imgt_{chain}.tsv.gz", "MIT", "ENPICOM immunum, validation set", _single()
        )
        for chain in "HKL"
    },
    "sabdab": Source(
        "antibody_pairs/sabdab_fv_pairs.tsv.gz",
        "CC BY 4.0",
        "SAbDab (Dunbar et al. 2014), table of DASM (Matsen group, MIT)",
        _pairs("heavy_seq", "light_seq"),
    ),
    "thera": Source(
        "antibody_pairs/therasabdab_2025-02.tsv.gz",
        "CC BY 4.0",
        "Thera-SAbDab (Raybould et al. 2020)",
        _pairs("HC", "LC"),
    ),
    "tenx": Source(
        "antibody_pairs/tenx_pbmc_bcr_pairs.tsv.gz",
        "CC BY 4.0",
        "10x Genomics public data sets",
        _pairs("variable_domain_heavy", "variable_domain_light"),
    ),
    "catnap_heavy": Source(
        "antibody_specificity/catnap_hiv_heavy_airr.tsv.gz",
        "MIT",
        "SADIE fixtures; LANL CATNAP (Yoon et al. 2015)",
        _single("vdj_aa"),
    ),
    "catnap_light": Source(
        "antibody_specificity/catnap_hiv_light_airr.tsv.gz",
        "MIT",
        "SADIE fixtures; LANL CATNAP (Yoon et al. 2015)",
        _single("vdj_aa"),
    ),
    "cov": Source(
        "antibody_specificity/cov_abdab_2022-03-04.tsv.gz",
        "CC BY 4.0",
        "CoV-AbDab (Raybould et al. 2021)",
        _pairs("VH or VHH", "VL"),
    ),
}


def records_of(folder: Path, name: str) -> Iterator[Record]:
    """Stream the numbered records of one source, ids prefixed by its name."""
    source = SOURCES[name]
    policy = InputPolicy(invalid="drop", gaps="remove", duplicate_ids="rename")
    stream = iterate_records(folder / source.path, columns=source.columns, policy=policy)
    for record in number_records(stream, receptor="antibody", unnumbered="drop"):
        yield replace(record, id=f"{name}:{record.id}", group=group_of(record))


def group_of(record: Record) -> str:
    """Give the CDR3 of the heavy chain, else of the first chain."""
    return cdr3_of(min(record.chains, key=lambda chain: chain.role != Role.HEAVY))


def main(folder: Path, out: Path) -> None:
    """Write the corpus and say what went into it."""
    seen: set[tuple[str, ...]] = set()
    counts: Counter[tuple[str, str]] = Counter()
    with CorpusWriter(out) as writer:
        for name in SOURCES:
            for record in records_of(folder, name):
                residues = tuple(chain.residues for chain in record.chains)
                if residues in seen:
                    counts[name, "seen before"] += 1
                    continue
                seen.add(residues)
                subset = "holdout" if is_held_out(record, HELD_OUT) else "train"
                writer.add(record, subset=subset)
                counts[name, subset] += 1
        facts = {
            name: {"licence": each.licence, "attribution": each.attribution} for name, each in SOURCES.items()
        }
        writer.close({"sources": facts, "counts": {"|".join(key): n for key, n in counts.items()}})
    for name in SOURCES:
        numbers = ", ".join(f"{n:,} {what}" for (source, what), n in counts.items() if source == name)
        print(f"{name:14} {SOURCES[name].licence:10} {numbers}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
