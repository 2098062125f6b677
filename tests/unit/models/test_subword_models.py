"""Models of sub-words: read by plain Hugging Face, embedded by the mean over residues, refused by name."""

import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForMaskedLM, AutoTokenizer

from fixtures.builders import batch_of, enliven, random_records
from fixtures.subwords import SUBWORDS
from protlm import embed, score
from protlm.data.collate import collate
from protlm.data.flat import flatten_records
from protlm.data.layout import FILE_NAME, esm_layout
from protlm.data.subword_training import train_subwords
from protlm.errors import ModelError
from protlm.models.architecture_roberta import RobertaArchitecture
from protlm.models.embed import embed_records
from protlm.models.loading import load_model
from protlm.models.residue_level import require_residue_level
from protlm.models.tokenizers import roberta_tokenizer
from protlm.models.towers import SequenceTower
from protlm.scoring.contexts import ContextList
from protlm.types.record import Chain, Record


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """The folder of a tokenizer of bytes and 40 merges."""
    folder = tmp_path_factory.mktemp("tokenizer")
    chains = [record.chains[0].residues for record in random_records(60, seed=1, letters="LLAAKMGS")]
    layout = train_subwords(chains, num_merges=40).layout
    layout.save(folder)
    roberta_tokenizer(layout).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(tokenizer):
    config = RobertaArchitecture.Config(
        num_layers=2, hidden_size=16, num_heads=2, max_tokens=64, vocabulary=str(tokenizer)
    )
    built = config.build(seed=0, name="words")
    enliven(built.module)
    return built.eval()


@pytest.fixture
def records():
    return random_records(12, seed=2, letters="LLAAKMGSX", pairs=False)


def test_plain_tokenizers_give_the_ids_of_ours(tokenizer, model, records, tmp_path):
    model.save(tmp_path)
    batch = batch_of(model.layout, *records)
    expected = [part.tolist() for part in torch.split(batch.tokens, batch.lengths.tolist())]
    texts = [record.chains[0].residues for record in records]
    for folder in (tokenizer, tmp_path):
        assert AutoTokenizer.from_pretrained(folder)(texts)["input_ids"] == expected
        file = Tokenizer.from_file(str(folder / "tokenizer.json"))
        assert [each.ids for each in file.encode_batch(texts)] == expected
    pair = Record("p", (*records[0].chains, *records[1].chains))
    plain = AutoTokenizer.from_pretrained(tmp_path)
    assert plain(*texts[:2])["input_ids"] == batch_of(model.layout, pair).tokens.tolist()
    assert max(model.layout.residues_per_token) > 2


def test_logits_are_those_of_the_plain_call(model, records, tmp_path):
    model.save(tmp_path)
    plain, hugging = AutoTokenizer.from_pretrained(tmp_path), AutoModelForMaskedLM.from_pretrained(tmp_path)
    with torch.inference_mode():
        ours = model.logits(batch_of(model.layout, *records))
        inputs = plain([record.chains[0].residues for record in records], padding=True, return_tensors="pt")
        theirs = hugging.eval()(**inputs).logits[inputs["attention_mask"].bool()]
    assert float(theirs.std()) > 0.3
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_a_saved_model_loads_with_its_merges(model, tmp_path):
    model.save(tmp_path)
    assert load_model(tmp_path, device="cpu").layout == model.layout


def test_a_folder_of_hugging_face_alone_loads_too(model, tmp_path):
    model.save(tmp_path)
    (tmp_path / FILE_NAME).unlink()
    loaded = load_model(tmp_path, device="cpu")
    assert loaded.layout == model.layout
    assert loaded.layout.separator_text == "</s></s>"


def test_a_tokenizer_that_puts_a_space_before_a_chain_is_refused(model, tmp_path):
    model.save(tmp_path)
    (tmp_path / FILE_NAME).unlink()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        text = (tmp_path / name).read_text()
        (tmp_path / name).write_text(text.replace('"add_prefix_space": false', '"add_prefix_space": true'))
    with pytest.raises(ModelError, match=r"writes MKTAYIAK… as Ġ"):
        load_model(tmp_path, device="cpu")


def test_embeddings_are_means_over_residues(model):
    record = Record("r", (Chain("LLAAKLLAAKGSMX"), Chain("LLLLLAAAA")))
    states = embed_records(model, [record])[0]
    batch = collate(flatten_records([record]), model.layout)
    with torch.inference_mode():
        hidden = model.hidden(batch)
    for place, chain in enumerate(record.chains):
        total = torch.zeros(16)
        for row in range(len(batch.tokens)):
            if batch.chain_index[row] == place:
                total += hidden[row] * int(batch.residue_stop[row] - batch.residue_start[row])
        np.testing.assert_allclose(states[place], (total / len(chain)).numpy(), atol=1e-5)
    assert int((batch.residue_stop - batch.residue_start).max()) > 1


class TestRefusals:
    MESSAGE = r"needs one residue per token, and model 'words' \(301 tokens, up to \d residues in one\)"

    def test_scores(self, model):
        with pytest.raises(ModelError, match="^score " + self.MESSAGE):
            score(model, "MKTAYIAK", ["K2A"])

    def test_embeddings_per_residue(self, model, records):
        with pytest.raises(ModelError, match="^an embedding per residue " + self.MESSAGE):
            embed(model, records, per_residue=True)

    def test_the_engine(self, model):
        from protlm.scoring.engine import run_contexts

        with pytest.raises(ModelError, match="^hiding and reading single residues " + self.MESSAGE):
            run_contexts(model, ContextList([]))

    def test_residue_level_is_let_through(self, tiny_model):
        require_residue_level(tiny_model, "anything")
        assert esm_layout().is_residue_level
        assert not SUBWORDS.is_residue_level

    def test_a_manifest_of_merges_is_plain_text(self, tokenizer):
        facts = json.loads((tokenizer / FILE_NAME).read_text())
        assert len(facts["merges"]) == 40
        assert all(merge.count(" ") == 1 for merge in facts["merges"])


def test_towers_pool_no_segments_of_sub_words(model):
    assert SequenceTower(model, "mean").segments == 1
    with pytest.raises(ModelError, match="pooling 4 segments needs one residue per token"):
        SequenceTower(model, "mean", 4)
