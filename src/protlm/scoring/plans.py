"""Scoring plans: which contexts a set of variants needs, and how reads become scores.

Higher means fitter. All logarithms are natural.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from protlm.data.layout import TokenLayout
from protlm.errors import ConfigError, DataError
from protlm.registry import Registry
from protlm.scoring.contexts import MASK, ContextList, Runs
from protlm.types.record import Record
from protlm.types.variant import Variant

plans = Registry(
    "plan",
    {
        "wildtype_marginal": "protlm.scoring.marginals:WildtypeMarginal",
        "masked_marginal": "protlm.scoring.marginals:MaskedMarginal",
        "mutant_marginal": "protlm.scoring.marginals:MutantMarginal",
        "pseudo_log_likelihood": "protlm.scoring.pseudo_likelihood:PseudoLogLikelihood",
        "one_fell_swoop": "protlm.scoring.pseudo_likelihood:OneFellSwoop",
        "pppl_legacy": "protlm.scoring.pseudo_likelihood:LegacyPseudoPerplexity",
    },
)
"""To add one: a class with what `Plan` asks for, and a line here. The engine stays as it is."""


@dataclass(frozen=True)
class Terms:
    """Scores as weighted sums of log-probabilities: Σ ``weight * read[row, token]`` over a variant's terms.

    Where `minus` is there, that of another token in the same row is subtracted in every term.
    Terms of variant ``num_variants`` are the reference: their sum is subtracted from every variant that
    has a term. A variant without terms, such as the wild type of a marginal, scores 0.
    """

    variant: np.ndarray
    """Which variant a term belongs to, integers ``[terms]``."""
    row: np.ndarray
    """Which read it uses."""
    token: np.ndarray
    """Token id whose log-probability counts."""
    weight: np.ndarray
    """float."""
    num_variants: int
    transform: Callable[[np.ndarray], np.ndarray] | None = None
    """Of the log-probabilities, before they are weighted."""
    minus: np.ndarray | None = None
    """Token id whose log-probability is subtracted."""

    @classmethod
    def build(
        cls,
        entries: Sequence[tuple[int, int, int, float]],
        num_variants: int,
        *,
        transform: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> "Terms":
        """Make arrays of ``(variant, row, token, weight)``.

        Parameters
        ----------
        entries
            One per term.
        num_variants
            Variants to score.
        transform
            Of the log-probabilities.
        """
        columns = list(zip(*entries, strict=True)) or [()] * 4
        variant, row, token = (np.array(columns[place], dtype=np.int64) for place in range(3))
        return cls(variant, row, token, np.array(columns[3], dtype=np.float64), num_variants, transform)

    def scores(self, reads: np.ndarray) -> np.ndarray:
        """Give one score per variant, float64.

        Parameters
        ----------
        reads
            Log-probabilities ``[rows, v]`` from the engine.
        """
        values = reads[self.row, self.token].astype(np.float64)
        if self.transform is not None:
            values = self.transform(values)
        if self.minus is not None:
            values -= reads[self.row, self.minus]
        values *= self.weight
        sums = np.bincount(self.variant, weights=values, minlength=self.num_variants + 1)
        has_terms = np.bincount(self.variant, minlength=self.num_variants + 1)[:-1] > 0
        return np.where(has_terms, sums[:-1] - sums[-1], 0.0)

    def num_masked_contexts(self, runs: Runs) -> np.ndarray:
        """Count the distinct masked contexts of its own that the score of each variant rests on.

        Parameters
        ----------
        runs
            Of the contexts that the reads are of.

        Returns
        -------
        numpy.ndarray
            int64 ``[num_variants]``; where a record is cut, pieces count.
        """
        if not runs.is_masked.any():
            return np.zeros(self.num_variants, dtype=np.int64)
        run, counts = runs.runs_of(self.row)
        pairs = np.repeat(self.variant.astype(np.int64), counts) * len(runs.base) + run
        pairs = np.sort(pairs[runs.is_masked[run]])
        variant = (pairs // len(runs.base))[np.diff(pairs, prepend=-1) > 0]
        return np.bincount(variant, minlength=self.num_variants)[: self.num_variants]


Sharing = Literal["all", "same_sites", "none"]


class Plan(Protocol):
    """What the recipes need of a plan."""

    accepts_indels: bool
    """Whether it scores variants of another length than the wild type."""

    @property
    def sharing(self) -> Sharing:
        """Which variants share contexts: all, a few for each site; those of the same sites; or none."""
        ...

    def num_reads(self, variant: Variant, num_residues: int, /) -> int:
        """Count what a variant reads, wild type not counted.

        Parameters
        ----------
        variant
            To score.
        num_residues
            Of the whole record.
        """
        ...

    def prepare(
        self, contexts: ContextList, base: int, chain: int, variants: Sequence[Variant], layout: TokenLayout
    ) -> Terms:
        """Add the contexts that the variants need, and say how to put their reads together.

        Parameters
        ----------
        contexts
            Filled.
        base, chain
            The wild type.
        variants
            Checked against it.
        layout
            The model's.
        """
        ...


def make_plan(name: str, *, fill: str | None = None) -> Plan:
    """Make the plan of a name.

    Parameters
    ----------
    name
        In the registry `plans`, or ``"package.module:Name"``.
    fill
        What stands at the other mutated sites, for a plan that asks for it.

    Raises
    ------
    ConfigError
        If there is no such plan, or it takes no `fill`.
    """
    plan = plans.get(name)
    if fill is None:
        return plan()
    if not hasattr(plan, "fill"):
        raise ConfigError(
            f"--fill {fill} goes with masked_marginal, not with {name}", hint="leave --fill out"
        )
    return plan(fill=fill)


def check_indels(plan: Plan, variants: Sequence[Variant]) -> None:
    """Refuse insertions and deletions where a plan cannot score them.

    Parameters
    ----------
    plan
        Of `make_plan`.
    variants
        To score.

    Raises
    ------
    DataError
        With the plans that can.
    """
    indels = sum(variant.is_indel for variant in variants)
    if indels and not plan.accepts_indels:
        raise DataError(
            f"{indels:,} of {len(variants):,} variants have insertions or deletions, and "
            f"{type(plan).__name__} compares letters at the same site",
            hint="pass --plan pseudo_log_likelihood or one_fell_swoop",
        )


def every_residue_masked(contexts: ContextList, base: int) -> np.ndarray:
    """Ask for each residue of a record masked by itself; give the result rows, chain by chain.

    Parameters
    ----------
    contexts
        Filled.
    base
        Index of the record.
    """
    record: Record = contexts.bases[base]
    rows = [
        contexts.read(contexts.context(base, [(chain_number, index, MASK)]), chain_number, index)
        for chain_number, chain in enumerate(record.chains)
        for index in range(len(chain))
    ]
    return np.array(rows, dtype=np.int64)
