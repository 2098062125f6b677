import hashlib
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

import protlm.data.arrow_tables as arrow_module
import protlm.data.corpus as corpus_module
from fixtures.builders import random_residues
from protlm.data.corpus import Corpus, CorpusWriter, is_corpus, names_corpus, write_corpus
from protlm.data.flat import flatten_records, record_key
from protlm.errors import DataError
from protlm.types.record import TRACK_DTYPES, Chain, Record, Role

TRACKS = {
    "region": lambda random, n: random.integers(1, 8, n).astype(np.uint8),
    "position": lambda random, n: random.integers(256, 65536, n).astype(np.uint16),
    "segment": lambda random, n: random.integers(1, 5, n).astype(np.uint8),
    "mutated": lambda random, n: random.integers(1, 3, n).astype(np.uint8),
}


def make_records(count, *, seed=0, shared_chain=True):
    """Draw records of one to three chains, each with tracks of its own choice or none."""
    random = np.random.default_rng(seed)
    light = Chain("DIQMTQSPSS", role=Role.LIGHT, locus="K", v_call="IGKV1-39*01", j_call="IGKJ1*01")
    records = []
    for number in range(count):
        chains = []
        for _ in range(int(random.integers(1, 3))):
            residues = random_residues(random, int(random.integers(1, 25)), "ACDEFGHIKLXUB")
            names = [name for name in TRACKS if random.random() < 0.5]
            tracks = {name: TRACKS[name](random, len(residues)) for name in names}
            chains.append(
                Chain(residues, role=Role.HEAVY, locus="H", v_call=f"IGHV{number % 5}", tracks=tracks)
            )
        if shared_chain and number % 3 == 0:
            chains.append(light)
        labels = {"kd": number / 2, "source": f"donor {number}"} if number % 2 else {}
        records.append(Record(f"record {number}", tuple(chains), labels=labels, group=f"g{number % 4}"))
    return records


def contents(record):
    """Everything in a record, tracks included, in a form that compares by value."""
    chains = [
        (
            *(chain.residues, chain.role, chain.locus, chain.v_call, chain.j_call),
            {name: (values.dtype, values.tolist()) for name, values in chain.tracks.items()},
        )
        for chain in record.chains
    ]
    return record.id, chains, dict(record.labels), record.group


def assert_gathers(corpus, records, rows):
    """Compare `gather` with the same records flattened from objects."""
    got, expected = corpus.gather(np.asarray(rows)), flatten_records([records[row] for row in rows])
    for name in ("residues", "chain_lengths", "chains_per_record", "keys", "record_lengths"):
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name), err_msg=name)
    assert set(expected.tracks) <= set(got.tracks)
    for name, values in got.tracks.items():
        assert values.dtype == TRACK_DTYPES[name]
        np.testing.assert_array_equal(values, expected.tracks.get(name, np.zeros_like(values)), err_msg=name)


@pytest.fixture(params=[None, 7], ids=["one Arrow batch", "Arrow batches of 7 rows"])
def batch_rows(request, monkeypatch):
    if request.param is not None:
        monkeypatch.setattr(arrow_module, "_BATCH_ROWS", request.param)


@pytest.fixture
def records():
    return make_records(50)


@pytest.fixture
def corpus(batch_rows, records, tmp_path):
    return write_corpus(tmp_path / "corpus", records)


def test_the_small_batches_of_these_tests_are_really_several(records, tmp_path, monkeypatch):
    monkeypatch.setattr(arrow_module, "_BATCH_ROWS", 7)
    corpus = write_corpus(tmp_path / "corpus", records)
    assert corpus.chain_column("residues").num_chunks > 5
    assert [len(chunk) for chunk in corpus.chain_column("locus").chunks][:-1] == [7] * (
        corpus.chain_column("locus").num_chunks - 1
    )


def test_records_come_back_as_they_were_written(corpus, records):
    assert [contents(corpus.record(row)) for row in range(len(corpus))] == [
        contents(each) for each in records
    ]


def test_records_are_the_same_after_opening_the_folder_again(corpus, records):
    again = Corpus(corpus.path)
    assert [contents(again.record(row)) for row in (0, 49, 7, 8)] == [
        contents(records[r]) for r in (0, 49, 7, 8)
    ]


def test_columns_and_lengths_are_those_of_the_records(corpus, records):
    assert len(corpus) == 50
    assert corpus.lengths.tolist() == [len(record) for record in records]
    assert corpus.num_chains_per_record.tolist() == [len(record.chains) for record in records]
    assert corpus.keys.tolist() == [record_key(record) for record in records]
    assert corpus.column("id") == [record.id for record in records]
    assert corpus.column("group") == [record.group for record in records]
    assert set(corpus.track_names) == set(TRACKS)


def test_chain_rows_follow_the_rows_asked_for(corpus, records):
    rows = np.array([31, 3, 3, 48, 0])
    chains = [chain for row in rows for chain in records[row].chains]
    residues = corpus.chain_column("residues").to_pylist()
    assert [residues[row] for row in corpus.chain_rows(rows)] == [chain.residues for chain in chains]


@pytest.mark.parametrize(
    "rows",
    [range(50), range(49, -1, -1), [17], [6, 7, 13, 14], [5, 5, 40, 5, 0, 40]],
    ids=["all", "all reversed", "one", "around the edges of batches", "with repeats"],
)
def test_gather_equals_flattened_records(corpus, records, rows):
    assert_gathers(corpus, records, list(rows))


def test_gather_equals_flattened_records_in_random_orders(corpus, records):
    random = np.random.default_rng(0)
    for _ in range(10):
        assert_gathers(corpus, records, random.integers(0, 50, int(random.integers(1, 80))).tolist())


def test_the_digest_is_of_the_records_in_any_order(records, tmp_path):
    corpus = write_corpus(tmp_path / "corpus", records)
    assert corpus.digest == write_corpus(tmp_path / "again", records[::-1]).digest
    others = {
        "one fewer": records[:-1],
        "one twice": [*records, records[0]],
        "another id": [replace(records[0], id="else"), *records[1:]],
        "other residues": [replace(records[0], chains=(Chain("W"),)), *records[1:]],
        "none": [],
    }
    digests = {write_corpus(tmp_path / name, kept).digest for name, kept in others.items()}
    assert len(digests | {corpus.digest}) == len(others) + 1


def test_a_table_is_written_when_it_holds_much_text_but_not_in_tiny_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(arrow_module, "_BATCH_BYTES", 1000)
    monkeypatch.setattr(arrow_module, "_BATCH_ROWS_LEAST", 4)
    random = np.random.default_rng(0)
    short = [Record(f"s{n}", (Chain(random_residues(random, 30)),)) for n in range(100)]
    long = [Record(f"l{n}", (Chain(random_residues(random, 600)),)) for n in range(20)]
    column = write_corpus(tmp_path / "corpus", [*short, *long]).chain_column("residues")
    sizes = [len(chunk) for chunk in column.chunks]
    assert sizes[0] == 22  # of 30 residues and a digest of 16 bytes each
    assert sizes[-3:-1] == [4, 4]


def test_64_bits_of_a_chain_do_not_identify_it(monkeypatch, tmp_path):
    """A digest of which the first 8 bytes are always the same."""

    class Colliding:
        def __init__(self, *, digest_size):
            assert digest_size == 16
            self.real = hashlib.blake2b(digest_size=8)
            self.update = self.real.update

        def digest(self):
            return bytes(8) + self.real.digest()

    monkeypatch.setattr(corpus_module, "hashlib", SimpleNamespace(blake2b=Colliding))
    records = [Record("a", (Chain("ACD"),)), Record("b", (Chain("EF"),))]
    corpus = write_corpus(tmp_path / "corpus", records)
    assert [corpus.record(row).chains[0].residues for row in range(2)] == ["ACD", "EF"]
    assert {len(value) for value in corpus.chain_column("hash").to_pylist()} == {16}


def test_gather_of_nothing_is_empty(corpus):
    nothing = corpus.gather(np.array([], dtype=np.int64))
    assert (len(nothing.residues), len(nothing.keys), len(nothing.chain_lengths)) == (0, 0, 0)


def test_each_distinct_chain_is_stored_once(corpus, records):
    chains = {str(contents(Record("", (chain,)))) for record in records for chain in record.chains}
    assert corpus.manifest["num_chains"] == len(corpus.chain_lengths) == len(chains)
    assert sum(len(record.chains) for record in records) > len(chains)
    residues = corpus.chain_column("residues").to_pylist()
    assert residues.count("DIQMTQSPSS") == 1


def test_a_chain_in_two_roles_is_one_chain_and_keeps_both_roles(tmp_path):
    pair = [Record("a", (Chain("ACD", role=Role.HEAVY),)), Record("b", (Chain("ACD", role=Role.LIGHT),))]
    corpus = write_corpus(tmp_path / "corpus", pair)
    assert corpus.manifest["num_chains"] == 1
    assert [corpus.record(row).chains[0].role for row in range(2)] == [Role.HEAVY, Role.LIGHT]


@pytest.mark.parametrize(
    "other",
    [
        Chain("ACD", locus="H", v_call="V1", j_call="J2", tracks={"region": np.array([1, 1, 2], np.uint8)}),
        Chain("ACD", locus="K", v_call="V1", j_call="J1", tracks={"region": np.array([1, 1, 2], np.uint8)}),
        Chain("ACD", locus="H", v_call="V1", j_call="J1", tracks={"region": np.array([1, 2, 2], np.uint8)}),
        Chain("ACD", locus="H", v_call="V1", j_call="J1", tracks={"segment": np.array([1, 1, 2], np.uint8)}),
        Chain("ACD", locus="H", v_call="V1", j_call="J1"),
    ],
    ids=["another J", "another locus", "another region", "another track", "no track"],
)
def test_chains_of_the_same_residues_but_other_facts_are_kept_apart(other, tmp_path):
    first = Chain(
        "ACD", locus="H", v_call="V1", j_call="J1", tracks={"region": np.array([1, 1, 2], np.uint8)}
    )
    records = [Record("a", (first,)), Record("b", (other,))]
    corpus = write_corpus(tmp_path / "corpus", records)
    assert corpus.manifest["num_chains"] == 2
    assert [contents(corpus.record(row)) for row in range(2)] == [contents(record) for record in records]


def test_a_track_that_no_chain_has_is_not_there(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", [Record("a", (Chain("ACD"),)), Record("b", (Chain("EF"),))])
    assert corpus.track_names == ()
    assert corpus.gather(np.array([1, 0])).tracks == {}


def test_the_manifest_counts_what_was_written(corpus, records):
    facts = json.loads((corpus.path / "manifest.json").read_text())
    assert facts["num_records"] == 50
    assert facts["num_residues"] == sum(len(record) for record in records)
    assert facts["format_version"] == 3


class TestSubsets:
    @pytest.fixture
    def path(self, batch_rows, records, tmp_path):
        with CorpusWriter(tmp_path / "corpus") as writer:
            for number, record in enumerate(records):
                writer.add(record, subset="test" if number % 5 == 0 else "train")
            writer.close({"inputs": ["a.csv"]})
        return tmp_path / "corpus"

    def test_each_lists_its_records_over_the_same_chains(self, path, records):
        test, train, both = Corpus(f"{path}:test"), Corpus(f"{path}:train"), Corpus(path)
        assert (len(test), len(train), len(both)) == (10, 40, 50)
        assert [contents(test.record(row)) for row in range(10)] == [contents(each) for each in records[::5]]
        assert test.name == "corpus:test"
        assert test.chain_lengths.tolist() == both.chain_lengths.tolist()
        assert_gathers(train, [each for n, each in enumerate(records) if n % 5], [39, 0, 20, 20])

    def test_the_manifest_names_them_and_keeps_further_facts(self, path):
        manifest = Corpus(path).manifest
        assert manifest["subsets"] == {"test": 10, "train": 40}
        assert manifest["inputs"] == ["a.csv"]

    def test_a_subset_that_is_not_there_is_refused_with_the_known_ones(self, path):
        with pytest.raises(DataError, match=r"no subset 'tset'\n.*its subsets: test, train"):
            Corpus(f"{path}:tset")

    def test_names_are_told_from_paths(self, path):
        assert names_corpus(path)
        assert names_corpus(f"{path}:test")
        assert not names_corpus(f"{path}x:test")
        assert not is_corpus(f"{path}:test")


class TestWriting:
    def test_a_corpus_is_not_overwritten_unless_forced(self, tmp_path):
        write_corpus(tmp_path / "corpus", make_records(3))
        with pytest.raises(DataError, match=r"holds a corpus\n.*--force"):
            write_corpus(tmp_path / "corpus", make_records(5))
        assert len(Corpus(tmp_path / "corpus")) == 3
        assert len(write_corpus(tmp_path / "corpus", make_records(5), force=True)) == 5

    def test_a_folder_of_other_things_is_not_replaced_even_if_forced(self, tmp_path):
        (tmp_path / "thesis.txt").write_text("mine")
        with pytest.raises(DataError, match="exists and is not a corpus"):
            write_corpus(tmp_path, make_records(3), force=True)
        assert (tmp_path / "thesis.txt").read_text() == "mine"

    def test_what_the_user_keeps_where_the_corpus_is_written_first_is_not_removed(self, tmp_path):
        part = tmp_path / "corpus.part"
        part.mkdir()
        (part / "thesis.txt").write_text("mine")
        with pytest.raises(DataError, match=r"corpus\.part.* is not an unfinished corpus\n"):
            write_corpus(tmp_path / "corpus", make_records(3))
        assert (part / "thesis.txt").read_text() == "mine"
        (tmp_path / "other.part").write_text("mine too")
        with pytest.raises(DataError, match="is not an unfinished corpus"):
            write_corpus(tmp_path / "other", make_records(3))

    def test_what_a_killed_process_left_is_replaced(self, tmp_path):
        CorpusWriter(tmp_path / "corpus").add(make_records(1)[0])
        assert (tmp_path / "corpus.part").exists()
        assert len(write_corpus(tmp_path / "corpus", make_records(3))) == 3
        assert not (tmp_path / "corpus.part").exists()

    def test_a_failure_leaves_nothing_behind(self, tmp_path):
        def failing():
            yield from make_records(5)
            raise RuntimeError("the reader failed")

        with pytest.raises(RuntimeError, match="the reader failed"):
            write_corpus(tmp_path / "corpus", failing())
        assert list(tmp_path.iterdir()) == []

    def test_a_failure_keeps_the_corpus_that_was_to_be_replaced(self, tmp_path):
        def failing():
            yield from make_records(5)
            raise RuntimeError("the reader failed")

        write_corpus(tmp_path / "corpus", make_records(3))
        with pytest.raises(RuntimeError, match="the reader failed"):
            write_corpus(tmp_path / "corpus", failing(), force=True)
        assert len(Corpus(tmp_path / "corpus")) == 3

    def test_a_corpus_without_records_can_be_opened(self, tmp_path):
        corpus = write_corpus(tmp_path / "corpus", [])
        assert (len(corpus), corpus.lengths.tolist(), corpus.track_names) == (0, [], ())


class TestDamage:
    @pytest.mark.parametrize("name", ["records.arrow", "chains.arrow"])
    @pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
    def test_a_truncated_file_is_reported_by_name(self, corpus, name, share):
        path = corpus.path / name
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(DataError, match=rf"cannot read .*{name}.*\n.*make the corpus again"):
            Corpus(corpus.path)

    def test_a_folder_that_is_no_corpus_is_refused(self, tmp_path):
        with pytest.raises(DataError, match=r"is not a corpus folder.*\n.*protlm prepare"):
            Corpus(tmp_path)


def test_a_corpus_of_format_1_is_read_without_what_it_lacks(tmp_path):
    corpus = write_corpus(tmp_path / "new", [Record("a", (Chain("ACD", locus="H"),))])
    table = pa.ipc.open_file(pa.memory_map(str(corpus.path / "chains.arrow"))).read_all()
    old = table.drop_columns(["d_call", "germline", "weight"])
    with pa.OSFile(str(corpus.path / "old.arrow"), "wb") as sink, pa.ipc.new_file(sink, old.schema) as writer:
        writer.write_table(old)
    (corpus.path / "old.arrow").replace(corpus.path / "chains.arrow")
    again = Corpus(corpus.path)
    assert again.track_names == ()
    assert again.record(0).chains[0].d_call == ""
    assert again.gather(np.array([0])).residues.tobytes() == b"ACD"
