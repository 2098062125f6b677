"""A Longformer made of a RoBERTa: every weight, and the logits wherever both see the same tokens."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import AutoModelForMaskedLM, AutoTokenizer
from typer.testing import CliRunner

from fixtures.builders import batch_of, enliven, lively_esm, random_records, random_residues, with_tokens
from protlm.cli.main import app
from protlm.errors import ModelError, UserError
from protlm.models.architecture_roberta import RobertaArchitecture
from protlm.models.loading import load_model
from protlm.models.longformer import tiled_positions, to_longformer
from protlm.models.padded import padded_inputs

CLOSE = {"atol": 1e-5, "rtol": 0}
START, LONGER = 32, 128


def lively_roberta(**sizes):
    """A small RoBERTa in which every weight moves the logits by order one."""
    sizes = {"num_layers": 2, "hidden_size": 16, "num_heads": 2, "max_tokens": START, **sizes}
    model = RobertaArchitecture.Config(**sizes).build(seed=0)
    enliven(model.module)
    return model.eval()


@pytest.fixture(scope="module")
def roberta():
    return lively_roberta()


def sequences(layout, *lengths, masked=False):
    """Records of so many tokens, special ones included; every fifth residue masked if asked."""
    random = np.random.default_rng(1)
    batch = batch_of(layout, *(random_residues(random, length - 2) for length in lengths))
    places = np.flatnonzero(batch.standard.numpy())[::5] if masked else []
    return with_tokens(batch, dict.fromkeys(map(int, places), layout.mask_id))


def alone(model, batch):
    """Logits of Hugging Face's own call, one sequence at a time, padded by nobody but itself."""
    parts = [batch.select(np.array([number])).tokens[None] for number in range(batch.num_sequences)]
    return torch.cat([model.module(input_ids=tokens).logits[0] for tokens in parts])


class TestWeights:
    def test_each_is_that_of_the_roberta(self, roberta):
        longer = to_longformer(roberta, max_tokens=LONGER, window=8).module.state_dict()
        own = roberta.module.state_dict()
        seen = set()
        for name, values in longer.items():
            origin = name.replace("longformer.", "roberta.").replace("_global", "")
            if "position_embeddings" not in name:
                assert torch.equal(values, own[origin]), name
            seen.add(origin)
        assert seen == set(own)

    def test_positions_are_tiled_and_every_row_is_set(self, roberta):
        table = to_longformer(roberta, max_tokens=LONGER, window=8).module.longformer.embeddings
        rows, own = table.position_embeddings.weight, roberta.module.roberta.embeddings.position_embeddings
        assert rows.shape[0] == LONGER + 2
        assert torch.equal(rows[:2], own.weight[:2])
        for start in range(2, LONGER + 2, START):
            assert torch.equal(rows[start : start + START], own.weight[2:])

    def test_a_last_tile_is_cut(self):
        rows = tiled_positions(torch.arange(5.0)[:, None], 10, num_fixed=2)
        assert rows.flatten().tolist() == [0, 1, 2, 3, 4, 2, 3, 4, 2, 3]

    def test_global_projections_are_copies_of_their_own_and_not_trained_here(self, roberta):
        module = to_longformer(roberta, max_tokens=LONGER, window=8).module
        for layer in module.longformer.encoder.layer:
            own = layer.attention.self
            for name in ("query", "key", "value"):
                local, far = getattr(own, name).weight, getattr(own, f"{name}_global").weight
                assert torch.equal(local, far)
                assert local.data_ptr() != far.data_ptr()
                assert (local.requires_grad, far.requires_grad) == (True, False)

    def test_none_is_shared_with_the_roberta(self, roberta):
        longer = to_longformer(roberta, max_tokens=LONGER, window=8)
        theirs = {values.data_ptr() for values in roberta.module.state_dict().values()}
        assert not theirs & {values.data_ptr() for values in longer.module.state_dict().values()}
        assert longer.module.lm_head.decoder.weight is longer.module.get_input_embeddings().weight


class TestLogits:
    @pytest.mark.parametrize("masked", [False, True])
    @pytest.mark.parametrize(("window", "lengths"), [(8, (3, 5)), (32, (17, 9, 17)), (64, (32, 31, 5))])
    def test_they_are_the_robertas_up_to_half_a_window_and_one(self, roberta, window, lengths, masked):
        longer = to_longformer(roberta, max_tokens=LONGER, window=window)
        batch = sequences(roberta.layout, *lengths, masked=masked)
        with torch.inference_mode():
            expected = roberta.logits(batch)
            assert expected.std() > 0.3
            torch.testing.assert_close(longer.logits(batch), expected, **CLOSE)
            torch.testing.assert_close(alone(longer, batch), expected, **CLOSE)

    def test_one_token_more_and_they_differ(self, roberta):
        longer = to_longformer(roberta, max_tokens=LONGER, window=8)
        batch = sequences(roberta.layout, 6)
        with torch.inference_mode():
            assert (longer.logits(batch) - roberta.logits(batch)).abs().max() > 1e-2

    @pytest.mark.parametrize("masked", [False, True])
    def test_of_any_length_they_are_those_of_hugging_faces_own_call(self, roberta, masked):
        """Shorter than the window, no multiple of it, a multiple, and as long as the model takes."""
        longer = to_longformer(roberta, max_tokens=LONGER, window=16)
        batch = sequences(longer.layout, 3, 16, 17, 50, 64, LONGER, masked=masked)
        with torch.inference_mode():
            torch.testing.assert_close(longer.logits(batch), alone(longer, batch), **CLOSE)
            rows = torch.arange(5, len(batch.tokens), 7)
            torch.testing.assert_close(longer.logits(batch, rows), alone(longer, batch)[rows], **CLOSE)

    def test_a_pair_too(self, roberta):
        longer = to_longformer(roberta, max_tokens=LONGER, window=16)
        batch = batch_of(longer.layout, *random_records(6, seed=2))
        assert longer.layout.separator_text == "</s></s>"
        with torch.inference_mode():
            torch.testing.assert_close(longer.logits(batch), alone(longer, batch), **CLOSE)

    def test_they_are_the_definition_of_a_window(self, roberta):
        """Full attention of Hugging Face's RoBERTa, with the band as a mask of scores."""
        longer = to_longformer(roberta, max_tokens=LONGER, window=8)
        batch = sequences(roberta.layout, 30)
        apart = (torch.arange(30)[:, None] - torch.arange(30)).abs()
        band = torch.where(apart > 4, torch.finfo(torch.float32).min, 0.0)[None, None]
        with torch.inference_mode():
            states = roberta.module.roberta.embeddings(input_ids=batch.tokens[None])
            for layer in roberta.module.roberta.encoder.layer:
                own = layer.attention.self
                query, key, value = (
                    part(states).unflatten(-1, (2, -1)).transpose(1, 2)
                    for part in (own.query, own.key, own.value)
                )
                scores = query @ key.transpose(-1, -2) / key.shape[-1] ** 0.5 + band
                mixed = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
                states = layer.attention.output(mixed, states)
                states = layer.output(layer.intermediate(states), states)
            expected = roberta.module.lm_head(states)[0]
            torch.testing.assert_close(longer.logits(batch), expected, **CLOSE)

    def test_gradients_are_those_of_hugging_faces_own_call(self, roberta):
        batch = sequences(roberta.layout, 5, 20, 30)
        longer = to_longformer(roberta, max_tokens=LONGER, window=8)
        gradients = []
        for logits in (longer.logits, lambda batch: alone(longer, batch)):
            longer.zero_grad()
            F.cross_entropy(logits(batch), batch.tokens.long()).backward()
            gradients.append({n: p.grad for n, p in longer.named_parameters() if p.requires_grad})
        for name, values in gradients[0].items():
            assert values is not None, name
            torch.testing.assert_close(values, gradients[1][name], atol=1e-6, rtol=1e-4, msg=name)

    def test_windows_that_differ_by_layer_go_by_the_modules_call(self, roberta):
        longer = to_longformer(roberta, max_tokens=LONGER, window=16)
        longer.module.config.attention_window = [8, 16]
        own = type(longer.module)(longer.module.config).eval()
        own.load_state_dict(longer.module.state_dict())
        model = type(longer)(own, longer.layout)
        assert not model.is_flat
        assert "every length padded to a multiple of 16" in model.path
        batch = sequences(model.layout, 3, 17, 40)
        assert padded_inputs(own, model.layout, batch, name="")["input_ids"].shape == (3, 48)
        with torch.inference_mode():
            torch.testing.assert_close(model.logits(batch), alone(model, batch), **CLOSE)


class TestRefused:
    def test_a_model_that_is_no_roberta(self):
        with pytest.raises(ModelError, match="is of type 'esm', and a Longformer is made of a RoBERTa"):
            to_longformer(lively_esm(), max_tokens=LONGER, window=8)

    @pytest.mark.parametrize(
        ("max_tokens", "window", "message"),
        [
            (START // 2, 8, "max_tokens 16 is less than the 32"),
            (LONGER, 7, "window 7 is no even number"),
            (LONGER, 0, "window 0 is no even number"),
            (LONGER, 48, "window 48 does not divide max_tokens 128"),
        ],
    )
    def test_lengths_that_do_not_fit(self, roberta, max_tokens, window, message):
        with pytest.raises(ModelError, match=message):
            to_longformer(roberta, max_tokens=max_tokens, window=window)


class TestFolders:
    @pytest.fixture
    def start(self, tmp_path):
        model = lively_roberta()
        model.save(tmp_path / "roberta")
        return tmp_path / "roberta"

    def convert(self, start, out, *options):
        return CliRunner().invoke(
            app, ["convert", str(start), "--to", "longformer", "--out", str(out), *options]
        )

    def test_the_command_writes_what_loads_everywhere(self, start, tmp_path):
        answer = self.convert(start, tmp_path / "long", "--max-tokens", "128", "--window", "16")
        assert answer.exit_code == 0, answer.stderr
        assert answer.stdout.strip() == str(tmp_path / "long")
        assert "up to 9 tokens the logits are those of 'roberta'" in answer.stderr
        model = load_model(tmp_path / "long", device="cpu")
        assert model.layout.max_tokens == 128
        assert "within 8 tokens on each side" in model.path
        facts = json.loads((tmp_path / "long" / "config.json").read_text())
        assert (facts["model_type"], facts["attention_window"]) == ("longformer", [16, 16])
        assert facts["architectures"] == ["LongformerForMaskedLM"]
        plain = AutoModelForMaskedLM.from_pretrained(tmp_path / "long").eval()
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / "long")
        residues = random_residues(np.random.default_rng(0), 100)
        batch = batch_of(model.layout, residues)
        tokens = tokenizer(residues, return_tensors="pt")["input_ids"]
        assert tokens[0].tolist() == batch.tokens.tolist()
        with torch.inference_mode():
            torch.testing.assert_close(model.logits(batch), plain(tokens).logits[0], **CLOSE)

    def test_nothing_is_tied_in_the_file_but_the_decoder(self, start, tmp_path):
        self.convert(start, tmp_path / "long", "--max-tokens", "128", "--window", "16")
        names = set(load_file(tmp_path / "long" / "model.safetensors"))
        assert "longformer.encoder.layer.0.attention.self.query_global.weight" in names
        assert "lm_head.decoder.weight" not in names

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--layout", "balm"], "--layout does not go with --to longformer"),
            (["--window", "15"], "window 15 is no even number"),
            (["--max-tokens", "16", "--window", "8"], "max_tokens 16 is less than the 32"),
        ],
    )
    def test_what_is_refused_leaves_nothing(self, start, tmp_path, options, message):
        answer = self.convert(start, tmp_path / "long", *options)
        assert isinstance(answer.exception, UserError)
        assert message in str(answer.exception)
        assert not (tmp_path / "long").exists()

    def test_other_conversions_and_lost_options_are_refused(self, start, tmp_path):
        runner = CliRunner()
        words = ["convert", str(start), "--out", str(tmp_path / "new")]
        misspelt = runner.invoke(app, [*words, "--to", "longfomer"])
        assert "did you mean 'longformer'" in str(misspelt.exception)
        lost = runner.invoke(app, [*words, "--window", "8"])
        assert "--window goes with --to longformer" in str(lost.exception)
        (tmp_path / "new").mkdir()
        assert "overwrites nothing" in str(self.convert(start, tmp_path / "new").exception)
