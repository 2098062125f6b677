"""Attributions by hand, against slow formulas, and on what predictors there are."""

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, RobertaConfig, RobertaForMaskedLM

from fixtures.builders import as_record, enliven, lively_esm, random_records
from fixtures.subwords import SUBWORDS
from protlm.data.layout import esm_layout
from protlm.errors import ModelError
from protlm.explain.attention import attention_maps
from protlm.explain.attribution import METHODS, attribute
from protlm.explain.attribution_methods import class_outputs
from protlm.explain.attribution_sites import find_sites
from protlm.models.architecture_roberta import RobertaArchitecture
from protlm.models.heads import Head, HeadConfig, head_facts
from protlm.models.language_model import LanguageModel
from protlm.models.predictor import Predictor
from protlm.types.record import Chain, Record, Role
from protlm.types.target import Target

PAIRS = [as_record(text) for text in ("QVQLVE/DIQMT", "MKTAY/IAKQRQ", "GGSG/AWYKW")]
CHAINS = [as_record(text) for text in ("QVQLVEDIQMT", "MKTAYIAK", "GGSGAWYKWL")]
CLASSES = Target("classes", "sequence", ("x", "y", "z"))
BINARY = Target("binary", "sequence", ("no", "yes"))


def predictor_of(model, target, records, **settings) -> Predictor:
    head = Head(head_facts(target, HeadConfig(**settings), model.module.config.hidden_size, records))
    random = torch.Generator().manual_seed(1)
    for parameter in head.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=random))
    return Predictor(model, head).eval()


def roberta() -> LanguageModel:
    sizes = {"num_layers": 2, "hidden_size": 16, "num_heads": 2, "ffn_size": 24}
    model = RobertaArchitecture.Config(**sizes).build(seed=0)
    enliven(model.module)
    return model.eval()


def subwords() -> LanguageModel:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    config = RobertaConfig(vocab_size=len(SUBWORDS.tokens), pad_token_id=SUBWORDS.pad_id, **sizes)
    module = RobertaForMaskedLM(config)
    enliven(module)
    return LanguageModel(module, SUBWORDS).eval()


def bert() -> LanguageModel:
    """A model that protlm runs through its own padded call."""
    layout = esm_layout()
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    torch.manual_seed(0)
    module = BertForMaskedLM(BertConfig(vocab_size=len(layout.tokens), pad_token_id=layout.pad_id, **sizes))
    enliven(module)
    return LanguageModel(module, layout, name="a-bert").eval()


def output(predictor, record, wanted) -> float:
    with torch.no_grad():
        outputs = predictor.outputs(predictor.batch([record]))
    return float(class_outputs(predictor, outputs, torch.tensor([wanted])))


KINDS = {
    "one chain": (lively_esm, BINARY, CHAINS, {}),
    "begin token": (lively_esm, CLASSES, CHAINS, {"pooling": "begin"}),
    "pair in both orders": (lively_esm, Target("binary", "pair", ("no", "yes")), PAIRS, {}),
    "separate chains": (lively_esm, Target("value", "pair"), PAIRS, {"encoder": "separate"}),
    "labels": (roberta, Target("labels", "sequence", ("x", "y")), CHAINS, {"pooling": "attention"}),
    "own call": (bert, CLASSES, CHAINS, {"hidden_size": 6}),
}


@pytest.fixture(params=KINDS, scope="module")
def case(request):
    build, target, records, settings = KINDS[request.param]
    return predictor_of(build(), target, records, **settings), records


def test_occlusion_is_the_difference_of_two_forwards(case):
    predictor, records = case
    wanted = np.array([0, 0, 1 if predictor.target.kind != "value" else 0])
    found = attribute(predictor, records, "occlusion", wanted, max_tokens=40)
    mask = predictor.encoder.layout.mask_id
    for record, klass, values in zip(records, wanted.tolist(), found.values, strict=True):
        place = 0
        for number, chain in enumerate(record.chains):
            for index in range(len(chain)):
                batch = predictor.batch([record])
                for token in range(len(batch.tokens)):
                    view = int(batch.sequence_index[token])
                    its = int(batch.chain_index[token])
                    its = view if predictor.head.facts.is_separate else its
                    if predictor.head.facts.both_orders and view == 1:
                        its = 1 - its
                    real = batch.chain_index[token] >= 0
                    if real and its == number and int(batch.residue_start[token]) == index:
                        batch.tokens[token] = mask
                with torch.no_grad():
                    outputs = predictor.outputs(batch)
                hidden = float(class_outputs(predictor, outputs, torch.tensor([klass])))
                expected = output(predictor, record, klass) - hidden
                assert values[place] == pytest.approx(expected, abs=1e-4)
                place += 1


def test_integrated_gradients_add_up_to_the_difference_to_the_baseline(case):
    predictor, records = case
    found = attribute(
        predictor, records, "integrated-gradients", np.zeros(3, int), steps=200, max_tokens=1000
    )
    assert max(found.gap) < 0.02
    assert [len(values) for values in found.values] == [len(record) for record in records]


def test_gradients_are_those_of_nudged_embeddings(case):
    predictor, records = case
    record, step = records[0], 1e-3
    found = attribute(predictor, [record], "grad-x-input", np.array([0])).values[0]
    batch = predictor.batch([record])
    of_token = find_sites([record], predictor.head.facts, batch).of_token
    embeddings = predictor.encoder.module.get_input_embeddings()

    def grown(site: int, by: float) -> float:
        """The output with the embeddings of one site made larger."""

        def change(module, inputs, own):
            flat = batch.unpad(own) if own.ndim == 3 else own
            scale = torch.where(torch.from_numpy(of_token == site), 1 + by, 1.0)
            scaled = flat * scale[:, None]
            return batch.pad(scaled, 0.0) if own.ndim == 3 else scaled

        hook = embeddings.register_forward_hook(change)
        try:
            return output(predictor, record, 0)
        finally:
            hook.remove()

    for site in range(len(record)):
        expected = (grown(site, step) - grown(site, -step)) / (2 * step)
        assert found[site] == pytest.approx(expected, abs=0.02 * max(1, abs(found).max()))


def test_a_linear_predictor_by_hand():
    """No layers and a mean: the output is a sum over residues of embedding · weights / length."""
    encoder = lively_esm(num_layers=1)
    encoder.module.esm.encoder.layer = torch.nn.ModuleList()
    encoder.module.esm.encoder.emb_layer_norm_after = torch.nn.Identity()
    predictor = predictor_of(encoder, CLASSES, CHAINS)
    words = encoder.module.esm.embeddings.word_embeddings.weight
    layout = encoder.layout
    weights = predictor.head.layers[-1].weight[2]
    scale = 0.88 if encoder.module.esm.embeddings.token_dropout else 1.0
    for record, values in zip(
        CHAINS, attribute(predictor, CHAINS, "grad-x-input", np.full(3, 2)).values, strict=True
    ):
        ids = [layout.ids[letter] for letter in record.chains[0].residues]
        expected = scale * (words[ids] @ weights).detach().numpy() / len(ids)
        np.testing.assert_allclose(values, expected, atol=1e-5)


@pytest.mark.parametrize(
    "build", [lively_esm, roberta, lambda: lively_esm(positions="learned", max_tokens=64)]
)
def test_attcat_is_the_slow_formula(build):
    """Every layer through Hugging Face's own hidden states, record by record."""
    predictor = predictor_of(build(), CLASSES, CHAINS)
    found = attribute(predictor, CHAINS, "attcat", np.array([0, 1, 2]))
    for number, record in enumerate(CHAINS):
        batch = predictor.batch([record])
        base = predictor.encoder.module.base_model
        hidden = base(batch.tokens[None], output_hidden_states=True).hidden_states
        last = hidden[-1]
        if last.shape[1] != len(batch.tokens):
            pytest.fail("shape")
        pooled = base(batch.tokens[None], output_hidden_states=True)
        states = pooled.hidden_states[:-1]
        own = batch.is_residue
        logit = predictor.head.layers(pooled.last_hidden_state[0][own].mean(dim=0))[number]
        gradients = torch.autograd.grad(logit, states)
        maps = attention_maps(predictor.encoder, batch)[0]
        summed = torch.zeros(len(batch.tokens))
        for layer, (state, gradient) in enumerate(zip(states, gradients, strict=True)):
            impact = (state[0] * gradient[0]).sum(dim=-1)
            for token in range(len(impact)):
                summed[token] += impact[token].detach() * maps[layer, :, :, token].mean()
        expected = summed[own].numpy()
        np.testing.assert_allclose(found.values[number], expected, atol=1e-4 * abs(expected).max())


def test_a_batch_gives_what_each_record_alone_gives(case):
    predictor, records = case
    for method in METHODS:
        if method == "attcat" and not predictor.encoder.is_flat:
            continue
        wanted = np.array([0, 0, 0])
        together = attribute(predictor, records, method, wanted)
        for number, record in enumerate(records):
            alone = attribute(predictor, [record], method, wanted[:1]).values[0]
            np.testing.assert_allclose(together.values[number], alone, atol=1e-4 * max(1, abs(alone).max()))


def test_the_classes_of_a_binary_target_are_opposite():
    predictor = predictor_of(lively_esm(), BINARY, CHAINS)
    for method in METHODS:
        yes, no = (attribute(predictor, CHAINS, method, np.full(3, klass)).values for klass in (1, 0))
        for one, other in zip(yes, no, strict=True):
            np.testing.assert_allclose(one, -other, atol=1e-4 * abs(one).max())


def test_a_value_is_explained_in_its_own_unit():
    predictor = predictor_of(lively_esm(), Target("value", "sequence"), CHAINS)
    before = attribute(predictor, CHAINS, "occlusion", np.zeros(3, int)).values
    object.__setattr__(predictor.head.facts, "sd", 10.0)
    after = attribute(predictor, CHAINS, "occlusion", np.zeros(3, int)).values
    np.testing.assert_allclose(after[0], 10 * before[0], atol=1e-3)


def test_the_parts_of_a_sub_word_are_equal_and_add_up():
    record = as_record("GSGLLAMKAKW")
    predictor = predictor_of(subwords(), CLASSES, [record])
    batch = predictor.batch([record])
    sizes = (batch.residue_stop - batch.residue_start)[batch.is_residue].tolist()
    assert max(sizes) > 1
    for method in METHODS:
        found = attribute(predictor, [record], method, np.array([1]))
        parts = np.split(found.values[0], np.cumsum(sizes)[:-1])
        assert all(len(set(part.tolist())) == 1 for part in parts)
        np.testing.assert_allclose([part.sum() for part in parts], found.sites[0], atol=1e-6)


def test_chains_that_are_read_in_another_order_find_their_residues():
    """A pair with roles is read heavy first, wherever it stands in the record."""
    heavy, light = Chain("QVQLV", role=Role.HEAVY), Chain("DIQ", role=Role.LIGHT)
    target = Target("binary", "pair", ("no", "yes"))
    one, other = Record("a", (heavy, light)), Record("a", (light, heavy))
    predictor = predictor_of(lively_esm(), target, [one])
    for method in METHODS:
        first, second = (
            attribute(predictor, [each], method, np.array([1])).values[0] for each in (one, other)
        )
        np.testing.assert_allclose(first, np.concatenate([second[3:], second[:3]]), atol=1e-5)


def test_two_chains_alike_have_their_own_attributions():
    twin = Record("a", (Chain("QVQLV"),) * 2)
    predictor = predictor_of(lively_esm(), Target("binary", "sequence", ("no", "yes")), [twin])
    batch = predictor.batch([twin])
    assert find_sites([twin], predictor.head.facts, batch).of_token.max() == 9


def test_what_cannot_be_explained_is_refused_by_name():
    residues = predictor_of(lively_esm(), Target("classes", "residue", ("H", "E")), CHAINS)
    with pytest.raises(ModelError, match="of each residue"):
        attribute(residues, CHAINS, "occlusion", np.zeros(3, int))
    with pytest.raises(ModelError, match=r"attcat needs .* 'a-bert'"):
        attribute(predictor_of(bert(), CLASSES, CHAINS), CHAINS, "attcat", np.zeros(3, int))


def test_weights_stay_without_gradients():
    predictor = predictor_of(lively_esm(), CLASSES, CHAINS)
    for method in METHODS:
        attribute(predictor, random_records(2, pairs=False), method, np.zeros(2, int))
    assert all(parameter.grad is None for parameter in predictor.parameters())
