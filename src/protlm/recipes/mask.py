"""mask preview: what a masking would select in some records, and how often in the mean."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import polars as pl
import torch
from scipy.stats import binomtest

from protlm.data.collate import collate
from protlm.data.flat import flatten_records
from protlm.data.layout import FILE_NAME, TokenLayout
from protlm.data.mixture import shares_at
from protlm.data.token_counts import record_counts
from protlm.errors import ConfigError, DataError
from protlm.masking.corrupt import corrupt
from protlm.masking.selection import Draw, MaskingPolicy, Selection, maskable, of_residues, select
from protlm.models.loading import load_model
from protlm.recipes.prepare import open_source
from protlm.recipes.pretrain import PretrainConfig
from protlm.report.masking_preview import MaskedChain, MaskedRecord, MaskingPreview
from protlm.schedules import schedules_in
from protlm.training.sources import token_lengths
from protlm.types.batch import Batch, Corrupted
from protlm.types.record import Record, Role
from protlm.types.regions import Mutated, Region, Segment

Say = Callable[[str], None]

PLACES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Training progress at which schedules are written out."""


def preview_masking(
    config: PretrainConfig,
    *,
    model: str | None = None,
    num_records: int = 3,
    num_epochs: int = 20,
    sample: int = 500,
    progress: float = 0.0,
    say: Say = print,
) -> MaskingPreview:
    """Mask some records as training would, and compare asked with observed rates over many epochs.

    Parameters
    ----------
    config
        Its data, masking, corruption, model (for the token layout) and seed count.
    model
        A Run, folder or name whose token layout is used instead.
    num_records
        Records to show.
    num_epochs
        Epochs to draw.
    sample
        Records to draw them for: those with the lowest content keys, which is a fair sample; of several
        corpora by their shares. A file is prepared whole, as training would.
    progress
        Training progress in [0, 1] for schedules, those of shares too.
    say
        Tells the user what happens.

    Raises
    ------
    DataError
        If no record is left, or the policy needs a track that the records lack.
    """
    layout = _layout(config, model)
    records = _fitting(_records(config, layout, sample, progress, say), layout, say)
    batch = collate(flatten_records(records), layout)
    policy = cast(MaskingPolicy, config.masking.build())  # type: ignore[attr-defined]
    draws = [Draw(seed=config.seed, epoch=epoch, progress=progress) for epoch in range(num_epochs)]
    tally, first = _Tally(batch), None
    for draw in draws:
        selection = select(policy, batch, draw)
        corrupted = corrupt(batch, selection, layout, draw=draw, settings=config.corruption)
        tally.add(selection, corrupted.rows)
        first = first or (selection, corrupted)
    assert first is not None
    shown = _masked_records(records[:num_records], batch, *first, layout)
    return MaskingPreview(
        settings=config.model_dump(mode="json", include={"masking", "corruption", "seed"}),
        mask_token=layout.mask,
        progress=progress,
        num_epochs=num_epochs,
        records=shown,
        rates=tally.table(),
        num_records=len(records),
        num_fell_back=tally.num_fell_back / num_epochs,
        are_joint=tally.are_joint,
        schedules={
            name: {place: schedule.at(place) for place in PLACES}
            for name, schedule in schedules_in(config.masking, "masking")
        },
    )


def _layout(config: PretrainConfig, model: str | None) -> TokenLayout:
    """Find the token layout without loading or making weights where that can be."""
    name = model or getattr(config.model, "name", None)
    if name is None:
        with torch.device("meta"):
            return config.model.build(seed=0).layout  # type: ignore[attr-defined]
    for folder in (Path(name), Path(name) / "model"):
        if (folder / FILE_NAME).is_file():
            return TokenLayout.load(folder)
    return load_model(name, device="cpu").layout


def _records(
    config: PretrainConfig, layout: TokenLayout, sample: int, progress: float, say: Say
) -> list[Record]:
    """Take a fair sample of what training would read, of several corpora by their shares at the progress."""
    data = config.data
    with TemporaryDirectory() as folder:
        corpora = [
            open_source(each.source, Path(folder) / str(place), say=say)
            for place, each in enumerate(data.sources)
        ]
        chances = np.ones(1)
        if len(corpora) > 1:
            chances = shares_at([each.share for each in data.sources], progress)
            if data.share_of == "tokens":
                chances = chances / [token_lengths(corpus, layout).mean() for corpus in corpora]
            chances = chances / chances.sum()
        counts = _counts([len(corpus) for corpus in corpora], chances, sample)
        if len(corpora) > 1:
            said = ", ".join(
                f"{corpus.name} {count:,}" for corpus, count in zip(corpora, counts, strict=True)
            )
            say(f"records by the shares at training progress {progress:g}: {said}")
        return [
            corpus.record(int(row))
            for corpus, count in zip(corpora, counts, strict=True)
            for row in np.sort(np.argsort(corpus.keys, kind="stable")[:count])
        ]


def _counts(sizes: Sequence[int], chances: np.ndarray, sample: int) -> list[int]:
    """Give how many records to take of each corpus: at most `sample`, and fewer where one is too small."""
    total = min([sample, *(size / chance for size, chance in zip(sizes, chances, strict=True) if chance > 0)])
    return [
        min(size, max(1, round(total * chance))) if chance > 0 else 0
        for size, chance in zip(sizes, chances.tolist(), strict=True)
    ]


def _fitting(records: list[Record], layout: TokenLayout, say: Say) -> list[Record]:
    limit, counts = layout.max_tokens, record_counts(records, layout)
    fitting = [
        record
        for record, count in zip(records, counts.tolist(), strict=True)
        if limit is None or layout.num_positions(count, len(record.chains)) <= limit
    ]
    if len(fitting) < len(records):
        say(f"{len(records) - len(fitting):,} records left out: over the model's limit of {limit} tokens")
    if not fitting:
        raise DataError(
            "no record is left to preview", hint="give an --input with records that fit the model"
        )
    return fitting


class _Tally:
    """Sums what was asked and what was drawn of residues, by chain, region, segment and mutation."""

    def __init__(self, batch: Batch) -> None:
        self._batch, fine = batch, batch.by_residue or batch
        can = of_residues(maskable(batch), batch)
        self._groupings = [_Grouping(*each, fine, can) for each in _groupings(fine)]
        self.num_fell_back = 0
        self.are_joint = fine is not batch

    def add(self, selection: Selection, rows: torch.Tensor) -> None:
        drawn = torch.zeros(len(self._batch.tokens), dtype=torch.float64)
        drawn[rows] = 1.0
        asked, drawn = (of_residues(each, self._batch).numpy() for each in (selection.probabilities, drawn))
        for grouping in self._groupings:
            grouping.add(asked, drawn)
        self.are_joint |= selection.draw_from is not None
        if selection.fell_back is not None:
            self.num_fell_back += int(selection.fell_back.sum())

    def table(self) -> pl.DataFrame:
        columns = ["group", "name", "n_residues", "asked", "observed", "low", "high"]
        rows = [row for grouping in self._groupings for row in grouping.rows(are_joint=self.are_joint)]
        return pl.DataFrame(rows, schema=columns, orient="row")


class _Grouping:
    """Sums over the residues of each group, such as the regions."""

    def __init__(
        self, name: str, names: dict[int, str], codes: torch.Tensor, batch: Batch, can: torch.Tensor
    ) -> None:
        self._name, self._names, self._size = name, names, max(names) + 1
        self._can = can.numpy()
        self._code = codes.numpy().astype(np.int64)[self._can]
        self._cell = batch.sequence_index.numpy()[self._can] * self._size + self._code
        self._num_cells = batch.num_sequences * self._size
        self._n, self._asked, self._observed, self._squares = np.zeros((4, self._size))

    def add(self, probabilities: np.ndarray, drawn: np.ndarray) -> None:
        asked, observed = probabilities[self._can], drawn[self._can]
        self._n += np.bincount(self._code, minlength=self._size)
        self._asked += np.bincount(self._code, weights=asked, minlength=self._size)
        self._observed += np.bincount(self._code, weights=observed, minlength=self._size)
        off = np.bincount(self._cell, weights=observed - asked, minlength=self._num_cells)
        self._squares += (off.reshape(-1, self._size) ** 2).sum(axis=0)

    def rows(self, *, are_joint: bool) -> Iterator[tuple[str | int | float, ...]]:
        for code, name in self._names.items():
            n, observed = int(self._n[code]), self._observed[code]
            if n:
                low, high = self._joint_interval(code) if are_joint else _wilson(int(observed), n)
                yield self._name, name, n, self._asked[code] / n, observed / n, low, high

    def _joint_interval(self, code: int) -> tuple[float, float]:
        """Residues of one record are one draw here, records and epochs are independent."""
        n, rate = self._n[code], self._observed[code] / self._n[code]
        half = 1.959964 * float(self._squares[code]) ** 0.5 / n
        return max(0.0, rate - half), min(1.0, rate + half)


def _wilson(successes: int, trials: int) -> tuple[float, float]:
    interval = binomtest(successes, trials).proportion_ci(method="wilson")
    return interval.low, interval.high


def _groupings(batch: Batch) -> Iterator[tuple[str, dict[int, str], torch.Tensor]]:
    yield "all", {0: "all"}, torch.zeros_like(batch.chain_index)
    roles = torch.zeros_like(batch.chain_index) if batch.roles is None else batch.roles.to(torch.int32)
    names = {int(role): role.name.lower() for role in Role if role is not Role.OTHER}
    names |= {len(Role) + index: f"chain{index + 1}" for index in range(int(batch.chain_index.max()) + 1)}
    yield "chain", names, torch.where(roles > 0, roles, len(Role) + batch.chain_index)
    for track, codes in (("region", Region), ("segment", Segment), ("mutated", Mutated)):
        if track in batch.tracks:
            known = {
                int(code): code.name.lower() if track == "mutated" else code.name for code in codes if code
            }
            yield track, {**known, 0: "not known"}, batch.tracks[track]


def _masked_records(
    records: Sequence[Record], batch: Batch, selection: Selection, corrupted: Corrupted, layout: TokenLayout
) -> tuple[MaskedRecord, ...]:
    is_selected = torch.zeros(len(batch.tokens), dtype=torch.bool)
    is_selected[corrupted.rows] = True
    fine = batch.by_residue or batch
    under = torch.arange(len(batch.tokens)) if batch.residue_tokens is None else batch.residue_tokens
    shown = []
    for number, record in enumerate(records):
        chains = []
        for place, (name, chain) in enumerate(zip(record.chain_names, record.chains, strict=True)):
            own = under[(fine.sequence_index == number) & (fine.chain_index == place)]
            became = tuple(layout.tokens[token] for token in corrupted.batch.tokens[own].tolist())
            regions = chain.tracks.get("region", np.zeros(len(chain), dtype=np.uint8))
            probabilities = selection.probabilities[own].numpy()
            subwords = {}
            if not layout.is_residue_level:
                subwords["tokens"] = tuple(layout.tokens[token] for token in batch.tokens[own].tolist())
                subwords["starts"] = batch.residue_start[own].numpy()
            chains.append(
                MaskedChain(
                    name, chain.residues, regions, probabilities, is_selected[own].numpy(), became, **subwords
                )
            )
        shown.append(MaskedRecord(record.id, tuple(chains)))
    return tuple(shown)


def preview_config(path: Path | None, source: str | None, overrides: Sequence[str]) -> PretrainConfig:
    """Read the settings of a training, with the records to preview in place of its data.

    Parameters
    ----------
    path
        YAML of `pretrain`; a file with `masking` alone will do.
    source
        A corpus or file; that of the settings where not said.
    overrides
        ``KEY=VALUE``.

    Raises
    ------
    ConfigError
        If the settings are wrong, or neither they nor `source` name any data.
    """
    given = [f"data.train={source}", "data.eval=null"] if source is not None else []
    try:
        return PretrainConfig.load(path, [*overrides, *given])
    except ConfigError as error:
        if source is None and "data: Field required" in str(error):
            raise ConfigError(
                "there are no records to preview", hint="pass --input with a corpus or a file"
            ) from None
        raise


def as_plain(preview: MaskingPreview) -> dict[str, Any]:
    """Give a preview as plain values, for JSON.

    Parameters
    ----------
    preview
        From `preview_masking`.
    """
    return {
        **preview.settings,
        "progress": preview.progress,
        "epochs": preview.num_epochs,
        "sampled_records": preview.num_records,
        "fell_back": preview.num_fell_back,
        "schedules": {name: dict(values) for name, values in preview.schedules.items()},
        "rates": preview.rates.to_dicts(),
        "records": [
            {
                "id": record.id,
                "chains": [
                    {
                        "chain": chain.name,
                        "residues": chain.residues,
                        "selected": np.flatnonzero(chain.selected).tolist(),
                        "became": [chain.became[index] for index in np.flatnonzero(chain.selected)],
                        "probabilities": [round(value, 6) for value in chain.probabilities.tolist()],
                    }
                    for chain in record.chains
                ],
            }
            for record in preview.records
        ],
    }
