"""The model that verbs take where none is named: the one in the package, for antibodies alone."""

from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

from protlm.data.numbering import number_chains
from protlm.errors import ConfigError
from protlm.types.record import Chain, Record, Role

DEFAULT_MODEL = "protlm-ab-mini"
NUM_LOOKED_AT = 200
"""Records that are numbered to see whether the input is antibodies."""

_ANTIBODY_ROLES = (Role.HEAVY, Role.LIGHT)


def packaged_model(name: str) -> Path:
    """Give the folder of a model that comes with protlm.

    Parameters
    ----------
    name
        Its name in the catalogue.
    """
    return Path(__file__).parent / "box" / name


def default_model(records: Iterable[Record], *, say: Callable[[str], None]) -> str:
    """Give the name of the packaged antibody model if the input is antibodies.

    Parameters
    ----------
    records
        The first 200 are numbered by immunum; each must hold a variable domain of an antibody.
    say
        Told which model is taken, and why.

    Raises
    ------
    ConfigError
        Naming the first record that is no antibody.
    """
    looked_at = list(islice(records, NUM_LOOKED_AT))
    numbered = iter(number_chains([chain for record in looked_at for chain in record.chains]))
    for record in looked_at:
        outcomes = [next(numbered) for _ in record.chains]
        if not any(isinstance(each, Chain) and each.role in _ANTIBODY_ROLES for each in outcomes):
            raise ConfigError(
                f"'{record.id}' has no antibody variable domain, and without --model only those are taken",
                hint="name a model with --model; protlm models lists them, such as esm2-8m for proteins",
            )
    what = "it has an" if len(looked_at) == 1 else f"the first {len(looked_at):,} records have an"
    say(f"model: {DEFAULT_MODEL}, as {what} antibody variable domain (--model NAME for another)")
    return DEFAULT_MODEL
