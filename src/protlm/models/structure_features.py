"""What a frozen structure encoder says of backbones, computed once and kept on disk."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from protlm.data.embedding_store import EmbeddingStore, StorePooling, stored_embeddings
from protlm.models.features import feature_folder
from protlm.models.pooling import segment_means
from protlm.models.structure_encoder import StructureEncoder
from protlm.types.structure import Backbone


def structure_features(
    encoder: StructureEncoder,
    backbones: Sequence[Backbone],
    folder: Path | None = None,
    *,
    pooling: StorePooling = "residues",
    on_done: Callable[[int], None] | None = None,
) -> list[np.ndarray]:
    """Give the embeddings of backbones; those seen before with the same weights come from disk.

    Parameters
    ----------
    encoder
        Frozen. One whose vectors hang on names, such as precomputed ones, has nothing to gain here.
    backbones
        Any.
    folder
        Of the stores; ``structures`` beside the features of language models if not said.
    pooling
        ``"residues"`` for ``[residues, d]``, ``"mean"`` for their mean over resolved ones, ``[d]``.
    on_done
        Called with the number of backbones finished.
    """
    store = EmbeddingStore(folder or feature_folder() / "structures", encoder.identity, pooling)
    return stored_embeddings(backbones, store, encoder.embed, on_done=on_done)


def segment_features(
    encoder: StructureEncoder,
    backbones: Sequence[Backbone],
    segments: int,
    folder: Path | None = None,
    *,
    on_done: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Give the mean embedding of each segment of backbones over its resolved residues, 0 where there is none.

    Parameters
    ----------
    encoder, backbones, folder, on_done
        As for `structure_features`.
    segments
        Of each backbone; see `in_segments`.

    Returns
    -------
    numpy.ndarray
        float32 ``[n, segments, d]``.
    """
    if segments == 1:
        means = structure_features(encoder, backbones, folder, pooling="mean", on_done=on_done)
        return np.stack(means)[:, None]
    found = structure_features(encoder, backbones, folder, on_done=on_done)
    return np.stack(
        [
            segment_means(vectors, backbone.is_resolved, segments)
            for vectors, backbone in zip(found, backbones, strict=True)
        ]
    )
