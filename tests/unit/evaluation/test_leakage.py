"""What a corpus holds already of the records a model is judged on."""

from protlm.data.corpus import write_corpus
from protlm.evaluation.leakage import overlap
from protlm.types.record import Chain, Record


def test_chains_and_groups_are_counted_once_each(tmp_path):
    corpus = write_corpus(
        tmp_path / "c",
        [Record("t1", (Chain("MKT"), Chain("GG")), group="a"), Record("t2", (Chain("WW"),), group="b")],
    )
    judged = [
        Record("e1", (Chain("MKT"),), group="x"),
        Record("e2", (Chain("MKT"), Chain("ACD")), group="b"),
        Record("e3", (Chain("YY"),)),
    ]
    assert overlap(judged, corpus) == {"shared_chains": 1, "chains": 3, "shared_groups": 1, "groups": 2}


def test_a_subset_counts_only_its_own_records(tmp_path):
    from protlm.data.corpus import Corpus, CorpusWriter

    with CorpusWriter(tmp_path / "c") as writer:
        writer.add(Record("a", (Chain("MKT"),)), subset="train")
        writer.add(Record("b", (Chain("GGG"),)), subset="holdout")
        writer.close()
    judged = [Record("e", (Chain("GGG"),))]
    assert overlap(judged, Corpus(f"{tmp_path / 'c'}:train"))["shared_chains"] == 0
    assert overlap(judged, Corpus(f"{tmp_path / 'c'}:holdout"))["shared_chains"] == 1


def test_several_corpora_count_together(tmp_path):
    one = write_corpus(tmp_path / "one", [Record("a", (Chain("MKT"),), group="g1")])
    two = write_corpus(tmp_path / "two", [Record("b", (Chain("GGG"),), group="g2")])
    judged = (
        Record(name, (Chain(text),), group=group)
        for name, text, group in (("e", "GGG", "g1"), ("f", "MKT", "g3"))
    )
    assert overlap(judged, one, two) == {"shared_chains": 2, "chains": 2, "shared_groups": 1, "groups": 2}
