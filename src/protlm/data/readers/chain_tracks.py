"""The tracks of one chain of a table row, as the policy wants them."""

from collections import Counter
from collections.abc import Mapping

import numpy as np

from protlm.data.readers.layouts import REGION_KINDS
from protlm.data.readers.policy import InputPolicy
from protlm.data.readers.tracks import (
    MUTATED_CODES,
    SEGMENT_CODES,
    germline_track,
    mask_codes,
    mutated_of_germline,
    regions_of_mask,
    regions_of_strings,
)
from protlm.types.alphabet import ResidueError
from protlm.types.regions import REGIONS, Mutated, Region, Segment

_KIND_OF_REGION = dict(zip(REGIONS, REGION_KINDS, strict=True))
_CDRS = (Region.CDR1, Region.CDR2, Region.CDR3)

_TRACK_KINDS = frozenset([*REGION_KINDS, "junction", "cdr_mask", "segment", "nongermline", "germline"])

Cells = Mapping[str, str]
"""Cells by what they hold; empty where there is no value."""


def chain_tracks(
    cells: Cells,
    columns: Mapping[str, str],
    text: str,
    residues: str,
    policy: InputPolicy,
    counts: Counter[str],
) -> dict[str, np.ndarray]:
    """Give the tracks that the columns of a row hold.

    Parameters
    ----------
    cells
        By what they hold, a key of a layout's `stems`.
    columns
        Column names by the same keys, for messages.
    text
        The sequence as it is in the file.
    residues
        The chain's.
    policy
        What to do with regions that do not fit.
    counts
        Where to count what is left out.

    Raises
    ------
    ResidueError
        If a mask does not fit, or regions do not where the policy demands them.
    """
    tracks: dict[str, np.ndarray] = {}
    if not _TRACK_KINDS.intersection(cells) and policy.regions != "columns":
        return tracks
    if policy.regions != "immunum":
        _add_regions(tracks, cells, columns, text, residues, policy, counts)
    if segments := cells.get("segment"):
        tracks["segment"] = mask_codes(
            segments.upper(), SEGMENT_CODES, columns["segment"], text, len(residues)
        )
    if germline := cells.get("germline"):
        _add_germline(tracks, germline, cells, columns, residues, counts)
    if nongermline := cells.get("nongermline"):
        _add_mutated(tracks, nongermline, columns, text, residues, counts)
    return tracks


def _add_regions(
    tracks: dict[str, np.ndarray],
    cells: Cells,
    columns: Mapping[str, str],
    text: str,
    residues: str,
    policy: InputPolicy,
    counts: Counter[str],
) -> None:
    try:
        regions = _regions(cells, columns, text, residues)
    except ResidueError as error:
        if policy.regions == "columns":
            raise
        counts[f"{error.reason}; left out, to be numbered instead"] += 1
        return
    if regions is not None:
        tracks["region"] = regions
    elif policy.regions == "columns":
        raise ResidueError(
            "the columns with regions are empty",
            hint="pass --regions auto to number such rows instead",
            reason="no regions in the columns",
        )


def _regions(cells: Cells, columns: Mapping[str, str], text: str, residues: str) -> np.ndarray | None:
    """Take regions from strings, from a mask, or from both where they agree on the CDRs."""
    strings = {
        region: (columns[kind], cells[kind]) for region, kind in _KIND_OF_REGION.items() if cells.get(kind)
    }
    junction = cells.get("junction", "")
    if Region.CDR3 not in strings and len(junction) > 2:
        strings[Region.CDR3] = (columns["junction"], junction.strip()[1:-1])
    of_strings = regions_of_strings(strings, residues) if strings else None
    if not (mask := cells.get("cdr_mask")):
        return of_strings
    of_mask = regions_of_mask(mask, columns["cdr_mask"], text, len(residues))
    if of_strings is None:
        return of_mask
    for region in _CDRS:
        if region in strings and ((of_mask == region) != (of_strings == region)).any():
            raise ResidueError(
                f"columns '{columns['cdr_mask']}' and '{strings[region][0]}' do not agree",
                hint="mend one, leave it out, or pass --regions immunum to number instead",
                reason=f"columns '{columns['cdr_mask']}' and '{strings[region][0]}' do not agree",
            )
    return np.where(of_strings == Region.NONE, of_mask, of_strings).astype(np.uint8)


def _add_germline(
    tracks: dict[str, np.ndarray],
    germline: str,
    cells: Cells,
    columns: Mapping[str, str],
    residues: str,
    counts: Counter[str],
) -> None:
    alignment = cells.get("alignment") or residues
    try:
        track = germline_track(germline, alignment, columns["germline"], residues)
    except ResidueError as error:
        counts[f"{error.reason}, left out"] += 1
        return
    tracks["germline"] = track
    tracks["mutated"] = mutated_of_germline(track, residues)


def _add_mutated(
    tracks: dict[str, np.ndarray],
    mask: str,
    columns: Mapping[str, str],
    text: str,
    residues: str,
    counts: Counter[str],
) -> None:
    column = columns["nongermline"]
    mutated = mask_codes(mask, MUTATED_CODES, column, text, len(residues))
    if "segment" in tracks:  # a non-templated residue has no germline to differ from
        mutated = np.where(tracks["segment"] == Segment.N, Mutated.NONE, mutated).astype(np.uint8)
        tracks["mutated"] = mutated
    elif "germline" in tracks:
        counts[f"'{column}' left out, as '{columns['germline']}' tells which residues are mutated"] += 1
    else:
        counts[f"'{column}' left out, as no gene segments tell which residues are N"] += 1
