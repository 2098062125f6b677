"""convert: published checkpoints of ESM-IF1 and ProteinMPNN to folders of structure encoders."""

from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import Tensor

from protlm.errors import ModelError
from protlm.models.gvp_transformer import GVPTransformerSettings
from protlm.models.pickled import check_weights
from protlm.models.structure_encoder import LearnedEncoder, load_structure_encoder, new_structure_encoder

Say = Callable[[str], None]

_NAMES = {
    "W_v": "embed_graph.embed_node",
    "W_e": "embed_graph.embed_edge",
    "embed_scores.0": "embed_confidence",
    "embed_score.": "embed_graph.embed_confidence.",
    "seq_logits_projection.": "",
    "embed_ingraham_features": "embed_dihedrals",
    "embed_gvp_in_local_frame.0": "embed_gvp_output",
    "embed_features_in_local_frame.0": "embed_gvp_input_features",
}
"""Parts of names in the file of ESM-IF1, and what they are called in its published code."""


def is_structure_checkpoint(values: Any) -> bool:
    """Tell whether a pickle is a checkpoint of ESM-IF1 or ProteinMPNN.

    Parameters
    ----------
    values
        What it holds.
    """
    return isinstance(values, Mapping) and (_is_esm_if1(values) or "model_state_dict" in values)


def _is_esm_if1(values: Mapping[str, Any]) -> bool:
    weights = values.get("model")
    return "args" in values and isinstance(weights, Mapping) and any("gvp" in str(name) for name in weights)


def write_structure_encoder(values: Mapping[str, Any], source: Path, folder: Path, *, say: Say) -> None:
    """Write config.json and model.safetensors, and load the encoder from them.

    Parameters
    ----------
    values
        The checkpoint.
    source
        Its file, for messages.
    folder
        Empty.
    say
        Tells the user what was written.

    Raises
    ------
    ModelError
        If its weights are not those that its settings ask for.
    """
    encoder, weights, what = (_esm_if1 if _is_esm_if1(values) else _protein_mpnn)(values, source)
    wanted = encoder.module.state_dict()
    for name in sorted(wanted.keys() ^ weights.keys()):
        raise ModelError(
            f"{source}: weight {name} is {'missing' if name in wanted else 'of no known place'}",
            hint=f"expected the weights of {what}",
        )
    for name, value in weights.items():
        if value.shape != wanted[name].shape:
            raise ModelError(
                f"{source}: weight {name} is {list(value.shape)}, expected {list(wanted[name].shape)}",
                hint=f"expected the weights of {what}",
            )
    encoder.module.load_state_dict(weights)
    encoder.save(folder)
    load_structure_encoder(folder, device="cpu")
    num_values = sum(value.numel() for value in weights.values())
    say(f"{what}: {len(weights):,} weights, {num_values:,} values, all of known names and shapes")
    say(f"a structure encoder of kind '{encoder.kind}', {encoder.dim} values per residue")


def _esm_if1(values: Mapping[str, Any], source: Path) -> tuple[LearnedEncoder, dict[str, Tensor], str]:
    args = values["args"]
    settings = vars(args) if isinstance(args, Namespace) else dict(args)
    sizes = _sizes(settings, source)
    weights = {}
    for published, value in check_weights(values["model"], source).items():
        name = published
        for theirs, ours in _NAMES.items():
            name = name.replace(theirs, ours)
        if "version" not in name:
            weights[name] = value
    return new_structure_encoder("gvp-transformer", sizes), weights, "ESM-IF1"


def _sizes(settings: Mapping[str, Any], source: Path) -> dict[str, Any]:
    """Take the sizes out of the published settings, most of which say how it was trained."""
    names = [each.name for each in fields(GVPTransformerSettings)]
    for name in names:
        if name not in settings and "dropout" not in name:
            raise ModelError(f"{source}: its args have no {name}", hint="expected those of ESM-IF1")
    return {name: settings[name] for name in names if name in settings}


def _protein_mpnn(values: Mapping[str, Any], source: Path) -> tuple[LearnedEncoder, dict[str, Tensor], str]:
    weights = check_weights(values["model_state_dict"], source)
    if "features.node_embedding.weight" in weights:
        raise ModelError(
            f"{source} holds a ProteinMPNN of CA atoms alone, which protlm does not have",
            hint="convert one of vanilla_model_weights or soluble_model_weights",
        )
    if "W_s.weight" not in weights or "num_edges" not in values:
        raise ModelError(
            f"{source} has model_state_dict, but no W_s.weight or no num_edges in it",
            hint="expected a checkpoint of ProteinMPNN, such as v_48_020.pt",
        )
    sizes = {
        "hidden_dim": weights["W_s.weight"].shape[1],
        "num_encoder_layers": _count(weights, "encoder_layers"),
        "num_decoder_layers": _count(weights, "decoder_layers"),
        "k_neighbors": int(values["num_edges"]),
        "augment_eps": float(values.get("noise_level", 0.0)),
    }
    return new_structure_encoder("protein-mpnn", sizes), weights, "ProteinMPNN"


def _count(weights: Mapping[str, Tensor], part: str) -> int:
    return len({name.split(".")[1] for name in weights if name.startswith(f"{part}.")})
