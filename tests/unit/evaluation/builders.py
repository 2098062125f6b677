"""Per-residue tables and antibodies written by hand."""

from typing import Any

import numpy as np
import polars as pl

from protlm.evaluation.residues import SCHEMA
from protlm.types.record import Chain, Record, Role
from protlm.types.regions import REGIONS, Mutated, Segment

PLAIN = {
    "group": None,
    "model": "m",
    "chain": "heavy",
    "position": "1",
    "index": 0,
    "region": "FR1",
    "segment": "",
    "residue": "A",
    "mutated": None,
    "logprob": -1.0,
    "predicted": "A",
    "predicted_logprob": -0.5,
    "entropy": 0.0,
    "germline": None,
    "germline_logprob": None,
}


def residue_rows(*rows: dict[str, Any]) -> pl.DataFrame:
    """Give a table with `SCHEMA`; what a row does not say is as in `PLAIN`, its group is its id."""
    filled = [{**PLAIN, **row} for row in rows]
    return pl.DataFrame([{**row, "group": row["group"] or row["id"]} for row in filled], schema=SCHEMA)


def antibody(
    name: str, heavy: str, light: str = "", *, group: str = "", locus: str = "K", **changes
) -> Record:
    """Give an antibody whose chains have a residue of each region in turn, and mutations where told.

    ``heavy_germline`` and ``light_germline`` hold a germline of the same length; residues that differ are
    mutated, and all are of segment V.
    """
    chains = [_chain(heavy, "H", changes.get("heavy_germline"))]
    if light:
        chains.append(_chain(light, locus, changes.get("light_germline")))
    return Record(name, tuple(chains), group=group)


def _chain(residues: str, locus: str, germline: str | None) -> Chain:
    length = len(residues)
    regions = np.sort(np.resize(np.array(REGIONS, dtype=np.uint8), length))
    tracks = {"region": regions, "position": (np.arange(length, dtype=np.uint16) + 1) << 8}
    if germline:
        differs = np.array([a != b for a, b in zip(residues, germline, strict=True)])
        tracks["germline"] = np.frombuffer(germline.encode(), dtype=np.uint8)
        tracks["mutated"] = np.where(differs, Mutated.MUTATED, Mutated.GERMLINE).astype(np.uint8)
        tracks["segment"] = np.full(length, Segment.V, dtype=np.uint8)
    role = Role.HEAVY if locus == "H" else Role.LIGHT
    return Chain(residues, role=role, locus=locus, tracks=tracks)
