"""The published vocabularies and chain layouts: exact ids, folders as the labs saved them, same logits."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    EsmConfig,
    EsmForMaskedLM,
    EsmTokenizer,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaTokenizer,
    RoFormerConfig,
    RoFormerForMaskedLM,
)

from fixtures.builders import batch_of, enliven, random_records, with_tokens
from protlm.data.collate import collate
from protlm.data.corpus import write_corpus
from protlm.data.flat import flatten_records
from protlm.data.layout import FILE_NAME, TokenLayout, layout_of_vocabulary, published_layout
from protlm.data.roles import with_roles
from protlm.data.vocabularies import LAYOUTS, VOCABULARIES, layouts_of
from protlm.errors import ConfigError, DataError, ModelError
from protlm.masking.corrupt import corrupt
from protlm.masking.policies import UniformMasking
from protlm.masking.selection import Draw
from protlm.models.architectures import EsmArchitecture, PretrainedArchitecture
from protlm.models.embed import embed_records
from protlm.models.language_model import LanguageModel
from protlm.models.loading import load_model
from protlm.scoring.plans import plans
from protlm.scoring.variants import score_variants
from protlm.types.alphabet import STANDARD, UNUSUAL
from protlm.types.record import Chain, Record, Role
from protlm.types.variant import parse_variant

CLOSE = {"atol": 1e-4, "rtol": 0}
SIZES = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
HEAVY, LIGHT = Chain("QVQ", role=Role.HEAVY), Chain("DIQ", role=Role.LIGHT)
PAIR = Record("pair", (HEAVY, LIGHT))

IDS = {
    "esm": {"<cls>": 0, "<pad>": 1, "<eos>": 2, "<unk>": 3, "L": 4, "X": 24, "<null_1>": 31, "<mask>": 32},
    "esm-sep": {"<cls>": 0, "L": 4, "-": 30, "<sep>": 31, "<mask>": 32},
    "esm-pipe": {"<cls>": 0, "L": 4, "-": 30, "|": 31, "<mask>": 32},
    "preferential-masking": {
        **{letter: index for index, letter in enumerate("ARNDCQEGHILKMFPSTWYVX")},
        "<pad>": 21,
        "<mask>": 22,
        "<cls>": 23,
        "<unk>": 24,
        "<eos>": 25,
    },
    "balm": {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4, "A": 5, "C": 6, "Y": 24},
    "roberta": {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4, "A": 5, "Y": 24, "X": 25, "Z": 30},
    "balm-package": {"<cls>": 0, "L": 4, "-": 30, "<mask>": 31},
}
NUM_TOKENS = {"esm": 33, "esm-sep": 33, "esm-pipe": 33, "preferential-masking": 26, "balm": 25}
NUM_TOKENS |= {"balm-package": 32, "roberta": 31}
TEXTS = {
    "esm": "<cls>QVQ<cls><cls>DIQ<eos>",
    "preferential-masking": "<cls>QVQ<cls><cls>DIQ<eos>",
    "preferential-masking-cls": "<cls>QVQ<cls>DIQ<eos>",
    "balm": "<s>QVQ</s>DIQ</s>",
    "curriculum": "<cls>QVQ<sep>DIQ<eos>",
    "currab": "<cls>QVQ<cls>DIQ<eos>",
    "esm-pipe": "<cls>QVQ|DIQ<eos>",
    "roberta": "<s>QVQ</s></s>DIQ</s>",
    "balm-package": "<cls>QVQ<cls>DIQ<eos>",
}


def text_of(layout, record):
    return layout.decode(batch_of(layout, record).tokens.numpy())


def test_every_vocabulary_and_layout_is_written_down_here():
    assert set(IDS) == set(NUM_TOKENS) == set(VOCABULARIES)
    assert set(TEXTS) == set(LAYOUTS)


@pytest.mark.parametrize("name", IDS)
def test_the_ids_are_those_of_the_published_files(name):
    layout = layout_of_vocabulary(name, separator="cls")
    assert len(layout.tokens) == len(set(layout.tokens)) == NUM_TOKENS[name]
    assert {token: layout.ids[token] for token in IDS[name]} == IDS[name]
    assert name in {LAYOUTS[each].vocabulary for each in layouts_of(layout.tokens)}


@pytest.mark.parametrize("name", TEXTS)
def test_a_pair_is_written_as_published(name):
    assert text_of(published_layout(name), PAIR) == TEXTS[name]


def test_the_worked_example_of_preferential_masking():
    batch = batch_of(published_layout("preferential-masking"), PAIR)
    assert batch.tokens.tolist() == [23, 5, 19, 5, 23, 23, 3, 9, 5, 25]
    assert (~batch.is_residue).int().tolist() == [1, 0, 0, 0, 1, 1, 0, 0, 0, 1]
    assert batch.roles.tolist() == [0, 1, 1, 1, 0, 0, 2, 2, 2, 0]


class TestUnknownLetters:
    def test_the_published_tokenizer_merges_them_and_the_layout_does_not(self, tmp_path):
        layout = published_layout("preferential-masking")
        (tmp_path / "vocab.txt").write_text("\n".join(layout.tokens))
        assert EsmTokenizer(str(tmp_path / "vocab.txt"))("QVBZUOQ").input_ids == [23, 5, 19, 24, 5, 25]
        x = layout.ids["X"]
        assert batch_of(layout, "QVBZUOQ").tokens.tolist() == [23, 5, 19, x, x, x, x, 5, 25]

    @given(text=st.text(STANDARD + UNUSUAL, min_size=1, max_size=30), name=st.sampled_from(sorted(LAYOUTS)))
    def test_each_residue_is_one_token_in_every_layout(self, text, name):
        batch = batch_of(published_layout(name), Record("r", (Chain(text, role=Role.HEAVY), LIGHT)))
        ours = batch.chain_index == 0
        assert batch.residue_index[ours].tolist() == list(range(len(text)))
        assert batch.standard[ours].tolist() == [letter in STANDARD for letter in text]


class TestSingleChains:
    LAYOUT = published_layout("currab")

    def test_they_keep_the_separator_where_a_pair_has_it(self):
        assert text_of(self.LAYOUT, Record("h", (HEAVY,))) == "<cls>QVQ<cls><eos>"
        assert text_of(self.LAYOUT, Record("l", (LIGHT,))) == "<cls><cls>DIQ<eos>"
        assert text_of(self.LAYOUT, PAIR) == "<cls>QVQ<cls>DIQ<eos>"

    def test_they_are_bare_by_default(self):
        layout = replace(self.LAYOUT, single_chain="bare")
        assert text_of(layout, Record("h", (HEAVY,))) == "<cls>QVQ<eos>"
        assert text_of(layout, Record("l", (LIGHT,))) == "<cls>DIQ<eos>"

    def test_the_map_leads_to_the_residues_in_a_mixed_batch(self):
        records = [Record("h", (HEAVY,)), PAIR, Record("l", (LIGHT,))]
        batch = batch_of(replace(self.LAYOUT, position_gap=10), *records)
        assert batch.lengths.tolist() == [6, 9, 6]
        assert batch.chain_index.tolist() == [
            *(-1, 0, 0, 0, -1, -1),
            *(-1, 0, 0, 0, -1, 1, 1, 1, -1),
            *(-1, -1, 0, 0, 0, -1),
        ]
        # a light chain has the positions that it has behind an empty heavy chain
        assert batch.positions.tolist() == [
            *range(6),
            *(0, 1, 2, 3, 4, 15, 16, 17, 18),
            *(0, 1, 12, 13, 14, 15),
        ]

    def test_a_chain_that_is_neither_is_refused(self):
        with pytest.raises(DataError, match=r"H<cls> and a light one as <cls>L, but 1 of 2 records"):
            batch_of(self.LAYOUT, PAIR, "ACD")

    @pytest.mark.parametrize("single_chain", ["bare", "keep-separator"])
    def test_the_lengths_that_are_foretold_are_those_of_the_batch(self, single_chain):
        layout = replace(self.LAYOUT, single_chain=single_chain, separator=("<cls>", "<sep>"))
        records = [Record("h", (HEAVY,)), PAIR, Record("l", (LIGHT,)), Record("3", (HEAVY, LIGHT, LIGHT))]
        flat = flatten_records(records)
        foretold = layout.num_specials(flat.chains_per_record) + flat.record_lengths
        assert foretold.tolist() == collate(flat, layout).lengths.tolist()
        assert [layout.num_positions(len(each), len(each.chains)) for each in records] == foretold.tolist()

    def test_the_limit_counts_the_separator(self):
        layout = replace(self.LAYOUT, max_tokens=6)
        assert layout.max_residues == 3
        assert len(batch_of(layout, Record("h", (HEAVY,))).tokens) == 6
        with pytest.raises(DataError, match="needs 7 tokens"):
            batch_of(layout, Record("h", (Chain("QVQL", role=Role.HEAVY),)))

    def test_roles_travel_through_a_corpus(self, tmp_path):
        records = [Record("h", (HEAVY,)), PAIR, Record("l", (LIGHT,))]
        corpus = write_corpus(tmp_path / "corpus", iter(records))
        rows = np.array([2, 1, 1, 0])
        assert corpus.gather(rows).roles.tolist() == [2, 1, 2, 1, 2, 1]


class TestLinker:
    LAYOUT = layout_of_vocabulary("esm", separator="linker:GGGS")

    def test_its_residues_belong_to_no_chain(self):
        batch = batch_of(self.LAYOUT, "AG/GC")
        assert self.LAYOUT.decode(batch.tokens.numpy()) == "<cls>AGGGGSGC<eos>"
        assert batch.chain_index.tolist() == [-1, 0, 0, -1, -1, -1, -1, 1, 1, -1]
        assert batch.standard.tolist() == [False, True, True, *[False] * 4, True, True, False]

    def test_it_is_never_masked(self):
        batch = batch_of(self.LAYOUT, *("AG/GC" for _ in range(20)))
        selection = UniformMasking.Config(mean_rate=1.0).build()(batch, Draw())
        corrupted = corrupt(batch, selection, self.LAYOUT, draw=Draw())
        assert len(corrupted.rows) == 80
        assert bool(batch.is_residue[corrupted.rows].all())
        assert torch.equal(corrupted.batch.tokens[~batch.is_residue], batch.tokens[~batch.is_residue])

    @pytest.mark.parametrize("name", ["linker:", "linker:GG1", "linker:gg", "lnker", "linker:X"])
    def test_others_than_the_twenty_are_refused(self, name):
        with pytest.raises(ConfigError, match="unknown chain separator"):
            layout_of_vocabulary("esm", separator=name)
        with pytest.raises(ConfigError, match="unknown chain separator"):
            EsmArchitecture.Config.from_dict({"separator": name})


def save_like_the_lab(name, folder):
    """Save a small random model in a published layout, without any file of ours."""
    vocabulary = VOCABULARIES[LAYOUTS[name].vocabulary]
    ids = {token: index for index, token in enumerate(vocabulary.tokens)}
    shared = {"vocab_size": len(ids), "hidden_size": 24, "pad_token_id": ids["<pad>"], **SIZES}
    if vocabulary.begin == "<s>":
        module = RobertaForMaskedLM(
            RobertaConfig(**shared, max_position_embeddings=66, bos_token_id=0, eos_token_id=2)
        )
        tokenizer = RobertaTokenizer(vocab=ids, merges=[])
    else:
        # sizes apart, the published configuration: what it does not say is Hugging Face's default
        module = EsmForMaskedLM(
            EsmConfig(
                **shared,
                mask_token_id=ids["<mask>"],
                max_position_embeddings=322,
                position_embedding_type="rotary",
            )
        )
        folder.mkdir(exist_ok=True)
        (folder / "vocab.txt").write_text("\n".join(vocabulary.tokens))
        tokenizer = EsmTokenizer(str(folder / "vocab.txt"))
    enliven(module.eval())
    module.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if name == "preferential-masking":
        facts = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(
            json.dumps({**facts, "architectures": ["EsmForMaskedLM_withCdr"]})
        )
    return module


def save_bert(_, folder):
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *STANDARD]
    module = BertForMaskedLM(
        BertConfig(vocab_size=len(tokens), hidden_size=24, max_position_embeddings=64, **SIZES)
    )
    enliven(module.eval())
    module.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(tokens))
    return module


CERTAIN = [name for name in LAYOUTS if name not in ("curriculum", "currab", "preferential-masking-cls")]


@pytest.fixture(params=CERTAIN)
def lab(request, tmp_path):
    """A layout's name, the lab's module, and its folder."""
    return request.param, save_like_the_lab(request.param, tmp_path / "lab"), tmp_path / "lab"


def masked_batch(layout):
    records = [*random_records(8, seed=3, lengths=(3, 20)), PAIR]
    batch = batch_of(layout, *records)
    places = np.flatnonzero(batch.standard.numpy())[::5]
    return with_tokens(batch, dict.fromkeys(places.tolist(), layout.mask_id))


class TestFoldersOfLabs:
    def test_they_load_with_their_layout(self, lab):
        name, _, folder = lab
        model = load_model(folder, device="cpu")
        assert "flat tokens" in model.path
        expected = published_layout(name)
        assert replace(model.layout, max_tokens=None) == expected
        assert model.layout.max_tokens == (64 if name in ("balm", "roberta") else None)

    def test_logits_and_states_are_those_of_the_hugging_face_call_with_padding(self, lab):
        _, module, folder = lab
        model = load_model(folder, device="cpu")
        batch = masked_batch(model.layout)
        inputs = {
            "input_ids": batch.pad(batch.tokens, model.layout.pad_id),
            "attention_mask": batch.pad(torch.ones_like(batch.tokens), 0),
        }
        rows = torch.from_numpy(np.flatnonzero(batch.standard.numpy())[::7].copy())
        with torch.inference_mode():
            theirs = batch.unpad(module(**inputs).logits)
            states = batch.unpad(module.base_model(**inputs).last_hidden_state)
        assert theirs.std() > 0.3
        for attention in ("grouped", "padded"):
            ours = LanguageModel(model.module, model.layout, attention=attention)
            with torch.inference_mode():
                torch.testing.assert_close(ours.logits(batch), theirs, **CLOSE)
                torch.testing.assert_close(ours.logits(batch, rows), theirs[rows], **CLOSE)
                torch.testing.assert_close(ours.hidden(batch), states, **CLOSE)

    def test_gradients_are_those_of_the_hugging_face_call(self, lab):
        _, module, folder = lab
        model = load_model(folder, device="cpu").train()
        for each in (*model.modules(), *module.modules()):
            if hasattr(each, "dropout") and isinstance(each.dropout, float):
                each.dropout = 0.0  # ESM keeps a number
            if isinstance(each, torch.nn.Dropout):
                each.p = 0.0
        module.train()
        batch = masked_batch(model.layout)
        inputs = {
            "input_ids": batch.pad(batch.tokens, model.layout.pad_id),
            "attention_mask": batch.pad(torch.ones_like(batch.tokens), 0),
        }
        model.logits(batch).square().mean().backward()
        batch.unpad(module(**inputs).logits).square().mean().backward()
        theirs = dict(module.named_parameters())
        for name, parameter in model.module.named_parameters():
            if theirs[name].grad is not None:
                torch.testing.assert_close(parameter.grad, theirs[name].grad, atol=2e-4, rtol=1e-3)

    def test_saved_and_loaded_they_have_the_same_ids_and_logits(self, lab, tmp_path):
        name, _, folder = lab
        model = load_model(folder, device="cpu")
        model.save(tmp_path / "ours")
        again = load_model(tmp_path / "ours", device="cpu")
        assert again.layout == model.layout
        batch = masked_batch(model.layout)
        with torch.inference_mode():
            assert torch.equal(again.logits(batch), model.logits(batch))
        stock = AutoModelForMaskedLM.from_pretrained(tmp_path / "ours").eval()
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / "ours")
        assert tokenizer.get_vocab() == model.layout.ids
        single = batch_of(model.layout, "MKTAYIAK")
        tokens = tokenizer("MKTAYIAK", return_tensors="pt")
        assert tokens.input_ids[0].tolist() == single.tokens.tolist()
        with torch.inference_mode():
            theirs = stock(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).logits[0]
            torch.testing.assert_close(model.logits(single), theirs, **CLOSE)
        assert name in CERTAIN

    def test_a_separator_of_its_own_is_special_to_the_saved_tokenizer(self, tmp_path):
        model = EsmArchitecture.Config(vocabulary="esm-sep", separator="sep", **TINY).build(seed=0)
        model.save(tmp_path)
        assert 31 in AutoTokenizer.from_pretrained(tmp_path).all_special_ids

    def test_a_vocabulary_with_two_layouts_must_be_told_which(self, tmp_path):
        save_like_the_lab("currab", tmp_path)
        with pytest.raises(ModelError, match=r"several chain layouts: curriculum, currab\nhint: .*convert"):
            load_model(tmp_path, device="cpu")
        published_layout("currab").save(tmp_path)
        assert load_model(tmp_path, device="cpu").layout.single_chain == "keep-separator"


TINY = {"num_layers": 1, "hidden_size": 16, "num_heads": 2}


class TestConfiguration:
    def test_keys_reach_the_layout(self):
        config = EsmArchitecture.Config(
            vocabulary="preferential-masking", separator="cls", position_gap=5, layer_norm_eps=1e-12, **TINY
        )
        model = config.build(seed=0)
        assert model.layout.position_gap == 5
        assert model.module.config.layer_norm_eps == 1e-12
        assert (model.module.config.pad_token_id, model.module.config.mask_token_id) == (21, 22)
        assert EsmArchitecture.Config.from_dict(config.model_dump(mode="json")) == config

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"vocabulary": "esn"}, "unknown vocabulary 'esn'; did you mean 'esm'"),
            ({"separator": "sep"}, "lacks the chain separator <sep>"),
            ({"vocabulary": "balm", "separator": "eos"}, "has no <cls>"),
            ({"position_gap": -1}, "position_gap"),
            ({"single_chain": "alone"}, "single_chain"),
        ],
    )
    def test_what_cannot_be_is_refused(self, values, message):
        with pytest.raises(ConfigError, match=message):
            EsmArchitecture.Config.from_dict(values)

    def test_a_pretrained_model_takes_another_layout(self, tmp_path):
        EsmArchitecture.Config(**TINY).build(seed=0).save(tmp_path / "m")
        config = PretrainedArchitecture.Config(
            name=str(tmp_path / "m"), separator="cls", position_gap=3, single_chain="keep-separator"
        )
        layout = config.build(seed=0).layout
        assert (layout.separator, layout.position_gap, layout.single_chain) == (
            ("<cls>",),
            3,
            "keep-separator",
        )
        plain = PretrainedArchitecture.Config(name=str(tmp_path / "m")).build(seed=0).layout
        assert (plain.separator, plain.position_gap) == (("<cls>", "<cls>"), 0)


class TestPositionGap:
    def gapped(self, folder, gap=4):
        model = load_model(folder, device="cpu")
        model.layout = replace(model.layout, position_gap=gap)
        return model

    def test_roberta_and_bert_leave_it_as_their_own_position_ids_would(self, tmp_path):
        for kind, save, first in (("balm", save_like_the_lab, 2), ("bert", save_bert, 0)):
            folder = tmp_path / kind
            module = save(kind, folder)
            model = self.gapped(folder)
            batch = batch_of(model.layout, "ACD/WY", "MKTAYI/A", "G")
            with torch.inference_mode():
                ours = model.logits(batch)
                for number in range(batch.num_sequences):
                    one = batch.select(np.array([number]))
                    theirs = module(
                        input_ids=one.tokens[None], position_ids=one.positions[None] + first
                    ).logits[0]
                    span = slice(*batch.offsets[number : number + 2].tolist())
                    torch.testing.assert_close(ours[span], theirs, **CLOSE)
            model.layout = replace(model.layout, position_gap=0)
            with torch.inference_mode():
                assert not torch.allclose(model.logits(batch_of(model.layout, "ACD/WY")), ours[:8], atol=1e-2)

    def test_a_model_that_takes_no_positions_refuses_by_name(self, tmp_path):
        layout = layout_of_vocabulary("esm")
        module = RoFormerForMaskedLM(
            RoFormerConfig(vocab_size=33, hidden_size=16, embedding_size=16, pad_token_id=1, **SIZES)
        ).eval()
        model = LanguageModel(module, replace(layout, position_gap=2), name="roformer")
        with pytest.raises(
            ModelError, match=r"'roformer' \(roformer\) cannot take residues at positions of their own"
        ):
            model.logits(batch_of(model.layout, "AC/D"))
        model.layout = layout
        assert model.logits(batch_of(layout, "AC/D")).shape == (7, 33)


@pytest.mark.parametrize("separator", ["cls-cls", "linker", "eos"])
@pytest.mark.parametrize("single_chain", ["bare", "keep-separator"])
def test_a_layout_saves_and_loads(tmp_path, separator, single_chain):
    layout = layout_of_vocabulary("esm", separator=separator, single_chain=single_chain, position_gap=3)
    layout.save(tmp_path)
    assert TokenLayout.load(tmp_path) == layout
    assert json.loads((tmp_path / FILE_NAME).read_text())["format_version"] == 3


def test_roles_are_zero_where_they_are_not_known():
    assert batch_of(layout_of_vocabulary("esm"), "AC/D").roles.tolist() == [0] * 7


class TestRolesThatAreNotGiven:
    VH = (
        "QVQLVQSGAEVKKPGASVKVSCKASGYTFTSYYMHWVRQAPGQGLEWMGIINPSGGSTSYAQ"
        "KFQGRVTMTRDTSTSTVYMELSSLRSEDTAVYYCARDYWGQGTLVTVSS"
    )
    VL = (
        "DIQMTQSPSSLSASVGDRVTITCRASQSISSYLNWYQQKPGKAPKLLIYAASSLQSGVPS"
        "RFSGSGSGTDFTLTISSLQPEDFATYYCQQSYSTPLTFGGGTKVEIK"
    )

    def test_they_are_found_by_numbering_where_the_layout_needs_them(self):
        records = [
            Record(name, (Chain(text),)) for name, text in (("h", self.VH), ("l", self.VL), ("x", "MKTAYI"))
        ]
        layout = published_layout("currab")
        roles = [record.chains[0].role for record in with_roles(records, layout)]
        assert roles == [Role.HEAVY, Role.LIGHT, Role.OTHER]
        assert with_roles(records, replace(layout, single_chain="bare")) == records
        assert (
            with_roles([Record("said", (Chain(self.VH, role=Role.LIGHT),))], layout)[0].chains[0].role
            is Role.LIGHT
        )

    def test_a_chain_of_unknown_type_is_scored_and_embedded_as_the_heavy_one_it_is(self):
        model = EsmArchitecture.Config(
            vocabulary="esm-sep", separator="cls", single_chain="keep-separator", **TINY
        ).build(seed=0)
        enliven(model.module)
        model.eval()
        known, unknown = Record("a", (Chain(self.VH, role=Role.HEAVY),)), Record("a", (Chain(self.VH),))
        ((one,),), ((other,),) = embed_records(model, [known]), embed_records(model, [unknown])
        assert np.array_equal(one, other)
        variants = [parse_variant("Q1E", self.VH)]
        plan = plans.get("masked_marginal")()
        scores = [score_variants(model, plan, record, variants).scores[0] for record in (known, unknown)]
        assert scores[0] == scores[1] != 0
