"""From files to labelled examples: filters, classes, crops, counts; nothing is lost unsaid."""

import numpy as np
import polars as pl
import pytest

from protlm.data.numbering import number_chains
from protlm.data.simulate import repertoire_frame, simulate_repertoire
from protlm.errors import ConfigError, DataError
from protlm.evaluation.cards import TaskCard
from protlm.evaluation.task_data import build_task
from protlm.evaluation.task_files import crop, find_files
from protlm.evaluation.task_shuffled import _check_shuffle
from protlm.types.record import Chain, Record
from protlm.types.regions import decode_position

SOURCE = {
    "name": "own",
    "file": "sets/own.tsv",
    "heavy": "heavy",
    "light": "light",
    "licence": "none",
    "citation": "none",
    "origin": "made here",
}


def card(**changes) -> TaskCard:
    values = {
        "name": "own-task",
        "version": 1,
        "title": "Own",
        "about": "A test.",
        "data": [SOURCE],
        "target": {"kind": "column", "column": "epitope", "positive": ["RBD"], "negative": ["NTD"]},
        "splits": [{"name": "clonotype", "by": ["clonotype"], "folds": 3}],
        "seeds": 2,
        "baselines": ["majority", "v_gene", "ends"],
    }
    return TaskCard.from_dict(values | changes)


@pytest.fixture
def frame():
    table = repertoire_frame(simulate_repertoire(60, seed=4, mutation_rate=0.0))
    epitopes = ["RBD", "NTD", "unknown"] * 20
    kinds = ["Ab"] * 54 + ["Nb"] * 6
    return table.with_columns(epitope=pl.Series(epitopes), kind=pl.Series(kinds))


def build(tmp_path, frame, task, **options):
    path = tmp_path / "sets" / "own.tsv"
    path.parent.mkdir(exist_ok=True)
    frame.write_csv(path, separator="\t")
    return build_task(task, find_files(task, [str(tmp_path)]), **options)


def test_classes_filters_and_repeats_are_counted(tmp_path, frame):
    filters = [{"name": "antibody", "column": "kind", "matches": "^Ab$"}]
    task = card(data=[SOURCE | {"filters": filters}])
    repeated = frame[:2].with_columns(sequence_id=pl.Series(["again", "moved"]))
    repeated = repeated.with_columns(epitope=pl.Series(["RBD", "RBD"]))  # the second one was NTD
    data = build(tmp_path, pl.concat([frame, repeated]), task)
    # 54 antibodies, of which 18 of each value; one NTD is in both classes and goes, with its copy
    assert data.counts == {
        "own: filter 'antibody'": 6,
        "'epitope' is in neither class": 18,
        "the same pair in both classes": 2,
        "a pair that was there before": 1,
    }
    assert len(data.records) == 18 + 17
    assert data.trials[0].labels.sum() == 18
    everything = build(tmp_path, frame, task, skip_filters=["antibody"])
    assert len(everything.records) == 40
    with pytest.raises(ConfigError, match="no filter 'antibodies'"):
        build(tmp_path, frame, task, skip_filters=["antibodies"])


def test_trials_are_seeds_by_splits_with_the_same_groups(tmp_path, frame):
    task = card(splits=[{"name": name, "by": ["clonotype"], "folds": 3} for name in ("a", "b")])
    data = build(tmp_path, frame, task)
    assert [(trial.split, trial.seed) for trial in data.trials] == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    first, second = data.trials[:2]
    assert (first.groups == second.groups).all()
    assert (first.folds != second.folds).any()
    for trial in data.trials:
        for group in range(trial.num_groups):
            assert len(set(trial.folds[trial.groups == group])) == 1
    assert len(build(tmp_path, frame, task, seeds=1).trials) == 2


def test_shuffled_pairs_are_the_positive_class_and_balanced(tmp_path, frame):
    task = card(
        target={"kind": "shuffled-pairs"},
        splits=[{"name": "chain", "by": ["chain", "clonotype"], "folds": 3}],
    )
    data = build(tmp_path, frame, task)
    native = {tuple(chain.residues for chain in record.chains) for record in data.records[:60]}
    for trial in data.trials:
        assert trial.labels.mean() == 0.5
        sides = {}
        for row, label, fold in zip(trial.rows, trial.labels, trial.folds, strict=True):
            chains = tuple(chain.residues for chain in data.records[row].chains)
            assert (chains in native) != label
            for chain in chains:
                sides.setdefault(chain, []).append((bool(label), int(fold)))
        assert all(
            sorted(label for label, _ in seen) == [False] * (len(seen) // 2) + [True] * (len(seen) // 2)
            and len({fold for _, fold in seen}) == 1
            for seen in sides.values()
        )
    assert data.reports["chain"].shared_chains == 0


def test_a_cut_keeps_so_many_native_pairs_before_they_are_shuffled(tmp_path, frame):
    task = card(
        target={"kind": "shuffled-pairs"},
        splits=[{"name": "chain", "by": ["chain", "clonotype"], "folds": 3}],
    )
    data = build(tmp_path, frame, task, seeds=1, max_records=24)
    assert len(data.trials[0].rows) == 48
    assert any(line == "CUT to 24 of 60 records, by content: 24 of all" for line in data.lines)


def test_files_against_each_other_lose_what_they_share(tmp_path, frame):
    other, third = {"name": "other", "file": "other.tsv"}, {"name": "third", "file": "third.tsv"}
    task = card(
        data=[SOURCE, SOURCE | other, SOURCE | third],
        target={"kind": "source", "positive": ["own"], "negative": ["other"], "without": ["third"]},
        crop=[2, 126],
    )
    frame[:30].write_csv(tmp_path / "own.tsv", separator="\t")
    frame[25:55].write_csv(tmp_path / "other.tsv", separator="\t")  # 5 of the positive class
    frame[50:52].write_csv(tmp_path / "third.tsv", separator="\t")  # 2 more that are not wanted
    data = build_task(task, find_files(task, [str(tmp_path)]))
    assert data.counts["heavy CDR3 is that of an antibody of the other class or of one left out"] == 7
    assert data.trials[0].labels.sum() == 30
    assert len(data.records) == 30 + 30 - 7
    assert {record.id.partition(":")[0] for record in data.records} == {"own", "other"}
    for record in data.records:
        for chain in record.chains:
            ends = [int(decode_position(int(chain.tracks["position"][place]))) for place in (0, -1)]
            assert ends == [2, 126]


def test_a_crop_needs_both_ends():
    vh = "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYC"
    vh += "SRWGGDGFYAMDYWGQGTLVTVSS"
    whole, late = number_chains([Chain(vh), Chain(vh[3:])])
    cut = crop(whole, 2, 126)
    assert cut.residues == vh[1:-2]
    assert all(len(values) == len(cut) for values in cut.tracks.values())
    assert crop(late, 2, 126) is None
    assert crop(Chain(vh), 2, 126) is None


def test_one_class_alone_is_refused(tmp_path, frame):
    with pytest.raises(DataError, match="0 negative pairs are left"):
        build(tmp_path, frame.filter(pl.col("epitope") == "RBD"), card())


def test_missing_files_say_where_the_copy_is_from(tmp_path, frame):
    with pytest.raises(DataError, match=r"sets/own\.tsv") as caught:
        find_files(card(), [str(tmp_path)])
    assert "made here" in caught.value.hint
    file = tmp_path / "elsewhere.tsv"
    frame.write_csv(file, separator="\t")
    assert find_files(card(), [str(file)]) == {"own": file}
    assert find_files(card(), [f"own={file}"]) == {"own": file}
    two = card(
        data=[SOURCE, SOURCE | {"name": "other"}],
        target={"kind": "shuffled-pairs"},
        splits=[{"name": "c", "by": ["chain"], "folds": 3}],
    )
    with pytest.raises(DataError, match="is no folder"):
        find_files(two, [str(file)])


def test_a_column_that_is_not_there_is_named(tmp_path, frame):
    with pytest.raises(DataError, match="no column 'epitope'"):
        build(tmp_path, frame.drop("epitope"), card())


def test_genes_come_from_the_cards_columns(tmp_path, frame):
    own = frame.with_columns(("Homsap " + pl.col("v_call_heavy") + " (Human)").alias("Heavy V Gene"))
    task = card(data=[SOURCE | {"genes": {"heavy_v": "Heavy V Gene"}}])
    data = build(tmp_path, own.drop("v_call_heavy"), task)
    assert {record.chains[0].v_call for record in data.records} <= set(frame["v_call_heavy"])
    assert np.all([record.chains[0].v_call.startswith("IGHV") for record in data.records])


def test_a_cell_with_two_publications_links_both(tmp_path, frame):
    """Rows 0 to 19 are of A, 20 to 39 of B; row 5 names both, so A and B are one group, and C apart."""
    papers = ["A (x)"] * 20 + ["B (y)"] * 20 + ["C and D (z)"] * 2 + [f"E{row} (w)" for row in range(18)]
    papers[5] = "A (x) and B (y)"
    frame = frame.with_columns(paper=pl.Series(papers), epitope=pl.Series(["RBD", "NTD"] * 30))
    split = {"name": "paper", "by": ["paper"], "folds": 3}

    def sizes(**more):
        trial = build(tmp_path, frame, card(splits=[split | more])).trials[0]
        return sorted(np.bincount(trial.groups).tolist(), reverse=True)[:3]

    assert sizes() == [20, 19, 2]
    assert sizes(separators={"paper": r"(?<=[)])\s+and\s+"}) == [40, 2, 1]
    data = build(tmp_path, frame, card(splits=[split | {"separators": {"paper": r"(?<=[)])\s+and\s+"}}]))
    assert "split 'paper': 1 × several values of 'paper'" in data.lines
    assert data.reports["paper"].shared_values["paper"] == {"shared": 0, "distinct": 2 + 1 + 18}


def test_a_separator_needs_a_column_of_the_split_and_a_regular_expression():
    split = {"name": "paper", "by": ["paper"], "folds": 3}
    with pytest.raises(ConfigError, match="a separator for 'papers', which is no column"):
        card(splits=[split | {"separators": {"papers": ";"}}])
    with pytest.raises(ConfigError, match="no regular expression"):
        card(splits=[split | {"separators": {"paper": "("}}])


def test_pairs_left_out_are_no_units_of_resampling(tmp_path, frame):
    """A pair alone in its organism has nothing to be exchanged with: it goes, and its group with it."""
    frame = frame.with_columns(organism=pl.Series(["human"] * 59 + ["mouse"]))
    task = card(
        target={"kind": "shuffled-pairs", "within": "organism"},
        splits=[{"name": "chain", "by": ["chain", "clonotype"], "folds": 3}],
    )
    data = build(tmp_path, frame, task)
    seen = set()
    for trial in data.trials:
        left = [data.records[row].labels["organism"] for row in trial.rows[~trial.labels]]
        assert "mouse" not in left
        seen |= set(trial.groups.tolist())
    assert {trial.num_groups for trial in data.trials} == {len(seen)}
    assert seen == set(range(len(seen)))
    assert len(seen) < 60


def test_a_wrong_shuffle_is_refused():
    pool = [Record(name, (Chain("MK" + name), Chain(light))) for name, light in (("A", "CC"), ("D", "CC"))]
    with pytest.raises(DataError, match="a chain of 'D' is in two folds"):
        _check_shuffle(pool, np.array([0, 1]), np.array([0, 1]), [2, 3])
    with pytest.raises(DataError, match="the shuffled pair 1 is native"):
        _check_shuffle(pool, np.array([0, 0]), np.array([0, 1]), [2, 1])


def test_chains_without_a_cdr3_do_not_count_as_shared(tmp_path, frame, monkeypatch):
    monkeypatch.setattr("protlm.evaluation.task_labelled.cdr3_of", lambda chain: "")
    task = card(
        data=[SOURCE, SOURCE | {"name": "other", "file": "other.tsv"}],
        target={"kind": "source", "positive": ["own"], "negative": ["other"]},
    )
    frame[:30].write_csv(tmp_path / "own.tsv", separator="\t")
    frame[30:].write_csv(tmp_path / "other.tsv", separator="\t")
    data = build_task(task, find_files(task, [str(tmp_path)]))
    assert not any("heavy CDR3" in reason for reason in data.counts)
    assert len(data.records) == 60
