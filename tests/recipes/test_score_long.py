"""score on chains that a model does not take: messages, provenance, resuming, Python."""

import json
from functools import partial

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import protlm
from protlm.cli.main import app
from protlm.errors import Interrupted
from protlm.models.architectures import EsmArchitecture
from protlm.models.loading import load_model
from protlm.recipes import score_run
from protlm.scoring.chunks import cut
from protlm.scoring.plans import make_plan
from protlm.scoring.variants import score_variants
from protlm.scoring.windows import LengthPolicy
from protlm.types.record import Chain, Record
from protlm.types.variant import parse_variant

WILD_TYPE = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ"


@pytest.fixture
def model(tmp_path):
    settings = EsmArchitecture.Config(
        num_layers=1, hidden_size=16, num_heads=2, positions="learned", max_tokens=14
    )
    settings.build(seed=0).save(tmp_path / "tiny")
    return tmp_path / "tiny"


def protlm_score(*arguments):
    return CliRunner().invoke(app, ["score", "--wild-type", WILD_TYPE, *map(str, arguments)])


def test_the_policy_is_proposed_said_and_kept_with_the_scores(model, tmp_path):
    out = tmp_path / "scores.csv"
    given = ("--model", model, "--all-single", "--out", out)
    answer = protlm_score(*given)
    assert "--long tile" in answer.exception.hint
    answer = protlm_score(*given, "--long", "tile", "--window", 10)
    assert answer.exit_code == 0, answer.stderr
    assert "33 residues: read in 6 tiles of 10 that overlap by 5 or more" in answer.stderr
    facts = json.loads((tmp_path / "scores.csv.meta.json").read_text())
    assert (facts["long"], facts["window"], facts["models"][0]["cut_to"]) == ("tile", 10, 10)
    table = pl.read_csv(out)
    assert f"{facts['models'][0]['num_masked_contexts']} masked contexts" in answer.stderr
    own = table.group_by(pl.col("mutant").str.slice(0, pl.col("mutant").str.len_chars() - 1)).first()
    assert own["num_masked_contexts"].sum() == facts["models"][0]["num_masked_contexts"]
    from_python = protlm.score(str(model), WILD_TYPE, table["mutant"].to_list(), long="tile", window=10)
    np.testing.assert_allclose(from_python["score"].to_numpy(), table["score"].to_numpy(), atol=1e-5)


def test_chunks_of_another_policy_are_not_taken_up(model, tmp_path, monkeypatch):
    loaded, record = load_model(str(model), device="cpu"), Record("w", (Chain(WILD_TYPE),))
    variants = [parse_variant(text, WILD_TYPE) for text in ("M1L", "Y5W", "L23A:Q33E", "Q33E")]
    monkeypatch.setattr(score_run, "cut", partial(cut, most=1))
    run = partial(
        score_run.run_plan, loaded, make_plan("mutant_marginal"), "mutant_marginal", record, variants
    )

    def stop(*_, **__):
        raise KeyboardInterrupt

    real, calls = score_run.run_contexts, []

    def second_stops(*given, **options):
        calls.append(1)
        return stop() if len(calls) == 3 else real(*given, **options)

    monkeypatch.setattr(score_run, "run_contexts", second_stops)
    with pytest.raises(Interrupted):
        run(length=LengthPolicy("tile"), folder=tmp_path / "parts", say=lambda _: None)
    for policy, resumes in ((LengthPolicy("window"), False), (LengthPolicy("tile"), True)):
        said = []
        found = run(length=policy, folder=tmp_path / "parts", say=said.append)
        whole = score_variants(loaded, make_plan("mutant_marginal"), record, variants, length=policy)
        np.testing.assert_allclose(found.scores, whole.scores, atol=1e-5)
        assert any("resuming after 2 of 4" in line for line in said) == resumes
