"""protlm prepare."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from protlm.cli import options, pair_options, structure_options
from protlm.cli.options import Force

if TYPE_CHECKING:
    from protlm.recipes.prepare import Prepared
    from protlm.recipes.prepare_family import PreparedFamily
    from protlm.recipes.prepare_pairs import PreparedPairs
    from protlm.recipes.prepare_structures import PreparedStructures

LAYOUT_NAMES = (
    *("auto", "joined", "oas-paired", "oas", "abstar-paired", "abstar", "cov-abdab", "thera-sabdab"),
    *("sabdab-pairs", "tenx-pairs", "gdpa1", "airr", "tcr-pairs", "pairs", "plain"),
)
"""Those of `protlm.data.readers.layouts.LAYOUTS`, which would be slow to import for a page of help."""


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command()(prepare)


class _Count:
    """Says now and then how much there was; how much there will be is not known."""

    seconds_between_lines = 10.0

    def __init__(self) -> None:
        self._unit, self._done = "", 0
        self._began = self._last_line = time.monotonic()

    def __call__(self, unit: str = "records", count: int = 1) -> None:
        now = time.monotonic()
        if unit != self._unit:
            self._unit, self._done, self._began = unit, 0, now
        self._done += count
        if now - self._last_line >= self.seconds_between_lines:
            self._last_line = now
            rate = self._done / max(1e-9, now - self._began)
            options.say(f"{self._done:,} {unit} · {rate:,.0f} {unit}/s")


_COLUMNS, _POLICY, _NUMBERING, _SPLIT = "Columns", "What to do with odd input", "Numbering", "Split"
_FAMILY = "Alignment of a family"


def prepare(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="sequences in FASTA, CSV, TSV or Parquet, .gz allowed; or what --structures, --sequences, "
            "--pairs or --wild-type say",
        ),
    ],
    out: Annotated[Path, typer.Option(help="corpus folder to make")],
    layout: Annotated[
        str, typer.Option(help=f"{', '.join(LAYOUT_NAMES)}", rich_help_panel=_COLUMNS)
    ] = "auto",
    heavy: Annotated[
        str | None, typer.Option(help="column with the heavy chain", rich_help_panel=_COLUMNS)
    ] = None,
    light: Annotated[
        str | None, typer.Option(help="column with the light chain", rich_help_panel=_COLUMNS)
    ] = None,
    sequence: Annotated[
        str | None, typer.Option(help="column with a single chain", rich_help_panel=_COLUMNS)
    ] = None,
    id_column: Annotated[
        str | None, typer.Option("--id", help="column with the id", rich_help_panel=_COLUMNS)
    ] = None,
    group_by: Annotated[
        str | None, typer.Option(help="columns that name a group, with commas", rich_help_panel=_COLUMNS)
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            "--labels",
            help="columns, or keys of OAS metadata, to keep as labels; with commas, or repeated",
            rich_help_panel=_COLUMNS,
        ),
    ] = None,
    paired_ids: Annotated[
        bool,
        typer.Option(
            "--paired-ids",
            help="FASTA: join the two chains of one name, such as a_H and a_L",
            rich_help_panel=_COLUMNS,
        ),
    ] = False,
    invalid: Annotated[
        str,
        typer.Option(help="records that are not plain residues: error, or drop", rich_help_panel=_POLICY),
    ] = "drop",
    gaps: Annotated[
        str, typer.Option(help="- and . inside a sequence: error, or remove", rich_help_panel=_POLICY)
    ] = "error",
    duplicate_ids: Annotated[
        str,
        typer.Option(help="ids seen before: error, or rename with #2, #3 …", rich_help_panel=_POLICY),
    ] = "error",
    unproductive: Annotated[
        str,
        typer.Option(help="rows that 'productive' says no to: drop, or keep", rich_help_panel=_POLICY),
    ] = "drop",
    bispecific: Annotated[
        str,
        typer.Option(
            help="second variable domain pair of a row: first leaves it, both makes it a record",
            rich_help_panel=_POLICY,
        ),
    ] = "first",
    receptor: Annotated[
        str, typer.Option(help="number as antibody, tcr, any, none, or auto", rich_help_panel=_NUMBERING)
    ] = "auto",
    regions: Annotated[
        str,
        typer.Option(
            help="auto takes columns where they fit, and numbers else; columns demands them; immunum "
            "ignores them",
            rich_help_panel=_NUMBERING,
        ),
    ] = "auto",
    unnumbered: Annotated[
        str,
        typer.Option(help="records that cannot be numbered: keep, or drop", rich_help_panel=_NUMBERING),
    ] = "keep",
    two_domains: Annotated[
        str,
        typer.Option(
            help="several variable domains in a chain, as in an scFv: keep-first, split, drop or error",
            rich_help_panel=_NUMBERING,
        ),
    ] = "keep-first",
    germline: Annotated[
        list[str] | None,
        typer.Option(
            help="germline genes to compare with: auto (human, where the chains look it), human, none, or "
            "FASTA files of V, D and J genes; with commas, or repeated",
            rich_help_panel=_NUMBERING,
        ),
    ] = None,
    wild_type: Annotated[
        str | None,
        typer.Option(
            help="INPUT is an alignment of the family of this sequence, or file with one record",
            rich_help_panel=_FAMILY,
        ),
    ] = None,
    rows_as: Annotated[
        str,
        typer.Option(
            "--as",
            help="aligned: residues at the wild type's positions, without insertions; or whole sequences",
            rich_help_panel=_FAMILY,
        ),
    ] = "aligned",
    query: Annotated[
        str | None,
        typer.Option(help="row of the wild type; the first by default", rich_help_panel=_FAMILY),
    ] = None,
    offset: Annotated[
        int | None,
        typer.Option(
            help="subtracted from the query's positions; found by its letters if not said",
            rich_help_panel=_FAMILY,
        ),
    ] = None,
    min_coverage: Annotated[
        float,
        typer.Option(
            help="leave out rows with residues in less of the columns", min=0, max=1, rich_help_panel=_FAMILY
        ),
    ] = 0.5,
    identity: Annotated[
        float,
        typer.Option(
            help="rows so similar share one weight; 1 weighs all but equal rows alike",
            min=0.01,
            max=1,
            rich_help_panel=_FAMILY,
        ),
    ] = 0.8,
    sequences: pair_options.Sequences = None,
    pairs: pair_options.Pairs = False,
    a: pair_options.ColumnA = None,
    b: pair_options.ColumnB = None,
    score_column: pair_options.ScoreColumn = None,
    min_score: pair_options.MinScore = None,
    species: pair_options.Species = None,
    negatives: pair_options.Negatives = None,
    positive_fraction: pair_options.PositiveFraction = None,
    sides: pair_options.Sides = "auto",
    cluster_identity: pair_options.ClusterIdentity = None,
    cluster_coverage: pair_options.ClusterCoverage = 0.8,
    clusters: pair_options.Clusters = None,
    one_per_cluster_pair: pair_options.OnePerClusterPair = False,
    structures: structure_options.Structures = False,
    region: structure_options.Region = None,
    summary: structure_options.Summary = None,
    max_residues: structure_options.MaxResidues = None,
    holdout: Annotated[
        float,
        typer.Option(help="share of groups, of links: clusters, for OUT:holdout", rich_help_panel=_SPLIT),
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="of the split", rich_help_panel=_SPLIT)] = 0,
    force: Force = False,
) -> None:
    """Turn sequences, links, an alignment or structures into a corpus.

    Tables of AIRR, OAS, abstar, CoV-AbDab, Thera-SAbDab and others are recognised by their columns.
    Antibody and T-cell receptor chains are numbered by IMGT and get a region for each residue; against
    germline genes, antibodies get calls that they lack, V, N, D and J segments, and mutated residues. Without
    --group-by, the group of an antibody is its V gene and CDR3. What is changed or left out is counted.

    With --wild-type, INPUT is an alignment (A2M, A3M, FASTA, Stockholm) of the family of that sequence: its
    rows are weighted by how many are alike, and held-out ones have none alike.

    With --sequences, INPUT lists links between proteins (STRING, or a table of two ids, with or without a
    header); with --pairs, a table of two sequences; with --negatives, it may be a corpus of pairs.

    With --structures, INPUT has structures, and the corpus their backbones beside.
    """
    if structures or region is not None or summary is not None or max_residues is not None:
        _prepare_structures(
            source,
            out,
            is_asked=structures,
            region=options.choice("--region", region or "complex", structure_options.REGION_NAMES),
            summary=summary,
            max_residues=max_residues,
            receptor=options.choice("--receptor", receptor, ("auto", "antibody", "none")),
            labels=label or [],
            group_by=group_by,
            germline=germline,
            invalid=options.choice("--invalid", invalid, ("error", "drop")),
            duplicate_ids=options.choice("--duplicate-ids", duplicate_ids, ("error", "rename")),
            holdout=holdout,
            seed=seed,
            force=force,
        )
        return
    if wild_type is not None:
        _prepare_family(
            source,
            out,
            wild_type=wild_type,
            rows_as=options.choice("--as", rows_as, ("aligned", "sequences")),  # type: ignore[arg-type]
            query=query,
            offset=offset,
            min_coverage=min_coverage,
            identity=identity,
            holdout=holdout,
            seed=seed,
            force=force,
        )
        return
    from protlm.data.readers import ColumnNames, InputPolicy
    from protlm.recipes.prepare import prepare as run

    if pairs or any(
        each not in (None, False)
        for each in (
            *(sequences, a, b, score_column, min_score, species, negatives, positive_fraction),
            *(cluster_identity, clusters, one_per_cluster_pair),
        )
    ):
        _prepare_pairs(
            source,
            out,
            sequences=sequences or (),
            columns={"a": a, "b": b, "label": _one("--label", label), "score": score_column},
            id_column=id_column,
            sequence_column=sequence,
            species=tuple(species.split(",")) if species else (),
            settings={
                "min_score": min_score,
                "negatives": negatives,
                "positive_fraction": positive_fraction,
                "sides": options.choice("--sides", sides, ("auto", "one", "two")),
                "cluster_identity": cluster_identity,
                "cluster_coverage": cluster_coverage,
                "clusters": clusters,
                "one_per_cluster_pair": one_per_cluster_pair,
                "holdout": holdout,
                "seed": seed,
            },
            invalid=options.choice("--invalid", invalid, ("error", "drop")),
            gaps=options.choice("--gaps", gaps, ("error", "remove")),
            force=force,
        )
        return
    policy = InputPolicy(
        invalid=options.choice("--invalid", invalid, ("error", "drop")),  # type: ignore[arg-type]
        gaps=options.choice("--gaps", gaps, ("error", "remove")),  # type: ignore[arg-type]
        duplicate_ids=options.choice("--duplicate-ids", duplicate_ids, ("error", "rename")),  # type: ignore[arg-type]
        regions=options.choice("--regions", regions, ("auto", "columns", "immunum")),  # type: ignore[arg-type]
        unproductive=options.choice("--unproductive", unproductive, ("keep", "drop")),  # type: ignore[arg-type]
        bispecific=options.choice("--bispecific", bispecific, ("first", "both")),  # type: ignore[arg-type]
        paired_ids=paired_ids,
    )
    columns = ColumnNames(
        layout=options.choice("--layout", layout, LAYOUT_NAMES),
        heavy=heavy,
        light=light,
        sequence=sequence,
        id=id_column,
        group=tuple(group_by.split(",")) if group_by else (),
        labels=tuple(label or ()),
    )
    prepared = run(
        source,
        out,
        columns=columns,
        policy=policy,
        receptor=options.choice("--receptor", receptor, ("auto", "antibody", "tcr", "any", "none")),  # type: ignore[arg-type]
        unnumbered=options.choice("--unnumbered", unnumbered, ("keep", "drop")),  # type: ignore[arg-type]
        two_domains=options.choice("--two-domains", two_domains, ("keep-first", "error", "drop", "split")),  # type: ignore[arg-type]
        germline=_germline(germline),
        holdout=holdout,
        seed=seed,
        force=force,
        on_record=_Count(),
    )
    _say_result(prepared, out)


def _prepare_family(source: Path, out: Path, **settings: Any) -> None:
    from protlm.recipes.prepare_family import prepare_family

    _say_result(prepare_family(source, out, **settings), out)


def _prepare_structures(
    source: Path,
    out: Path,
    *,
    is_asked: bool,
    region: str,
    summary: Path | None,
    max_residues: int | None,
    receptor: str,
    labels: list[str],
    group_by: str | None,
    germline: list[str] | None,
    invalid: Any,
    duplicate_ids: Any,
    **given: Any,
) -> None:
    from protlm.data.readers import InputPolicy
    from protlm.errors import ConfigError
    from protlm.recipes.prepare_structures import StructureSettings, prepare_structures

    if not is_asked:
        raise ConfigError("--region, --summary and --max-residues are of structures", hint="add --structures")
    prepared = prepare_structures(
        source,
        out,
        settings=StructureSettings(
            region=region,
            summary=summary,
            is_numbered=receptor != "none",
            max_residues=max_residues,
            labels=tuple(name for each in labels for name in each.split(",")),
            group=tuple(group_by.split(",")) if group_by else (),
        ),
        policy=InputPolicy(invalid=invalid, duplicate_ids=duplicate_ids),
        germline=_germline(germline),
        on_record=_Count(),
        **given,
    )
    _say_result(prepared, out)


def _germline(named: list[str] | None) -> tuple[str, ...]:
    return tuple(name for each in named or ["auto"] for name in each.split(","))


def _prepare_pairs(
    source: Path,
    out: Path,
    *,
    columns: dict[str, str | None],
    settings: dict[str, Any],
    invalid: Any,
    gaps: Any,
    **given: Any,
) -> None:
    from protlm.data.corpus import names_corpus
    from protlm.data.negatives import SAMPLERS
    from protlm.data.readers import InputPolicy
    from protlm.data.readers.links import LinkColumns
    from protlm.recipes.prepare_negatives import prepare_negatives
    from protlm.recipes.prepare_pairs import PairSettings, prepare_pairs

    if settings["negatives"] is not None:
        options.choice("--negatives", settings["negatives"], SAMPLERS)
    settings = {name: value for name, value in settings.items() if value is not None}
    if names_corpus(source):
        _say_result(
            prepare_negatives(source, out, settings=PairSettings(**settings), force=given["force"]), out
        )
        return
    policy = InputPolicy(invalid=invalid, gaps=gaps)
    prepared = prepare_pairs(
        source,
        out,
        columns=LinkColumns(**columns),
        settings=PairSettings(**settings),
        policy=policy,
        on_count=_Count(),
        **given,
    )
    _say_result(prepared, out)


def _one(option: str, values: list[str] | None) -> str | None:
    """Give the only value of an option that may be repeated."""
    from protlm.errors import ConfigError

    if values and len(values) > 1:
        raise ConfigError(f"{option} names {len(values)} columns, and links have one", hint="name one")
    return values[0] if values else None


def _say_result(
    prepared: "Prepared | PreparedFamily | PreparedPairs | PreparedStructures", out: Path
) -> None:
    for line in prepared.lines():
        options.say(line)
    facts = prepared.corpus.manifest
    chains = "distinct chains"
    if facts.get("num_chains_forgotten"):
        chains = "chains (one that recurs after over four million others counts again)"
    counts = f"{facts['num_records']:,} records, {facts['num_chains']:,} {chains}"
    options.say(f"{counts}, {facts['num_residues']:,} residues")
    for name, count in facts["subsets"].items():
        options.say(f"  {out}:{name}: {count:,} records")
    typer.echo(out)
