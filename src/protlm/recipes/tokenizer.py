"""tokenizer: learn sub-words from proteins, and compare tokenizers on proteins."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from protlm.data.chain_sample import ChainSample, sample_chains
from protlm.data.corpus import Corpus, names_corpus
from protlm.data.layout import FILE_NAME, TokenLayout, layout_of_vocabulary
from protlm.data.readers import ColumnNames, InputPolicy, ReadReport, check_file, iterate_records
from protlm.data.subword_training import (
    ALPHABETS,
    LONGEST_PIECE,
    PUBLISHED_MERGES,
    Kind,
    TrainedSubwords,
    train_subwords,
)
from protlm.data.subwords import SPECIALS, TOKENIZER_FILE, layout_of_tokenizer
from protlm.data.vocabularies import VOCABULARIES
from protlm.errors import ConfigError, DataError, RunError
from protlm.evaluation.segmentation import measure
from protlm.models.loading import load_model
from protlm.models.tokenizers import roberta_tokenizer
from protlm.progress import Progress
from protlm.recipes.outputs import claim_file, claim_folder
from protlm.recipes.prepare import nothing_left
from protlm.runs import file_hash

Say = Callable[[str], None]

MANIFEST = "tokenizer_manifest.json"
FORMAT_VERSION = 1
MAX_RESIDUES = 30_000_000
"""Residues to learn from where nothing else is asked for; the trainer takes about 100 bytes for each."""
_MANY = 5
RESIDUE = "residue"
"""Name of residue level in `bench`: RoBERTa's special tokens and a token for each letter."""


def train_tokenizer(
    source: Path | str | None,
    out: Path | str,
    *,
    kind: Kind = "byte-bpe",
    num_merges: int | None = None,
    vocab_size: int | None = None,
    min_frequency: int = 2,
    allow_fewer: bool = False,
    max_residues: int = MAX_RESIDUES,
    columns: ColumnNames | None = None,
    policy: InputPolicy | None = None,
    force: bool = False,
    say: Say = print,
) -> TokenLayout:
    """Learn a tokenizer and write its folder.

    Each distinct chain counts once, so the order of the input and repeats do not matter.

    Parameters
    ----------
    source
        A corpus, ``FOLDER:SUBSET`` of one, or any file that `prepare` reads; `None` for residue level.
    out
        Folder to make: ``token_layout.json`` for protlm, ``tokenizer.json`` and ``tokenizer_config.json``
        for Hugging Face, and a manifest.
    kind
        See `protlm.data.subword_training.train_subwords`.
    num_merges, vocab_size
        How many merges, or how many tokens in all; 10,000 merges where neither is given.
    min_frequency
        How often a pair must stand in the chains to be merged.
    allow_fewer
        Whether fewer merges than asked for will do.
    max_residues
        To learn from: of more, those distinct chains with the lowest hashes are taken.
    columns, policy
        How to read a file.
    force
        Replace a tokenizer that is there.
    say
        Tells the user what happens.

    Raises
    ------
    ConfigError
        If the settings do not go together.
    DataError
        If the input is wrong, or gives fewer merges than asked for.
    RunError
        If the folder is taken.
    """
    wanted = _num_merges(kind, num_merges, vocab_size)
    out = Path(out)
    _claim(out, force=force)
    inputs: list[dict[str, Any]] = []
    sample = ChainSample((), 0, is_whole=True)
    if kind != "residue":
        if source is None:
            raise ConfigError(
                f"a tokenizer of kind {kind} needs an INPUT", hint="name a corpus or a FASTA file"
            )
        inputs = [_facts(source)]
        sample = _sample(source, columns, policy, say, max_residues=max_residues)
        _say_sample(sample, say)
    trained = train_subwords(
        sample.chains,
        kind=kind,
        num_merges=wanted,
        min_frequency=min_frequency,
        show_progress=sys.stderr.isatty(),
    )
    _check_merges(trained, wanted, min_frequency, allow_fewer=allow_fewer, say=say)
    manifest = {
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "inputs": inputs,
        "merges_asked": wanted,
        "merges": trained.num_merges,
        "vocabulary": len(trained.layout.tokens),
        "longest_token": int(trained.layout.residues_per_token.max()),
        "min_frequency": min_frequency,
        "max_residues": max_residues,
        "chains_read": sample.num_seen,
        "chains": trained.num_chains,
        "residues": trained.num_residues,
        "chains_cut": trained.num_cut,
    }
    _write(out, trained.layout, manifest)
    say(_description(trained.layout))
    return trained.layout


def bench_tokenizers(
    names: Sequence[str],
    source: Path | str,
    *,
    max_records: int | None = None,
    seed: int = 0,
    out: Path | None = None,
    columns: ColumnNames | None = None,
    policy: InputPolicy | None = None,
    force: bool = False,
    say: Say = print,
) -> pl.DataFrame:
    """Measure tokenizers on the same proteins.

    Parameters
    ----------
    names
        Tokenizer folders, Runs, model folders or names; ``residue``, and published vocabularies such as
        ``esm``.
    source
        A corpus, ``FOLDER:SUBSET`` of one, or any file that `prepare` reads; each distinct chain counts once.
    max_records
        Of more distinct chains, those with the lowest hashes are taken, which is a fair sample.
    seed
        Of the substitutions and the bootstrap.
    out
        ``.parquet`` to write as well.
    columns, policy
        How to read a file.
    force
        Replace a file that is there.
    say
        Tells the user what happens.

    Returns
    -------
    polars.DataFrame
        A row for each tokenizer; columns as `protlm.evaluation.segmentation.measure` names them.

    Raises
    ------
    ConfigError
        If there is no such tokenizer.
    DataError
        If the input is wrong.
    """
    if out is not None:
        claim_file(out, (".parquet",), force=force)
    layouts = {name: find_layout(name) for name in names}
    sample = _sample(source, columns, policy, say, max_chains=max_records)
    _say_sample(sample, say)
    rows = []
    with Progress("measuring", len(layouts), unit="tokenizer") as progress:
        for name, layout in layouts.items():
            rows.append({"tokenizer": name, **measure(sample.chains, layout, seed=seed)})
            progress.advance()
    table = pl.DataFrame(rows, infer_schema_length=None)
    if out is not None:
        table.write_parquet(out)
    return table


def find_layout(name: str) -> TokenLayout:
    """Give the layout of a tokenizer or model by name, without its weights where that can be.

    Parameters
    ----------
    name
        As in `bench_tokenizers`.

    Raises
    ------
    ModelError
        If there is no such tokenizer.
    """
    if name == RESIDUE:
        return layout_of_vocabulary("roberta", separator="eos-eos")
    folder = Path(name)
    if (folder / "model" / FILE_NAME).is_file():
        folder = folder / "model"
    if (folder / FILE_NAME).is_file() or (
        (folder / TOKENIZER_FILE).is_file() and not (folder / "config.json").is_file()
    ):
        return layout_of_tokenizer(folder)
    if name in VOCABULARIES:
        words = VOCABULARIES[name]
        return layout_of_vocabulary(name, separator="cls" if words.begin == "<cls>" else "eos-eos")
    return load_model(name, device="cpu").layout


def _num_merges(kind: Kind, num_merges: int | None, vocab_size: int | None) -> int:
    if kind == "residue":
        if num_merges or vocab_size:
            raise ConfigError(
                "kind residue has no merges and a fixed vocabulary",
                hint="leave --merges and --vocab-size out",
            )
        return 0
    if num_merges is not None and vocab_size is not None:
        raise ConfigError("--merges and --vocab-size say the same", hint="give one of them")
    first = len(SPECIALS) + len(ALPHABETS[kind])
    wanted = PUBLISHED_MERGES if num_merges is None else num_merges
    wanted = wanted if vocab_size is None else vocab_size - first
    if wanted < 1:
        raise ConfigError(
            f"{wanted} merges are none: kind {kind} has {first} tokens without merges",
            hint=f"ask for --vocab-size {first + 1} or more, or take --kind residue",
        )
    return wanted


def _sample(
    source: Path | str,
    columns: ColumnNames | None,
    policy: InputPolicy | None,
    say: Say,
    **limits: int | None,
) -> ChainSample:
    """Read the chains of a corpus or file once and keep a fair sample."""
    report = ReadReport()
    if names_corpus(source) or Path(source).is_dir():
        corpus = Corpus(source)
        sample = sample_chains(_chains_of(corpus), **limits)
        if not sample.chains:
            raise DataError(f"{corpus.name} has no records", hint="look at what prepare reported as dropped")
        return sample
    path = check_file(source)
    # an id may stand there twice: nothing goes by it
    policy = replace(policy or InputPolicy(invalid="drop"), duplicate_ids="rename")
    records = iterate_records(path, columns=columns, policy=policy, report=report)
    sample = sample_chains((chain.residues for record in records for chain in record.chains), **limits)
    for line in report.lines():
        say(line)
    if not sample.chains:
        raise nothing_left(path, report)
    return sample


def _chains_of(corpus: Corpus, chunk: int = 1 << 16) -> Iterator[str]:
    """Give the distinct chains of a corpus or of a subset, in bounded memory."""
    rows = np.unique(corpus.chain_rows(np.arange(len(corpus))))
    residues = corpus.chain_column("residues")
    for start in range(0, len(rows), chunk):
        yield from residues.take(rows[start : start + chunk]).to_pylist()


def _say_sample(sample: ChainSample, say: Say) -> None:
    size = sum(map(len, sample.chains))
    part = "all distinct ones" if sample.is_whole else "those with the lowest hashes, which is a fair sample"
    say(f"{len(sample.chains):,} of {sample.num_seen:,} chains, {size:,} residues: {part}")


def _check_merges(
    trained: TrainedSubwords, wanted: int, min_frequency: int, *, allow_fewer: bool, say: Say
) -> None:
    if trained.num_cut:
        say(
            f"{trained.num_cut:,} chains of over {LONGEST_PIECE:,} residues were cut into pieces for training"
        )
    if trained.num_merges == wanted:
        return
    found = (
        f"{trained.num_merges:,} merges and not {wanted:,} were found: no further pair stands there "
        f"{min_frequency:,} times or more"
    )
    if not allow_fewer:
        raise DataError(found, hint="give more proteins, ask for fewer --merges, or pass --allow-fewer")
    say(found)


def _claim(out: Path, *, force: bool) -> None:
    claim_folder(out)
    if not out.exists() or not any(out.iterdir()):
        return
    is_ours = (out / MANIFEST).is_file()
    if force and is_ours:
        return
    what = "holds a tokenizer" if is_ours else "exists and is not a tokenizer folder"
    remedy = ", or pass --force to replace it" if is_ours else ""
    raise RunError(f"{out} {what}", hint=f"choose another --out{remedy}")


def _write(out: Path, layout: TokenLayout, manifest: dict[str, Any]) -> None:
    """Write the folder whole, then move it into place."""
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    layout.save(part)
    roberta_tokenizer(layout).save_pretrained(part)
    (part / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    if out.exists():
        shutil.rmtree(out)
    part.rename(out)


def _facts(source: Path | str) -> dict[str, Any]:
    if names_corpus(source):
        corpus = Corpus(source)
        return {"name": corpus.name, "digest": corpus.digest}
    path = check_file(source)
    return {"name": path.name, "sha256": file_hash(path), "bytes": path.stat().st_size}


def _description(layout: TokenLayout) -> str:
    sizes = layout.residues_per_token
    counts = np.bincount(np.minimum(sizes[sizes > 0], _MANY), minlength=_MANY + 1)[1:].tolist()
    listed = ", ".join(f"{count:,} of {size}" for size, count in enumerate(counts[:-1], start=1))
    return (
        f"{len(layout.tokens):,} tokens, {len(layout.merges):,} merges; tokens by residues: {listed}, "
        f"{counts[-1]:,} of {_MANY} or more, the longest of {sizes.max()}"
    )
