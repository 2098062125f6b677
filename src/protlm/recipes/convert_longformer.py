"""convert --to longformer: a trained RoBERTa to a folder that takes longer inputs."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from protlm.errors import RunError
from protlm.models.loading import load_model
from protlm.models.longformer import to_longformer
from protlm.recipes.outputs import claim_folder

Say = Callable[[str], None]


def convert_to_longformer(
    source: Path | str, out: Path, *, max_tokens: int = 2048, window: int = 512, say: Say = print
) -> Path:
    """Make a folder that `load_model` and plain `AutoModelForMaskedLM.from_pretrained` read.

    Parameters
    ----------
    source
        A RoBERTa: a Run, a folder, a catalogue name, or a hub name.
    out
        The folder to make; nothing is overwritten.
    max_tokens
        Longest input with special tokens; a multiple of `window`.
    window
        Tokens that a token sees, half of them on each side.
    say
        Tells the user what was made.

    Raises
    ------
    ModelError
        If the source is no RoBERTa, or the lengths do not fit it.
    RunError
        If `out` is there already.
    """
    if out.exists():
        raise RunError(f"{out} exists, and convert overwrites nothing", hint="choose another --out")
    start = load_model(source, device="cpu")
    model = to_longformer(start, max_tokens=max_tokens, window=window)
    claim_folder(out)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        part = Path(scratch) / out.name
        model.save(part)
        load_model(part, device="cpu")  # whole, and of the size that its configuration says
        part.rename(out)
    own = start.layout.max_tokens
    say(
        f"positions: the {own} of '{start.name}' repeated to {max_tokens}; "
        f"parameters: {start.num_parameters:,} to {model.num_parameters:,}"
    )
    say(
        f"a token sees {window // 2} on each side; up to {window // 2 + 1} tokens the logits are those of "
        f"'{start.name}', and longer inputs need training: model.kind=pretrained, model.name={out}"
    )
    return out
