import json
import struct

import pytest
from handmade import write_pretrain, write_run

from protlm.errors import RunError
from protlm.report.sources import read_sources
from protlm.report.summary import cards, count_parameters


def write_safetensors(path, shapes):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {
        name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()
    }
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)


def facts_of(path):
    (card,) = cards(read_sources([path]))
    return dict(card.facts), card


def test_a_training_is_described(tmp_path):
    facts, card = facts_of(write_pretrain(tmp_path / "run"))
    assert facts["started"] == "2026-01-02 03:04:05 UTC"
    assert facts["finished"] == "2026-01-02 04:05:06 UTC"
    assert facts["training"] == "4 of 8 steps, 400 tokens"
    assert facts["train data"] == "corpus:train: 240 records (7 dropped when the corpus was made)"
    assert facts["eval data"].startswith("corpus:holdout: 60 records")
    assert facts["seed"] == "5"
    assert facts["versions"] == "protlm 0.1.0, torch 2.13.0, Python 3.11.7"
    assert facts["commit"] == "0123456789"
    assert facts["machine"] == "Abacus 3000, 2 CPUs, Linux"
    assert card.command == "protlm pretrain --out run"
    assert "parameters" not in facts, "there is no model file"


def test_an_unfinished_run_is_marked(tmp_path):
    facts, card = facts_of(write_pretrain(tmp_path / "run", is_done=False))
    assert card.is_unfinished
    assert facts["finished"] == "not yet"


def test_a_run_that_was_stopped_at_once_is_described(tmp_path):
    facts, card = facts_of(write_run(tmp_path / "run", "pretrain", is_done=False))
    assert card.verb == "pretrain"
    assert "training" not in facts


def test_evaluations_and_scans_are_described(sources):
    _, _, evaluation, scan = cards(read_sources(sources))
    assert dict(evaluation.facts)["data"] == "corpus:holdout: 12 records"
    facts = dict(scan.facts)
    assert facts["models"] == "cdr3 (1,000 parameters)"
    assert facts["wild type"] == "wt, 10 residues"
    assert (facts["variants"], facts["offset"]) == ("190", "10")


def test_parameters_are_counted_from_file_headers(tmp_path):
    shapes = {"a.weight": [3, 4], "b.bias": [5], "scale": [], "rotary.inv_freq": [100]}
    write_safetensors(tmp_path / "model" / "model-1.safetensors", shapes)
    write_safetensors(tmp_path / "model" / "model-2.safetensors", {"c": [2, 2]})
    assert count_parameters(tmp_path / "model") == 12 + 5 + 1 + 4
    assert count_parameters(tmp_path / "elsewhere") is None


def test_a_cut_weight_file_is_named(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"\x00")
    with pytest.raises(RunError, match=r"cannot read .*model\.safetensors"):
        count_parameters(tmp_path)
