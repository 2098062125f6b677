"""How far `one_fell_swoop` is from the pseudo-log-likelihood that it estimates, for the packaged model.

120 random variants of trastuzumab's VH with one to three substitutions. Beside it the formula of Gordon et
al. (2024), cut off at 1e-4.
"""

import numpy as np
from scipy.stats import spearmanr

import protlm
from measuring import keep
from protlm.scoring import pseudo_likelihood
from protlm.types.alphabet import STANDARD

VH = (
    "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYC"
    "SRWGGDGFYAMDYWGQGTLVTVSS"
)
NUM_VARIANTS = 120


def variants(seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(NUM_VARIANTS):
        sites = sorted(rng.choice(len(VH), int(rng.integers(1, 4)), replace=False))
        letters = [rng.choice([letter for letter in STANDARD if letter != VH[site]]) for site in sites]
        found.append(
            ":".join(f"{VH[site]}{site + 1}{letter}" for site, letter in zip(sites, letters, strict=True))
        )
    return found


def linear_formula(visible: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(2 * np.exp(visible) - 1, 1e-4))


def main() -> None:
    model, texts = protlm.load_model("protlm-ab-mini"), variants()
    truth = protlm.score(model, VH, texts, plan="pseudo_log_likelihood")["score"].to_numpy()
    estimates = {"ours": protlm.score(model, VH, texts, plan="one_fell_swoop")["score"].to_numpy()}
    pseudo_likelihood.masked_from_visible = linear_formula  # type: ignore[assignment]
    estimates["linear, cut off"] = protlm.score(model, VH, texts, plan="one_fell_swoop")["score"].to_numpy()
    facts = {
        name: {
            "spearman": float(spearmanr(truth, estimate)[0]),
            "mean_absolute_difference_nats": float(np.abs(truth - estimate).mean()),
            "slope": float(np.polyfit(truth, estimate, 1)[0]),
        }
        for name, estimate in estimates.items()
    }
    keep("one_fell_swoop", {"variants": len(texts), "spread_of_truth_nats": float(truth.std()), **facts})


if __name__ == "__main__":
    main()
