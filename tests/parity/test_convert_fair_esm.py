"""`protlm convert` of checkpoints in fair-esm's own file layout: the logits that fair-esm gives from them."""

from argparse import Namespace

import pytest
import torch

from fixtures.builders import batch_of, enliven
from protlm.errors import ModelError
from protlm.models.loading import load_model
from protlm.recipes.convert import convert

pytest.importorskip("esm", reason="fair-esm is in the dev group")

TEXTS = ["MKTAYIAKQRQISFVKSHFSRQ", "W", "MBUZOXKT", "QVQLVQSGAEVKKPGASVKVSCKASGYTFT"]
CLOSE = {"atol": 1e-4, "rtol": 0}
KINDS = ["esm2", "esm2 without token dropout", "esm1b", "esm1v"]


def save_fair_esm(kind, folder, *, shared_head=True, regression=False):
    """Write a small random model as fair-esm publishes its own, and give the file."""
    from esm.data import Alphabet
    from esm.model.esm1 import ProteinBertModel
    from esm.model.esm2 import ESM2

    token_dropout = "without" not in kind
    if kind.startswith("esm2"):
        model = ESM2(3, 24, 4, alphabet="ESM-1b", token_dropout=token_dropout)
        settings = Namespace(
            encoder_layers=3, encoder_embed_dim=24, encoder_attention_heads=4, token_dropout=token_dropout
        )
        holder = {"cfg": {"model": settings}}
    else:
        settings = Namespace(
            arch="roberta_large",
            encoder_layers=3,
            encoder_embed_dim=24,
            encoder_ffn_embed_dim=40,
            encoder_attention_heads=4,
            max_positions=80,
            token_dropout=token_dropout,
        )
        plain = {name.removeprefix("encoder_"): value for name, value in vars(settings).items()}
        plain["emb_layer_norm_before"] = kind == "esm1b"
        model = ProteinBertModel(Namespace(**plain), Alphabet.from_architecture("ESM-1b"))
        holder = {"args": settings}
    enliven(model, seed=len(kind))
    weights = {}
    for name, value in model.state_dict().items():
        if name.startswith("contact_head"):
            continue
        prefix = "encoder." if name.startswith("lm_head") else "encoder.sentence_encoder."
        weights[prefix + name] = value
    if not shared_head:
        weights["encoder.lm_head.weight"] = weights["encoder.lm_head.weight"].clone()
    path = folder / f"{kind.replace(' ', '_')}.pt"
    torch.save({**holder, "model": weights}, path)
    if regression:
        contact = {n: v.clone() for n, v in model.state_dict().items() if n.startswith("contact_head")}
        torch.save({"model": contact}, path.with_name(f"{path.stem}-contact-regression.pt"))
    return path


def fair_logits(path):
    """What fair-esm itself gives from the file, each text by itself."""
    from esm.pretrained import load_model_and_alphabet_core

    data = torch.load(path, weights_only=False)
    model, alphabet = load_model_and_alphabet_core(path.stem, data, None)
    read = alphabet.get_batch_converter()
    with torch.inference_mode():
        return torch.cat([model.eval()(read([("", text)])[2])["logits"][0] for text in TEXTS])


@pytest.mark.filterwarnings("ignore:Regression weights not found")
@pytest.mark.parametrize("shared_head", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_the_logits_are_those_of_fair_esm(kind, shared_head, tmp_path):
    path = save_fair_esm(kind, tmp_path, shared_head=shared_head)
    theirs = fair_logits(path)
    assert theirs.std() > 0.5
    model = load_model(convert(path, tmp_path / "out", say=lambda _: None), device="cpu")
    with torch.inference_mode():
        torch.testing.assert_close(model.logits(batch_of(model.layout, *TEXTS)), theirs, **CLOSE)
    assert model.layout.max_tokens == (None if kind.startswith("esm2") else 80)
    assert model.module.config.token_dropout == ("without" not in kind)


def test_weights_for_contacts_are_taken_where_they_are(tmp_path):
    path = save_fair_esm("esm2", tmp_path, regression=True)
    wanted = torch.load(tmp_path / "esm2-contact-regression.pt")["model"]["contact_head.regression.weight"]
    said = []
    model = load_model(convert(path, tmp_path / "out", say=said.append), device="cpu")
    assert torch.equal(model.module.esm.contact_head.regression.weight, wanted)
    assert not any("contact" in line for line in said)
    path.with_name("esm2-contact-regression.pt").unlink()
    convert(path, tmp_path / "without", say=said.append)
    assert any("no esm2-contact-regression.pt beside it" in line for line in said)


def test_rotary_frequencies_that_were_rounded_are_kept(tmp_path):
    path = save_fair_esm("esm2", tmp_path)
    data = torch.load(path, weights_only=False)
    names = [name for name in data["model"] if name.endswith("inv_freq")]
    assert len(names) == 3
    rounded = data["model"][names[0]].half().float() * 1.001
    for name in names:
        data["model"][name] = rounded.clone()
    torch.save(data, path)
    model = load_model(convert(path, tmp_path / "out", say=lambda _: None), device="cpu")
    assert torch.equal(model.module.esm.rotary_embeddings.inv_freq, rounded)
    data["model"][names[1]] = rounded * 2
    torch.save(data, path)
    with pytest.raises(ModelError, match="different rotary frequencies"):
        convert(path, tmp_path / "other", say=lambda _: None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: setattr(data["args"], "arch", "msa_transformer"), "is a 'msa_transformer' model"),
        (lambda data: data["model"].update({"encoder.odd": torch.ones(1)}), "has a weight 'odd'"),
        (lambda data: delattr(data["args"], "encoder_attention_heads"), "how many attention heads"),
        (lambda data: data["model"].pop("encoder.lm_head.bias"), r"lacks 1 weights .* 'lm_head\.bias'"),
        (lambda data: data.pop("args"), "is no checkpoint of fair-esm"),
        (
            lambda data: data["model"].update({"encoder.lm_head.weight": torch.ones(33, 24)}),
            "differ, but are one weight",
        ),
        (
            lambda data: data["model"].update({"encoder.lm_head.bias": torch.full((33,), torch.nan)}),
            "no finite numbers",
        ),
        (lambda data: data["model"].update({"encoder.lm_head.bias": torch.ones(3)}), r"has the shape \(3,\)"),
    ],
)
def test_what_is_not_known_is_refused_and_leaves_nothing(change, message, tmp_path):
    path = save_fair_esm("esm1b", tmp_path)
    data = torch.load(path, weights_only=False)
    change(data)
    torch.save(data, path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ModelError, match=message):
        convert(path, tmp_path / "out", say=lambda _: None)
    assert sorted(tmp_path.iterdir()) == before
