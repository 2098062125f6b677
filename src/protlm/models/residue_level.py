"""What needs one residue per token says so by name."""

from protlm.errors import ModelError
from protlm.models.language_model import MaskedModel


def require_residue_level(model: MaskedModel, what: str) -> None:
    """Refuse a model of sub-words for what reads or hides single residues.

    Parameters
    ----------
    model
        Any model.
    what
        Which use it is, as the message begins.

    Raises
    ------
    ModelError
        If the model puts several residues into one token.
    """
    layout = model.layout
    if layout.is_residue_level:
        return
    raise ModelError(
        f"{what} needs one residue per token, and model '{model.name}' ({len(layout.tokens):,} tokens, up to "
        f"{layout.residues_per_token.max()} residues in one) has sub-words",
        hint="take a residue-level model; pretrain, embed and evaluate tasks work with sub-words",
    )
