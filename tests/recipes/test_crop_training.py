"""pretrain on windows of long records: lengths, processes, evaluation, and what is refused."""

from itertools import islice

import numpy as np
import pytest
import torch

from fixtures.builders import random_records
from protlm.data.corpus import write_corpus
from protlm.errors import ConfigError
from protlm.recipes.pretrain import PretrainConfig, assemble, pretrain
from protlm.runs import Run
from protlm.training.processes import Processes

CROP = 20


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpora")
    pairs = random_records(20, seed=3, lengths=(15, 30))
    return {
        "long": str(write_corpus(folder / "long", random_records(60, lengths=(5, 60), pairs=False)).path),
        "other": str(
            write_corpus(folder / "other", random_records(30, seed=2, lengths=(30, 50), pairs=False)).path
        ),
        "pairs": str(write_corpus(folder / "pairs", pairs).path),
    }


def job_of(corpora, out, *, train="long", model=None, process=0, num_processes=1, **data):
    settings = {
        "data": {
            "train": train if isinstance(train, list) else corpora[train],
            "eval": corpora["other"],
            **data,
        },
        "model": {"num_layers": 1, "hidden_size": 16, "num_heads": 2, **(model or {})},
        "masking": "uniform",
        "training": {"max_steps": 30, "step_tokens": 150},
    }
    said = []
    config = PretrainConfig.from_dict(settings)
    run = Run.create(out, verb="pretrain", force=True)
    parts = assemble(config, run, processes=Processes(torch.device("cpu"), launched=1), say=said.append)
    parts.job.process, parts.job.num_processes = process, num_processes
    return parts.job, said


def seen(job, num_steps=12):
    """The tokens of each record in each step, by step and key."""
    return {
        (step, int(key)): batch.tokens[start:stop].tolist()
        for step, micro_batches in islice(job.steps(0), num_steps)
        for batch in (each.batch for each in micro_batches if len(each.rows))
        for key, start, stop in zip(batch.record_keys, batch.offsets, batch.offsets[1:], strict=False)
    }


def test_the_sampler_counts_windows_and_batches_hold_them(corpora, tmp_path):
    job, said = job_of(corpora, tmp_path / "run", long_records="crop", crop_residues=CROP)
    lengths = job.sources.lengths[0]
    assert lengths.max() == CROP + 2
    corpus = job.sources.sources[0].corpus
    assert lengths.tolist() == (np.minimum(corpus.lengths, CROP) + 2).tolist()
    for _, micro_batches in islice(job.steps(0), 10):
        for each in micro_batches:
            assert each.batch.lengths.max() <= CROP + 2
            assert len(each.batch.tokens) <= 150
    cut = int((corpus.lengths > CROP).sum())
    assert any(f"{cut} records of long cut to random windows of 20 residues" in line for line in said)


def test_processes_share_the_windows_of_one(corpora, tmp_path):
    asked = {"long_records": "crop", "crop_residues": CROP}
    whole = seen(job_of(corpora, tmp_path / "run", **asked)[0])
    one, other = (
        seen(job_of(corpora, tmp_path / "run", process=process, num_processes=2, **asked)[0])
        for process in range(2)
    )
    assert not one.keys() & other.keys()
    assert one | other == whole  # masks too


def test_a_mixture_gives_each_corpus_its_own_epochs(corpora, tmp_path):
    train = [{"source": corpora["long"], "share": 0.5}, {"source": corpora["other"], "share": 0.5}]
    job, _ = job_of(corpora, tmp_path / "run", train=train, long_records="crop", crop_residues=CROP)
    for drawn in islice(job.sources.steps(0), 20):
        records, epoch = job.sources.gather(drawn, np.arange(len(drawn.rows)))
        assert records.chain_lengths.max() <= CROP
        for number, source in enumerate(job.sources.sources):
            its = np.flatnonzero(np.isin(records.keys, source.corpus.keys))
            assert set(np.asarray(epoch)[its]) == set(drawn.epoch[drawn.source == number])


def test_evaluation_sees_the_same_windows_always(corpora, tmp_path):
    jobs = [job_of(corpora, tmp_path / "run", long_records="crop", crop_residues=CROP)[0] for _ in range(2)]
    jobs[1].seed = jobs[1].sources.seed = 99
    one, other = ([batch.batch.tokens.tolist() for batch in job._eval_batches] for job in jobs)
    assert one == other
    assert sum(map(len, one)) == 30 * (CROP + 2)


def test_the_limit_of_the_model_is_a_window_too(corpora, tmp_path):
    job, _ = job_of(corpora, tmp_path / "run", model={"max_tokens": 17}, long_records="crop")
    assert job.crop.limits(np.array([1])).tolist() == [15]
    assert job.sources.lengths[0].max() == 17
    next(job.steps(0))  # which collates, and would refuse a longer one
    smaller, _ = job_of(
        corpora, tmp_path / "run", model={"max_tokens": 17}, long_records="crop", crop_residues=9
    )
    assert smaller.crop.limits(np.array([1])).tolist() == [9]


@pytest.mark.parametrize("kind", ["crop", "window"])
def test_pairs_are_cut_to_what_the_model_takes(corpora, tmp_path, kind):
    job, said = job_of(corpora, tmp_path / "run", train="pairs", model={"max_tokens": 33}, long_records=kind)
    layout, corpus = job.layout, job.sources.sources[0].corpus
    records, _ = job.sources.gather(next(job.sources.steps(0)), np.arange(4))
    assert records.record_lengths.max() <= 31
    for _, micro_batches in islice(job.steps(0), 6):  # which collates, and would refuse a longer one
        for each in micro_batches:
            assert each.batch.lengths.max() <= 33
    pairs = corpus.num_chains_per_record == 2
    limits = 33 - layout.num_positions(0, corpus.num_chains_per_record)
    cut = (corpus.lengths > limits) & pairs
    assert cut.any()
    assert any(f"({cut.sum()} of several chains, cut " in line for line in said)


def test_pairs_that_are_too_long_are_dropped_where_asked(corpora, tmp_path):
    job, said = job_of(
        corpora, tmp_path / "run", train="pairs", model={"max_tokens": 33}, long_records="drop"
    )
    kept = job.sources.sources[0].rows
    assert 0 < len(kept) < 20
    assert any(
        f"{20 - len(kept)} records of pairs left out: over the limit of 33 tokens" in line for line in said
    )


def test_without_a_length_no_record_is_cut_and_that_is_said(corpora, tmp_path):
    job, said = job_of(corpora, tmp_path / "run", long_records="crop")
    assert job.crop is None
    assert "no record is cut: the model has no limit; data.crop_residues sets the length of windows" in said
    assert job.sources.lengths[0].max() == job.sources.sources[0].corpus.lengths.max() + 2


def test_a_length_that_nothing_is_cut_to_is_refused(corpora, tmp_path):
    with pytest.raises(ConfigError, match="crop_residues 20 does nothing while long_records is 'drop'"):
        job_of(corpora, tmp_path / "run", long_records="drop", crop_residues=CROP)


def test_a_resumed_run_sees_the_windows_of_one_in_a_row(corpora, tmp_path):
    """The third and fourth step from the start, and begun at."""
    asked = {"long_records": "crop", "crop_residues": CROP}
    job, _ = job_of(corpora, tmp_path / "run", **asked)
    begun = [
        (step, [each.batch.tokens.tolist() for each in parts]) for step, parts in islice(job.steps(2), 8)
    ]
    whole = [
        (step, [each.batch.tokens.tolist() for each in parts]) for step, parts in islice(job.steps(0), 10)
    ]
    assert begun == whole[2:]


def test_it_trains(corpora, tmp_path):
    config = PretrainConfig.from_dict(
        {
            "data": {"train": corpora["long"], "long_records": "crop", "crop_residues": CROP},
            "model": {"num_layers": 1, "hidden_size": 16, "num_heads": 2},
            "masking": "uniform",
            "training": {"max_steps": 3, "step_tokens": 300, "tensorboard": False},
        }
    )
    assert pretrain(config, tmp_path / "run", device="cpu", say=lambda _: None).is_done
