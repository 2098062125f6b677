"""Layouts of tables that are met often: which columns hold what, and by which columns each is recognised."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from protlm.errors import DataError, did_you_mean
from protlm.types.record import Role

Names = tuple[str, ...]

REGION_KINDS = ("fwr1", "cdr1", "fwr2", "cdr2", "fwr3", "cdr3", "fwr4")
"""Kinds of columns that hold the residues of one region, in the order of `protlm.types.regions.REGIONS`."""

_AIRR_STEMS: Mapping[str, Names] = {
    "v_call": ("v_call", "v_gene"),
    "d_call": ("d_call", "d_gene"),
    "j_call": ("j_call", "j_gene"),
    "locus": ("locus",),
    **{kind: (f"{kind}_aa",) for kind in REGION_KINDS},
    "junction": ("junction_aa",),
    "cdr_mask": ("cdr_mask_aa",),
    "segment": ("gene_segment_mask_aa",),
    "nongermline": ("nongermline_mask_aa",),
    "germline": ("germline_alignment_aa",),
    "alignment": ("sequence_alignment_aa",),
}
"""Names by what a column holds, where names without ``_aa`` hold nucleotides."""

_PLAIN_STEMS: Mapping[str, Names] = {
    **_AIRR_STEMS,
    **{
        kind: (f"{kind}_aa", kind, f"{kind.replace('fwr', 'fr')}_aa", kind.replace("fwr", "fr"))
        for kind in REGION_KINDS
    },
    "cdr_mask": ("cdr_mask_aa", "cdr_mask"),
}
"""The same for tables that hold no nucleotides."""

_JOINED_STEMS: Mapping[str, Names] = {
    kind: _PLAIN_STEMS[kind] for kind in ("cdr_mask", "segment", "nongermline")
}
"""Those with a letter per residue, which can be parted at the marks as the residues are."""


@dataclass(frozen=True)
class ChainNames:
    """What the columns of one chain are called."""

    role: Role
    residues: Names
    """The first of these that a table has is read, in any letter case."""
    ends: Names = ("",)
    """What the names of the chain's other columns end in."""
    special: Mapping[str, Names] = field(default_factory=dict)
    """Names by kind that go before those of the layout."""


@dataclass(frozen=True)
class Layout:
    """A kind of table."""

    name: str
    """For ``--layout``."""
    title: str
    """For people."""
    chains: tuple[ChainNames, ...]
    """Those of which a table has the residues are read."""
    needs: tuple[Names, ...] = ()
    """It is recognised by a column of each of these groups; without any, by its first chain's residues."""
    id: Names = ("id", "sequence_id", "name", "record_id", "pair_id")
    """The first of these is the id."""
    id_parts: Names = ()
    """Columns that make the id together, joined by a colon, where a table has them all."""
    stems: Mapping[str, Names] = field(default_factory=lambda: _PLAIN_STEMS)
    """Names by kind, before the chain's ends."""
    falls_back: bool = False
    """Whether an empty cell of residues is made up for by the next of their names."""
    second: tuple[ChainNames, ...] = ()
    """Chains of a second record in the same row."""
    single: tuple[str, str] | None = None
    """A column and the value in it that says that there is but one chain."""
    is_joined: bool = False
    """Whether one column holds both chains, with marks such as ``<cls><cls>`` between them."""


def _pair(
    heavy: Names,
    light: Names,
    of_heavy: Mapping[str, Names] | None = None,
    of_light: Mapping[str, Names] | None = None,
) -> tuple[ChainNames, ChainNames]:
    return (
        ChainNames(Role.HEAVY, heavy, ("_heavy", ":0"), of_heavy or {}),
        ChainNames(Role.LIGHT, light, ("_light", ":1"), of_light or {}),
    )


_TCR_LOCI = {Role.ALPHA: "tra", Role.BETA: "trb", Role.GAMMA: "trg", Role.DELTA: "trd"}
_TCR_NAMES: Mapping[Role, Names] = {
    role: (locus, f"{locus}_sequence", f"{word}_chain", f"{word}_sequence", f"sequence_{word}")
    for role, locus in _TCR_LOCI.items()
    for word in (role.name.lower(),)
}
_TCR_ENDS: Mapping[Role, Names] = {
    role: (f"_{role.name.lower()}", f"_{locus}") for role, locus in _TCR_LOCI.items()
}

_MASKS = ("cdr_mask_aa", "gene_segment_mask_aa", "nongermline_mask_aa")
_AIRR_RESIDUES = ("sequence_aa", "vdj_aa", "sequence_alignment_aa")

_ALL = (
    Layout(
        "joined",
        "pairs joined in one column (Ng & Briney)",
        (ChainNames(Role.OTHER, ("text",)),),
        needs=(("text",), ("cdr_mask", "cdr_mask_aa")),
        stems=_JOINED_STEMS,
        is_joined=True,
    ),
    Layout(
        "oas-paired",
        "OAS, paired",
        _pair(("sequence_alignment_aa_heavy",), ("sequence_alignment_aa_light",)),
        needs=(("sequence_alignment_aa_heavy",), ("sequence_alignment_aa_light",)),
        id=("sequence_id_heavy",),
        stems=_AIRR_STEMS,
    ),
    Layout(
        "oas",
        "OAS, unpaired",
        (ChainNames(Role.OTHER, ("sequence_alignment_aa",)),),
        needs=(("sequence_alignment_aa",), ("ANARCI_numbering", "ANARCI_status", "Redundancy")),
        stems=_AIRR_STEMS,
    ),
    Layout(
        "abstar-paired",
        "abstar, paired",
        _pair(("sequence_aa:0", "sequence_aa_heavy"), ("sequence_aa:1", "sequence_aa_light")),
        needs=(("sequence_aa:0", "sequence_aa_heavy"), ("sequence_aa:1", "sequence_aa_light")),
        id=("name", "pair_id", "id", "sequence_id:0", "sequence_id_heavy", "sequence_id"),
        stems=_AIRR_STEMS,
    ),
    Layout(
        "abstar",
        "abstar",
        (ChainNames(Role.OTHER, ("sequence_aa", "sequence")),),
        needs=(("sequence_aa", "sequence"), _MASKS),
        stems=_AIRR_STEMS,
    ),
    Layout(
        "cov-abdab",
        "CoV-AbDab",
        _pair(
            ("VH or VHH", "VHorVHH"),
            ("VL",),
            of_heavy={"v_call": ("Heavy V Gene",), "j_call": ("Heavy J Gene",), "cdr3": ("CDRH3",)},
            of_light={"v_call": ("Light V Gene",), "j_call": ("Light J Gene",), "cdr3": ("CDRL3",)},
        ),
        needs=(("VH or VHH", "VHorVHH"),),
        single=("Ab or Nb", "Nb"),
    ),
    Layout(
        "thera-sabdab",
        "Thera-SAbDab",
        _pair(("HeavySequence", "Heavy Sequence", "HC"), ("LightSequence", "Light Sequence", "LC")),
        needs=(("Therapeutic",), ("HeavySequence", "Heavy Sequence", "HC")),
        id=("Therapeutic",),
        second=_pair(
            ("HeavySequence(ifbispec)", "Heavy Sequence (if bispec)"),
            ("LightSequence(ifbispec)", "Light Sequence (if bispec)"),
        ),
    ),
    Layout(
        "sabdab-pairs",
        "pairs of SAbDab structures",
        _pair(
            ("heavy_seq",),
            ("light_seq",),
            of_heavy={"junction": ("cdr3_heavy_cw",)},
            of_light={"junction": ("cdr3_light_cf",)},
        ),
        needs=(("heavy_seq",), ("light_seq",), ("abid",)),
        id=("abid",),
    ),
    Layout(
        "tenx-pairs",
        "pairs of single cells (10x)",
        _pair(
            ("variable_domain_heavy",),
            ("variable_domain_light",),
            of_heavy={"junction": ("cdr3_junction_heavy",)},
            of_light={"junction": ("cdr3_junction_light",), "locus": ("light_locus",)},
        ),
        id_parts=("dataset", "cell"),
    ),
    Layout(
        "gdpa1",
        "GDPa1 developability",
        _pair(("vh_protein_sequence",), ("vl_protein_sequence",)),
        id=("antibody_id", "antibody_name"),
    ),
    Layout(
        "airr",
        "AIRR rearrangement",
        (ChainNames(Role.OTHER, _AIRR_RESIDUES),),
        needs=(
            _AIRR_RESIDUES,
            ("v_call",),
            ("sequence_id", "productive", "rev_comp", "junction_aa", "locus"),
        ),
        id=("sequence_id",),
        stems=_AIRR_STEMS,
        falls_back=True,
    ),
    Layout(
        "tcr-pairs",
        "T-cell receptor pairs",
        tuple(ChainNames(role, names, _TCR_ENDS[role]) for role, names in _TCR_NAMES.items()),
        needs=(
            (*_TCR_NAMES[Role.ALPHA], *_TCR_NAMES[Role.GAMMA]),
            (*_TCR_NAMES[Role.BETA], *_TCR_NAMES[Role.DELTA]),
        ),
    ),
    Layout(
        "pairs",
        "heavy and light columns",
        _pair(
            (
                *(
                    "heavy",
                    "vh",
                    "heavy_sequence",
                    "sequence_heavy",
                    "heavy_seq",
                    "heavy_chain",
                    "h_sequence",
                ),
                *("sequence_aa_heavy", "sequence_aa:0", "hc", "vh sequence"),
            ),
            (
                *(
                    "light",
                    "vl",
                    "light_sequence",
                    "sequence_light",
                    "light_seq",
                    "light_chain",
                    "l_sequence",
                ),
                *("sequence_aa_light", "sequence_aa:1", "lc", "vl sequence"),
            ),
            of_heavy={f"cdr{n}": (f"HCDR{n}", f"CDRH{n}") for n in (1, 2, 3)},
            of_light={f"cdr{n}": (f"LCDR{n}", f"CDRL{n}") for n in (1, 2, 3)},
        ),
    ),
    Layout(
        "plain",
        "one sequence per row",
        # AIRR keeps nucleotides in "sequence" and residues in "sequence_aa"
        (
            ChainNames(
                Role.OTHER, ("sequence_aa", "sequence", "seq", "protein", "protein_sequence", "residues")
            ),
        ),
    ),
)

LAYOUTS: Mapping[str, Layout] = {layout.name: layout for layout in _ALL}
"""The known layouts, in the order in which they are tried."""

CHAIN_NAMES = frozenset(
    name.lower() for layout in _ALL for chain in (*layout.chains, *layout.second) for name in chain.residues
)
"""Every name, in lower case, under which some layout looks for residues."""

ONE_CHAIN_NAMES = frozenset(
    name.lower() for kind, names in _PLAIN_STEMS.items() if kind not in _JOINED_STEMS for name in names
)
"""Every name, in lower case, of a column that goes with one chain and cannot be parted at marks."""

_OF_NUCLEOTIDES = ("rev_comp", "sequence_alignment", "germline_alignment", "v_cigar")
"""Columns that an AIRR table of nucleotides has."""


def find_column(names: Names, header: Sequence[str]) -> str | None:
    """Give the first of `names` that is a column, in any letter case.

    Parameters
    ----------
    names
        What is looked for, best first.
    header
        Column names of a table.

    Examples
    --------
    >>> find_column(("vh", "heavy"), ["id", "Heavy", "light"])
    'Heavy'
    """
    by_lower = {name.lower(): name for name in reversed(header)}
    return next((by_lower[name.lower()] for name in names if name.lower() in by_lower), None)


def recognise(header: Sequence[str], asked: str, path: Path) -> Layout:
    """Choose the layout of a table.

    Parameters
    ----------
    header
        Its column names.
    asked
        A name of `LAYOUTS`, or ``auto`` for the first that fits.
    path
        For messages.

    Raises
    ------
    DataError
        If no such layout is known, the table lacks its columns, or holds no residues.

    Examples
    --------
    >>> recognise(["sequence_id", "v_call", "vdj_aa"], "auto", Path("x.tsv")).title
    'AIRR rearrangement'
    """
    if asked != "auto":
        return _asked(header, asked, path)
    for layout in _ALL:
        if _fits(layout, header):
            _refuse_nucleotides(layout, header, path)
            return layout
    light = find_column(LAYOUTS["pairs"].chains[1].residues, header)
    if light:
        raise DataError(
            f"{path}: column '{light}' looks like a light chain, but none looks like the heavy one "
            f"(found: {shown(header)})",
            hint=f"say which with --heavy COL --light {light}, or pass --light {light} to read it alone",
        )
    raise DataError(
        f"{path}: no column looks like a sequence (found: {shown(header)})",
        hint="say which with --sequence COL, or --heavy COL and --light COL",
    )


def shown(header: Sequence[str]) -> str:
    """Write column names for a message, shortened where there are many.

    Parameters
    ----------
    header
        Column names.
    """
    names = [name if len(name) <= 30 else name[:30] + "…" for name in header]
    return ", ".join(names[:30]) + (f", and {len(names) - 30} more" if len(names) > 30 else "")


def _refuse_nucleotides(layout: Layout, header: Sequence[str], path: Path) -> None:
    column = find_column(layout.chains[0].residues, header)
    marks = [name for name in _OF_NUCLEOTIDES if find_column((name,), header)]
    if layout.name == "plain" and column and column.lower() == "sequence" and marks:
        raise DataError(
            f"{path}: an AIRR rearrangement table (it has '{marks[0]}') without residues: '{column}' holds "
            f"nucleotides there, and none of {', '.join(_AIRR_RESIDUES)} is a column",
            hint=f"let the tool that made it write {_AIRR_RESIDUES[0]}; where '{column}' does hold residues, "
            f"pass --sequence {column}",
        )


def _asked(header: Sequence[str], asked: str, path: Path) -> Layout:
    if asked not in LAYOUTS:
        raise DataError(f"no layout is called '{asked}'", hint=did_you_mean(asked, ["auto", *LAYOUTS]))
    layout = LAYOUTS[asked]
    if not any(find_column(chain.residues, header) for chain in layout.chains):
        names = ", ".join(f"'{name}'" for chain in layout.chains for name in chain.residues)
        raise DataError(
            f"{path}: a table of layout '{asked}' has one of the columns {names} (found: {shown(header)})",
            hint="pass --layout auto, or name columns with --sequence COL, or --heavy COL and --light COL",
        )
    return layout


def _fits(layout: Layout, header: Sequence[str]) -> bool:
    return all(find_column(names, header) for names in layout.needs or [layout.chains[0].residues])
