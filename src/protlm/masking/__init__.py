"""Which tokens to hide: policies give probabilities, `corrupt` draws."""

from protlm.registry import Registry

maskings = Registry(
    "masking policy",
    {
        "uniform": "protlm.masking.policies:UniformMasking",
        "region": "protlm.masking.policies:RegionMasking",
    },
)
"""To add one: a class with a nested `Config` and ``__call__(batch)``, and a line here."""
