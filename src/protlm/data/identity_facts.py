"""How near test sequences are to training, as facts and in words."""

from collections.abc import Mapping

import numpy as np
import polars as pl

IDENTITIES = (0.3, 0.5, 0.9, 1.0)
"""Shares of test sequences are given from each of these identities on."""
_SMALL = 1e-9


def identity_facts(nearest: pl.DataFrame) -> dict[str, dict[str, float]]:
    """Sum up by chain how near test sequences are to training.

    Parameters
    ----------
    nearest
        ``chain, identity`` in [0, 1], ``train_id`` (null where nothing was found); a row per test sequence.

    Returns
    -------
    dict
        By chain: ``sequences, median, maximum, none`` (sequences with nothing found) and the share from each
        of `IDENTITIES` on, such as ``from_0.3``.
    """
    found = {}
    for (name,), rows in nearest.group_by("chain", maintain_order=True):
        identity = rows["identity"].to_numpy()
        found[str(name)] = {
            "sequences": len(rows),
            "median": float(np.median(identity)),
            "maximum": float(identity.max()),
            "none": int(rows["train_id"].is_null().sum()),
            **{f"from_{least:g}": float((identity >= least - _SMALL).mean()) for least in IDENTITIES},
        }
    return found


def identity_line(name: str, facts: Mapping[str, float]) -> str:
    """Say the facts of one chain.

    Parameters
    ----------
    name
        Of the chain.
    facts
        From `identity_facts`.

    Examples
    --------
    >>> table = pl.DataFrame({"chain": ["heavy"] * 2, "identity": [0.4, 0.9], "train_id": ["a", "b"]})
    >>> identity_line("heavy", identity_facts(table)["heavy"]).split("; ")[0]
    'best identity of heavy to training: median 0.65, maximum 0.90'
    """
    shares = ", ".join(f"≥ {least:.0%} {_share(facts[f'from_{least:g}'])}" for least in IDENTITIES[:-1])
    text = f"best identity of {name} to training: median {facts['median']:.2f}, "
    text += f"maximum {facts['maximum']:.2f}; {shares}, copies {_share(facts['from_1'])}"
    none = f"; no alignment {facts['none']:,.0f} of {facts['sequences']:,.0f}"
    return f"{text}{none if facts['none'] else ''}"


def _share(value: float) -> str:
    """Write a share without a decimal unless it needs one to be told from none or all."""
    return f"{value:.0%}" if value in (0, 1) or 0.01 <= value <= 0.99 else f"{value:.1%}"
