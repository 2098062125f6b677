"""Which tokens to hide: policies give probabilities, `corrupt` draws."""

from protlm.registry import Registry

maskings = Registry(
    "masking policy",
    {
        "chain": "protlm.masking.chain:ChainMasking",
        "hybrid": "protlm.masking.hybrid:HybridMasking",
        "nontemplated": "protlm.masking.nontemplated:NontemplatedMasking",
        "region": "protlm.masking.policies:RegionMasking",
        "span": "protlm.masking.span:SpanMasking",
        "uniform": "protlm.masking.policies:UniformMasking",
        "weighted": "protlm.masking.weighted:WeightedMasking",
    },
)
"""To add one: a class with a nested `Config` and ``__call__(batch, draw)``, and a line here."""
