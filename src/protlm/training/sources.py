"""The corpora a model is trained on, as one supply of batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from protlm.data.corpus import Corpus
from protlm.data.crops import Crop
from protlm.data.flat import FlatRecords
from protlm.data.layout import TokenLayout
from protlm.data.mixture import DrawnStep, MixtureSampler, ShareOf
from protlm.data.sampling import StepSampler
from protlm.data.token_counts import corpus_counts
from protlm.errors import ConfigError
from protlm.schedules import Schedule
from protlm.training.loop import TrainingConfig
from protlm.types.record import TRACK_DTYPES


@dataclass(frozen=True)
class Source:
    """One corpus to train on."""

    name: str
    corpus: Corpus
    rows: np.ndarray
    """Which of its records, int64 ``[n]``."""
    share: float | Schedule | None = None
    """Share of what is drawn; `None` is what the others leave of 1."""


class Sources:
    """Gives the records of each step out of one corpus or several.

    Parameters
    ----------
    sources
        At least one.
    layout
        The model's, for the tokens of each record.
    settings
        Token budget and number of steps.
    seed
        Of the order, and of the windows of long records.
    share_of
        Whether shares count records or tokens.
    crop
        Cuts records that are too long, otherwise in each epoch.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        layout: TokenLayout,
        settings: TrainingConfig,
        seed: int,
        share_of: ShareOf = "records",
        crop: Crop | None = None,
    ) -> None:
        self.sources, self.seed, self.crop = list(sources), seed, crop
        if settings.step_records is not None and len(sources) > 1:
            raise ConfigError(
                "training.step_records counts the records of one corpus, and there are several",
                hint="set training.step_tokens instead",
            )
        self.lengths = [token_lengths(each.corpus, layout, crop=crop)[each.rows] for each in sources]
        """Tokens per record, special tokens included, by source."""
        self.samplers = [
            StepSampler(
                lengths=lengths if settings.step_records is None else np.ones_like(lengths),
                keys=each.corpus.keys[each.rows],
                step_tokens=settings.step_records or settings.step_tokens,
                seed=seed,
                weights=None if each.corpus.sample_weights is None else each.corpus.sample_weights[each.rows],
            )
            for each, lengths in zip(sources, self.lengths, strict=True)
        ]
        self.mixture = None
        if len(self.sources) > 1:
            self.mixture = MixtureSampler(
                self.samplers,
                [each.share for each in sources],
                step_tokens=settings.step_tokens,
                max_steps=settings.max_steps,
                seed=seed,
                share_of=share_of,
            )
        names = {name for each in sources for name in each.corpus.track_names}
        self._tracks = tuple(name for name in TRACK_DTYPES if name in names)

    @property
    def num_records(self) -> int:
        """Records that are trained on."""
        return sum(len(each.rows) for each in self.sources)

    @property
    def num_tokens(self) -> int:
        """Tokens of an epoch, special tokens included; the expected number where records have weights."""
        pairs = zip(self.lengths, self.samplers, strict=True)
        return sum(round(float((lengths * sampler.chances).sum())) for lengths, sampler in pairs)

    def steps(self, first_step: int) -> Iterator[DrawnStep]:
        """Give the records of each step from `first_step` on, for ever.

        Parameters
        ----------
        first_step
            0-based.
        """
        if self.mixture is not None:
            yield from self.mixture.steps(first_step)
            return
        for step, epoch, rows in self.samplers[0].steps(first_step):
            yield DrawnStep(step, np.zeros_like(rows), np.full_like(rows, epoch), rows)

    def lengths_of(self, drawn: DrawnStep) -> np.ndarray:
        """Give the tokens of each record of a step.

        Parameters
        ----------
        drawn
            From `steps`.
        """
        lengths = np.zeros(len(drawn.rows), dtype=np.int64)
        for number, own in enumerate(self.lengths):
            is_its = drawn.source == number
            lengths[is_its] = own[drawn.rows[is_its]]
        return lengths

    def gather(self, drawn: DrawnStep, part: np.ndarray) -> tuple[FlatRecords, int | np.ndarray]:
        """Lay some records of a step end to end, source by source.

        Parameters
        ----------
        drawn
            From `steps`.
        part
            Which of its records.

        Returns
        -------
        FlatRecords, int or numpy.ndarray
            The records, and the epoch of each, or of all.
        """
        if self.mixture is None:
            only, epoch = self.sources[0], int(drawn.epoch[0])
            return self._cropped(only.corpus.gather(only.rows[drawn.rows[part]]), epoch), epoch
        part = part[np.argsort(drawn.source[part], kind="stable")]
        source, pieces = drawn.source[part], []
        for number in np.unique(source).tolist():
            its = self.sources[number]
            records = its.corpus.gather(its.rows[drawn.rows[part[source == number]]])
            pieces.append(self._with_all_tracks(records))
        return self._cropped(join_flat(pieces), drawn.epoch[part]), drawn.epoch[part]

    def facts(self, num_steps: int) -> dict[str, float]:
        """Give what was drawn from each corpus of a mixture so far, for the log; nothing for one corpus.

        Parameters
        ----------
        num_steps
            Steps that are done.
        """
        if self.mixture is None:
            return {}
        names = [each.name for each in self.sources]
        records = self.mixture.num_records[:num_steps].sum(axis=0).tolist()
        tokens = self.mixture.num_tokens[:num_steps].sum(axis=0).tolist()
        facts: dict[str, float] = {}
        if any(isinstance(each.share, Schedule) for each in self.sources):
            chances = self.mixture.chances(max(0, num_steps - 1)).tolist()
            facts |= {f"share.{name}": chance for name, chance in zip(names, chances, strict=True)}
        facts |= {f"records.{name}": count for name, count in zip(names, records, strict=True)}
        return facts | {f"tokens.{name}": count for name, count in zip(names, tokens, strict=True)}

    def table(self, num_steps: int) -> pl.DataFrame | None:
        """Table what was drawn from each corpus of a mixture; `None` for one corpus.

        Parameters
        ----------
        num_steps
            Steps that are done.

        Returns
        -------
        polars.DataFrame or None
            ``source, asked_share, records, tokens, record_share, token_share, epochs``; `asked_share` is
            the mean chance over the records that were drawn, of which steps have more while they are short.
        """
        if self.mixture is None:
            return None
        records = self.mixture.num_records[:num_steps].sum(axis=0)
        tokens = self.mixture.num_tokens[:num_steps].sum(axis=0)
        chances = np.array([self.mixture.chances(step) for step in range(num_steps)])
        drawn = self.mixture.num_records[:num_steps].sum(axis=1)
        return pl.DataFrame(
            {
                "source": [each.name for each in self.sources],
                "asked_share": drawn @ chances / drawn.sum(),
                "records": records,
                "tokens": tokens,
                "record_share": records / records.sum(),
                "token_share": tokens / tokens.sum(),
                "epochs": records / np.array([sampler.chances.sum() for sampler in self.samplers]),
            }
        )

    def _cropped(self, records: FlatRecords, epoch: int | np.ndarray) -> FlatRecords:
        if self.crop is None:
            return records
        return self.crop.cut(records, seed=self.seed, epoch=epoch)

    def _with_all_tracks(self, records: FlatRecords) -> FlatRecords:
        """Give zeros for the tracks that only other corpora have."""
        size = len(records.residues)
        empty = {
            name: np.zeros(size, dtype=TRACK_DTYPES[name])
            for name in self._tracks
            if name not in records.tracks
        }
        return replace(records, tracks={**records.tracks, **empty}) if empty else records


def join_flat(pieces: Sequence[FlatRecords]) -> FlatRecords:
    """Lay flat records that have the same tracks one behind the other.

    Parameters
    ----------
    pieces
        At least one.
    """
    if len(pieces) == 1:
        return pieces[0]
    joined = {
        name: np.concatenate([getattr(piece, name) for piece in pieces])
        for name in vars(pieces[0])
        if name != "tracks"
    }
    tracks = {name: np.concatenate([piece.tracks[name] for piece in pieces]) for name in pieces[0].tracks}
    return FlatRecords(**joined, tracks=tracks)


def token_lengths(corpus: Corpus, model_layout: TokenLayout, *, crop: Crop | None = None) -> np.ndarray:
    """Give the tokens of each record of a corpus, special tokens included.

    Parameters
    ----------
    corpus
        Any corpus.
    model_layout
        The model's.
    crop
        Longer records count as cut, and as having all of their chains; with sub-words, whose number in a
        window is not known before it is drawn, as having so many tokens as their share of the residues.
    """
    counts = corpus_counts(corpus, model_layout)
    if crop is not None:
        kept = np.minimum(corpus.lengths, crop.limits(corpus.num_chains_per_record))
        counts = -(-counts * kept // corpus.lengths)
    return counts + model_layout.num_specials(corpus.num_chains_per_record)
