"""Published vocabularies by id, and the layouts of the models that were trained with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

SingleChain = Literal["bare", "keep-separator"]


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by id, and which of them have a task."""

    tokens: tuple[str, ...]
    begin: str = "<cls>"
    end: str = "<eos>"
    pad: str = "<pad>"
    mask: str = "<mask>"
    unknown: str = "X"
    """What stands for a residue letter that the vocabulary lacks."""


_ESM_RESIDUES = "LAGVSERTIDPKQNFYMHWCXBUZO"
_ESM_BEGIN = ("<cls>", "<pad>", "<eos>", "<unk>")

ESM_TOKENS = (*_ESM_BEGIN, *_ESM_RESIDUES, ".", "-", "<null_1>", "<mask>")
"""The 33 tokens of ESM-1b, ESM-1v and ESM-2, by id (facebookresearch/esm, `esm/constants.py`)."""

VOCABULARIES: Mapping[str, Vocabulary] = MappingProxyType(
    {
        "esm": Vocabulary(ESM_TOKENS),
        # ESM-2 with id 31 put to use (brineylab/curriculum-paper)
        "esm-sep": Vocabulary((*_ESM_BEGIN, *_ESM_RESIDUES, ".", "-", "<sep>", "<mask>")),
        # the ids of ESM-3 and ESM-C (evolutionaryscale/esm, `esm/utils/constants/esm3.py`)
        "esm-pipe": Vocabulary((*_ESM_BEGIN, *_ESM_RESIDUES, ".", "-", "|", "<mask>")),
        # brineylab/preferential-masking-paper, `tokenizer/vocab.txt`
        "preferential-masking": Vocabulary(
            (*"ARNDCQEGHILKMFPSTWYVX", "<pad>", "<mask>", "<cls>", "<unk>", "<eos>")
        ),
        # brineylab/BALM-paper: the twenty alphabetically behind RoBERTa's five; X is <unk> there
        "balm": Vocabulary(
            ("<s>", "<pad>", "</s>", "<unk>", "<mask>", *"ACDEFGHIKLMNPQRSTVWY"),
            begin="<s>",
            end="</s>",
            unknown="<unk>",
        ),
        # no published one: `balm` with the letters outside the twenty, for RoBERTas of your own
        "roberta": Vocabulary(
            ("<s>", "<pad>", "</s>", "<unk>", "<mask>", *"ACDEFGHIKLMNPQRSTVWY", *"XBJOUZ"),
            begin="<s>",
            end="</s>",
        ),
        # brineylab/BALM: ESM-2 without <null_1>, so that <mask> is 31
        "balm-package": Vocabulary((*_ESM_BEGIN, *_ESM_RESIDUES, ".", "-", "<mask>")),
    }
)
"""Vocabularies by name."""


@dataclass(frozen=True)
class PublishedLayout:
    """How one published model was given its chains."""

    vocabulary: str
    separator: str
    single_chain: SingleChain = "bare"
    used_by: str = ""


LAYOUTS: Mapping[str, PublishedLayout] = MappingProxyType(
    {
        "esm": PublishedLayout("esm", "cls-cls", used_by="ESM-1b, 1v, 2; ft-ESM2; scaling laws"),
        "preferential-masking": PublishedLayout(
            "preferential-masking", "cls-cls", used_by="Ng & Briney 2025, both arms"
        ),
        "preferential-masking-cls": PublishedLayout(
            "preferential-masking", "cls", used_by="the example of brineylab/deepspeed"
        ),
        "balm": PublishedLayout("balm", "eos", used_by="BALM-paired, BALM-shuffled, BALM-unpaired"),
        "curriculum": PublishedLayout("esm-sep", "sep", used_by="55M pilots of the curriculum paper"),
        "currab": PublishedLayout(
            "esm-sep", "cls", single_chain="keep-separator", used_by="CurrAb; chains alone keep <cls>"
        ),
        "esm-pipe": PublishedLayout("esm-pipe", "pipe", used_by="models of your own; ids of ESM-3 and ESM-C"),
        "roberta": PublishedLayout("roberta", "eos-eos", used_by="RoBERTas and Longformers of your own"),
        "balm-package": PublishedLayout(
            "balm-package", "cls", used_by="BALM package (its MoE is not converted)"
        ),
    }
)
"""Layouts by name: what `protlm convert --layout` takes."""

_DEFAULTS = {
    "esm": "esm",
    "preferential-masking": "preferential-masking",
    "balm": "balm",
    "esm-pipe": "esm-pipe",
    "roberta": "roberta",
    "balm-package": "balm-package",
}
"""The layout of a vocabulary whose published weights agree on one; `esm-sep` has two that do not."""


def layouts_of(tokens: Sequence[str]) -> list[str]:
    """List the published layouts with exactly these tokens, the one to take by default first.

    Parameters
    ----------
    tokens
        By id.

    Returns
    -------
    list of str
        Names in `LAYOUTS`; empty for a vocabulary that is none of the published ones.

    Examples
    --------
    >>> layouts_of(ESM_TOKENS)
    ['esm']
    >>> layouts_of(VOCABULARIES["esm-sep"].tokens)
    ['curriculum', 'currab']
    """
    names = [
        name for name, layout in LAYOUTS.items() if VOCABULARIES[layout.vocabulary].tokens == tuple(tokens)
    ]
    return sorted(names, key=lambda name: name not in _DEFAULTS.values())


def default_layout(tokens: Sequence[str]) -> str | None:
    """Give the published layout of a vocabulary where there is only one that weights were published with.

    Parameters
    ----------
    tokens
        By id.
    """
    names = layouts_of(tokens)
    return names[0] if names and names[0] in _DEFAULTS.values() else None
