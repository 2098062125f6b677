"""Which baselines stand beside the models: only those that training data and input allow, and why."""

from dataclasses import replace

import numpy as np
import pytest

from protlm.data.corpus import CorpusWriter, write_corpus
from protlm.data.germline_set import open_germline
from protlm.data.numbering import number_records
from protlm.data.simulate import simulate_repertoire
from protlm.evaluation.baselines import GERMLINE, SHARES
from protlm.recipes.evaluate_baselines import choose_baselines, fit_on_sources
from protlm.recipes.evaluated import ChosenRecords
from protlm.types.record import Record

HUMAN = {"is_off": False, "set": open_germline().lines()}


@pytest.fixture(scope="module")
def records():
    return list(number_records(simulate_repertoire(6, seed=2, mutation_rate=0.05)))


def corpus_of(folder, records, germline):
    with CorpusWriter(folder) as writer:
        for record in records:
            writer.add(record)
        return writer.close({} if germline is None else {"germline": germline})


@pytest.mark.parametrize(
    ("germline", "reason"),
    [
        (None, ""),
        (HUMAN, ""),
        ({**HUMAN, "is_off": True}, "does not look human"),
        ({"is_off": False, "set": []}, "was prepared without germline genes"),
        ({"is_off": False, "set": ["germline set: mouse.fasta (40 IGHV)"]}, "was prepared with other genes"),
    ],
)
def test_human_genes_are_only_laid_on_chains_prepared_with_them(tmp_path, records, germline, reason):
    said: list[str] = []
    tables = fit_on_sources([(corpus_of(tmp_path / "c", records, germline), None)], said.append)
    assert tables[SHARES].is_empty() == tables[GERMLINE].is_empty() == bool(reason)
    assert [reason in line and "'germline'" in line for line in said] == [True] * bool(reason)


def test_a_run_without_the_germline_baseline_says_so_in_evaluation(tmp_path, records):
    corpus = corpus_of(tmp_path / "c", records, {**HUMAN, "is_off": True})
    said: list[str] = []
    chosen = ChosenRecords(corpus, np.arange(len(corpus)))
    found = choose_baselines([], chosen, fit_on=corpus.path, folder=tmp_path / "b", say=said.append)
    assert [each.name for each in found] == ["position_mode", "v_gene_majority", "genes"]
    assert any(
        line.startswith("no baseline 'germline': the training chains were not compared") for line in said
    )


def without_calls(record, *names, chains):
    return Record(
        record.id,
        tuple(
            replace(chain, **dict.fromkeys(names, "")) if place in chains else chain
            for place, chain in enumerate(record.chains)
        ),
        group=record.group,
    )


def test_calls_are_asked_for_by_column_and_their_share_is_said(tmp_path, records):
    """No V call anywhere, J calls on heavy chains alone."""
    training = write_corpus(tmp_path / "training", records)
    some = [without_calls(record, "v_call", chains=(0, 1)) for record in records]
    some = [without_calls(record, "j_call", chains=(1,)) for record in some]
    corpus = write_corpus(tmp_path / "input", some)
    said: list[str] = []
    chosen = ChosenRecords(corpus, np.arange(len(corpus)))
    found = choose_baselines([], chosen, fit_on=training.path, folder=tmp_path / "b", say=said.append)
    assert [each.name for each in found] == ["position_mode", "germline", "genes"]
    assert "no baseline 'v_gene_majority': the input has no V calls; protlm prepare assigns them" in said
    share = "6 of 12 chains (50%) have V or J calls; the others are predicted by position"
    assert f"baseline 'genes': {share}" in said


def test_nothing_is_said_where_every_chain_has_its_calls(tmp_path, records):
    training = write_corpus(tmp_path / "training", records)
    said: list[str] = []
    chosen = ChosenRecords(training, np.arange(len(training)))
    choose_baselines([], chosen, fit_on=training.path, folder=tmp_path / "b", say=said.append)
    assert said == ["baselines are fitted on training: 6 records"]
