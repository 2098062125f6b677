"""Embeddings kept on disk by what they are of and what made them, so that a frozen encoder runs once.

A store is a folder of immutable segments, each a safetensors file with `vectors` float32 ``[rows, d]``,
`starts` int64 ``[n + 1]`` and `keys` uint8 ``[n, 20]``. A segment is written under another name and moved
into place, so that any number of processes may add to one store, and an interrupted one leaves nothing
half-written.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from protlm.data.backbones import BackboneSet, backbone_digest
from protlm.errors import DataError
from protlm.types.structure import Backbone

StorePooling = Literal["residues", "mean"]
_KEY_BYTES = 20
_SEGMENT_RESIDUES = 1 << 14
"""Residues that are embedded before they are written."""


class EmbeddingStore:
    """Float32 embeddings of one encoder, by key; read through a memory map.

    Parameters
    ----------
    folder
        Where stores are; made when something is added.
    encoder
        Whatever the vectors depend on besides the input: a hash of weights and settings.
    pooling
        ``"residues"``: ``[residues, d]`` under each key; ``"mean"``: ``[d]``.

    Examples
    --------
    >>> import tempfile
    >>> store = EmbeddingStore(Path(tempfile.mkdtemp()), "an encoder", "mean")
    >>> store.add({"ab" * 20: np.ones(3, np.float32)})
    >>> "ab" * 20 in store, "cd" * 20 in store, store["ab" * 20].tolist()
    (True, False, [1.0, 1.0, 1.0])
    """

    def __init__(self, folder: Path, encoder: str, pooling: StorePooling = "residues") -> None:
        self.pooling: StorePooling = pooling
        self.folder = folder / hashlib.sha256(f"1 {encoder} {pooling}".encode()).hexdigest()[:40]
        self._places: dict[str, tuple[np.ndarray, int, int]] = {}
        self._read: set[str] = set()
        self.dim: int | None = None
        """Of the vectors; `None` while there are none."""
        self.refresh()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __getitem__(self, key: str) -> np.ndarray:
        vectors, start, stop = self._places[key]
        return vectors[start] if self.pooling == "mean" else vectors[start:stop]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def refresh(self) -> None:
        """Find what other processes have added since; segments that are damaged are removed."""
        for path in sorted(self.folder.glob("*.safetensors")):
            if path.name not in self._read:
                self._open(path)

    def add(self, embeddings: Mapping[str, np.ndarray]) -> None:
        """Write embeddings as one segment; those that are there already are passed over.

        Parameters
        ----------
        embeddings
            By key, 40 hexadecimal digits: ``[residues, d]``, or ``[d]`` where the pooling is the mean.

        Raises
        ------
        DataError
            If one has another shape than this store's, or a number that is none.
        """
        from safetensors.numpy import save_file

        new = {key: np.asarray(each, dtype=np.float32) for key, each in embeddings.items() if key not in self}
        if not new:
            return
        for key, each in new.items():
            self._check(key, each)
        rows = [np.atleast_2d(each) for each in new.values()]
        tensors = {
            "vectors": np.concatenate(rows),
            "starts": np.cumsum([0, *(len(each) for each in rows)], dtype=np.int64),
            "keys": np.array([list(bytes.fromhex(key)) for key in new], dtype=np.uint8),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{hashlib.sha256(' '.join(new).encode()).hexdigest()[:40]}.safetensors"
        part = path.with_suffix(f".part-{os.getpid()}")
        save_file(tensors, part, metadata={"pooling": self.pooling})
        part.replace(path)
        self._open(path)

    def _check(self, key: str, each: np.ndarray) -> None:
        dim = self.dim or each.shape[-1]
        if each.ndim != (1 if self.pooling == "mean" else 2) or each.shape[-1] != dim:
            raise DataError(
                f"an embedding of shape {list(each.shape)} under {key[:12]}…, in a store of {self.pooling} "
                f"with {dim} numbers each",
                hint="one store holds the vectors of one encoder and one pooling",
            )
        if not np.isfinite(each).all():
            raise DataError(
                f"the embedding under {key[:12]}… has numbers that are none", hint="such are not kept"
            )

    def _open(self, path: Path) -> None:
        """Map a segment, or remove it: it is a copy of what can be computed."""
        try:
            vectors, starts, keys = _map(path)
        except FileNotFoundError:
            return
        except (ValueError, KeyError, OSError):
            with contextlib.suppress(OSError):
                path.unlink()
            return
        self._read.add(path.name)
        self.dim = vectors.shape[1]
        for row, key in enumerate(keys):
            place = (vectors, int(starts[row]), int(starts[row + 1]))
            self._places.setdefault(key.tobytes().hex(), place)


def _map(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give vectors by memory map, starts and keys of a segment."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > path.stat().st_size:
            raise ValueError("cut short")
        header = json.loads(file.read(size))
    begin = 8 + size
    last = max(each["data_offsets"][1] for name, each in header.items() if name != "__metadata__")
    if path.stat().st_size != begin + last:
        raise ValueError("cut short")

    def tensor(name: str, kind: str) -> np.ndarray:
        start, shape = begin + header[name]["data_offsets"][0], tuple(header[name]["shape"])
        return np.memmap(path, dtype=kind, mode="r", offset=start, shape=shape)

    vectors, starts, keys = tensor("vectors", "<f4"), tensor("starts", "<i8"), tensor("keys", "u1")
    if len(starts) != len(keys) + 1 or starts[-1] != len(vectors) or keys.shape[1] != _KEY_BYTES:
        raise ValueError("not a segment")
    return vectors, np.array(starts), np.array(keys)


def stored_embeddings(
    backbones: Sequence[Backbone],
    store: EmbeddingStore,
    embed: Callable[[Sequence[Backbone]], Sequence[np.ndarray]],
    *,
    on_done: Callable[[int], None] | None = None,
) -> list[np.ndarray]:
    """Give the embedding of each backbone; only those that the store lacks are computed, each content once.

    Parameters
    ----------
    backbones
        Any, such as a `BackboneSet`.
    store
        Of the encoder that `embed` is.
    embed
        Gives float32 ``[residues, d]`` for each of some backbones. Where the store's pooling is the mean,
        that over resolved residues is kept.
    on_done
        Called with the number of backbones finished.

    Returns
    -------
    list of numpy.ndarray
        Read-only maps of the store's files.

    Raises
    ------
    DataError
        If an embedding has not one row for each residue, or a number that is none.
    """
    own = backbones.digests if isinstance(backbones, BackboneSet) else tuple(map(backbone_digest, backbones))
    missing = [row for key, row in {key: row for row, key in enumerate(own)}.items() if key not in store]
    if on_done is not None:
        on_done(len(own) - len(missing))
    waiting: list[int] = []
    total = 0
    for row in missing:
        waiting.append(row)
        total += len(backbones[row])
        if total >= _SEGMENT_RESIDUES or row == missing[-1]:
            some = [backbones[each] for each in waiting]
            found = list(embed(some))
            pairs = zip(waiting, some, found, strict=True)
            store.add({own[each]: _kept(one, vectors, store.pooling) for each, one, vectors in pairs})
            if on_done is not None:
                on_done(len(waiting))
            waiting, total = [], 0
    return [store[key] for key in own]


def _kept(backbone: Backbone, vectors: np.ndarray, pooling: StorePooling) -> np.ndarray:
    if vectors.ndim != 2 or len(vectors) != len(backbone):
        raise DataError(
            f"the encoder gives an embedding of shape {list(vectors.shape)} for backbone '{backbone.id}' of "
            f"{len(backbone):,} residues",
            hint="expected a row for each residue",
        )
    if pooling == "residues":
        return vectors
    known = backbone.is_resolved
    return vectors[known].mean(axis=0) if known.any() else vectors.mean(axis=0)
