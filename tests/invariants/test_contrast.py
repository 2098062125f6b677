"""Contrastive training: chunks equal the whole, processes equal one, what is saved is what was trained."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.numpy import save_file as save_numpy
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from fixtures.backbone_files import write_backbones
from protlm.cli.main import app
from protlm.data.structure_pairs import record_of
from protlm.errors import ConfigError, DataError, Interrupted, ModelError, RunError
from protlm.models.architectures import EsmArchitecture
from protlm.models.dual_tower import load_dual_tower
from protlm.models.loading import load_model
from protlm.models.structure_encoder import load_structure_encoder
from protlm.objectives.contrastive import Contrastive
from protlm.recipes.contrast import build_towers, contrast, describe
from protlm.recipes.contrast_config import ContrastConfig, PairData
from protlm.recipes.contrast_data import read_pairs
from protlm.runs import Run
from protlm.training import loop
from protlm.training.contrastive_job import ContrastiveJob
from protlm.training.processes import Processes

LAUNCHED = Path(__file__).parents[1] / "fixtures" / "launched_contrast.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("contrast")
    write_backbones(path / "structures.parquet", 48)
    EsmArchitecture.Config(num_layers=2, hidden_size=16, num_heads=2).build(seed=1).save(path / "lm")
    return path


@pytest.fixture(scope="module")
def values(folder):
    def build(**changes):
        made = {
            "data": {"structures": str(folder / "structures.parquet"), "group": "fold", "crop_residues": 20},
            "sequence": {"model": str(folder / "lm"), "head": {"dim": 8}},
            "structure": {
                "arguments": {"hidden_dim": 16, "num_decoder_layers": 0, "k_neighbors": 6},
                "head": {"dim": 8, "kind": "mlp"},
            },
            "training": {
                "step_records": 12,
                "max_steps": 5,
                "eval_every": 2,
                "save_every": 2,
                "log_every": 1,
                "tensorboard": False,
                "optimizer": {"learning_rate": 1e-2, "warmup_steps": 1},
            },
        }
        for path, value in changes.items():
            *parents, last = path.split("__")
            target = made
            for each in parents:
                target = target.setdefault(each, {})
            target[last] = value
        return made

    return build


def run(values, out, **options):
    return contrast(ContrastConfig.from_dict(values), out, device="cpu", say=lambda _: None, **options)


def job_of(config, folder, micro_tokens):
    divided = read_pairs(config.data)
    model = build_towers(config, "cpu")
    settings = config.training.model_copy(update={"micro_tokens": micro_tokens})
    job = ContrastiveJob(
        train=divided.pairs.take(divided.rows("train")),
        valid=None,
        objective=Contrastive("positive"),
        model=model,
        settings=settings,
        run=Run(folder / "none"),
        processes=Processes(torch.device("cpu"), launched=1),
        seed=0,
        crop_residues=config.data.crop_residues,
    )
    return model, job


def test_chunks_have_value_and_gradient_of_the_whole_batch(values, folder):
    found = []
    for micro_tokens in (10_000, 50):
        # dropout is drawn per chunk, so that it is off here
        config = ContrastConfig.from_dict(values(structure__arguments={"hidden_dim": 16, "dropout": 0.0}))
        model, job = job_of(config, folder, micro_tokens)
        _, (batch,) = next(job.steps(0))
        output = job.loss(model.train(), batch)
        output.loss.backward()
        grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        found.append((len(batch.sequences), float(output.loss.detach()), grads))
    (few, loss, grads), (many, chunked_loss, chunked_grads) = found
    assert few == 1
    assert many >= 5
    assert chunked_loss == pytest.approx(loss, abs=1e-5)
    assert grads.keys() == chunked_grads.keys()
    assert "temperature.log_scale" in grads
    for name, grad in grads.items():
        torch.testing.assert_close(chunked_grads[name], grad, atol=2e-5, rtol=1e-4, msg=name)


def held_bytes(model, job):
    """Bytes that the forward pass holds for the backward pass."""
    _, (batch,) = next(job.steps(0))
    held: dict[int, int] = {}

    def keep(tensor):
        held[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = job.loss(model.train(), batch)
    del output
    parameters = {p.data_ptr() for p in model.parameters()}
    return sum(size for place, size in held.items() if place not in parameters), batch.num_tokens


def test_chunks_hold_hardly_more_for_a_larger_batch(values, folder):
    sizes = {}
    for records in (6, 24):
        for micro_tokens in (10_000, 130):
            config = ContrastConfig.from_dict(values(training__step_records=records))
            sizes[records, micro_tokens], _ = held_bytes(*job_of(config, folder, micro_tokens))
    assert sizes[24, 10_000] > 2 * sizes[6, 10_000]
    assert sizes[24, 130] < 0.2 * sizes[24, 10_000]


@pytest.fixture(scope="module")
def trained(values, folder):
    return run(values(), folder / "trained")


def test_what_is_loaded_is_what_was_trained(trained, values, folder):
    model = load_dual_tower(trained.path)
    divided = read_pairs(ContrastConfig.from_dict(values()).data)
    again = load_dual_tower(trained)
    ours = [tower.embed_sequences(divided.pairs.records) for tower in (model, again)]
    assert np.array_equal(*ours)
    assert np.linalg.norm(ours[0], axis=1) == pytest.approx(1.0, abs=1e-5)
    theirs = model.embed_structures(divided.pairs.backbones)
    assert theirs.shape == (len(divided.pairs), 8)
    one = model.embed_structures([divided.pairs.backbones[3]])
    assert np.abs(one[0] - theirs[3]).max() < 1e-5
    assert float(model.temperature().detach()) != pytest.approx(1 / 0.07, abs=1e-6)  # learned, and kept


def test_segments_are_kept_with_the_towers(values, folder):
    made = run(values(segments=4, training__max_steps=2), folder / "segments")
    towers = load_dual_tower(made)
    pairs = read_pairs(ContrastConfig.from_dict(values()).data).pairs
    assert (towers.sequence.segments, towers.structure.segments) == (4, 4)
    assert towers.embed_structures(pairs.backbones).shape == (len(pairs), 4 * 8)
    facts = made.path / "heads/heads.json"
    facts.write_text(facts.read_text().replace('"format_version": 2', '"format_version": 1'))
    with pytest.raises(ModelError, match="format version 1, expected 2"):
        load_dual_tower(made)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"segments": 21}, "more than the residues of the shortest item, 20"),
        ({"segments": 4, "sequence__pooling": "begin"}, "one vector"),
    ],
)
def test_segments_that_cannot_be(values, changes, message):
    with pytest.raises(ConfigError, match=message):
        ContrastConfig.from_dict(values(**changes))


def test_as_a_model_the_run_is_its_language_model(trained):
    towers, model = load_dual_tower(trained), load_model(trained.path)
    own = towers.sequence.encoder.module.state_dict()
    assert model.name == trained.name
    assert all(torch.equal(each, own[name]) for name, each in model.module.state_dict().items())


def test_no_weight_comes_back_that_was_not_saved(trained, tmp_path):
    shutil.copytree(trained.path, tmp_path / "copy")
    file = tmp_path / "copy/heads/heads.safetensors"
    weights = load_file(file)
    assert "temperature.log_scale" in weights
    save_file({k: v for k, v in weights.items() if k != "temperature.log_scale"}, file)
    with pytest.raises(ModelError, match=r"temperature\.log_scale"):
        load_dual_tower(tmp_path / "copy")


def test_the_temperature_is_not_decayed_and_stays_in_bounds(values, folder):
    config = ContrastConfig.from_dict(values())
    model = build_towers(config, "cpu")
    optimizer = config.training.optimizer.model_copy(update={"weight_decay": 0.5}).build(model)
    decayed = [p for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]]
    assert all(p is not model.temperature.log_scale for p in decayed)
    for value, bound in ((10.0, 100.0), (-3.0, 1.0)):
        model.temperature.log_scale.data.fill_(value)
        scale = model.temperature()
        assert float(scale.detach()) == pytest.approx(bound, rel=1e-5)
        (gradient,) = torch.autograd.grad(scale, model.temperature.log_scale)
        assert float(gradient) == pytest.approx(bound, rel=1e-5)  # it can come back


def test_the_log_has_the_temperature_of_each_step(trained):
    logged = [line["temperature"] for line in trained.metrics() if line["split"] == "train"]
    assert len(set(logged)) == len(logged) == 5
    state = load_file(max(trained.checkpoints_path.glob("step-*")) / "model.safetensors")
    assert logged[3] == pytest.approx(1 / state["temperature.log_scale"].exp().item(), rel=1e-5)


def test_sides_share_no_group_and_are_listed(trained):
    table = pl.read_parquet(trained.table_path("pairs"))
    assert set(table["side"].unique()) == {"train", "valid", "test"}
    assert (table.group_by("cluster").agg(pl.col("side").n_unique())["side"] == 1).all()
    facts = trained.read_json("data_manifest.json")["pairs"]
    assert sum(facts["pairs"].values()) == len(table) == 48


def test_an_interrupted_run_goes_on_to_the_same_bits(trained, values, folder, monkeypatch):
    original = loop._Trainer._step

    def stopping(self, number, batches):
        if number == 2:
            signal.raise_signal(signal.SIGINT)
        return original(self, number, batches)

    with monkeypatch.context() as patched:
        patched.setattr(loop._Trainer, "_step", stopping)
        with pytest.raises(Interrupted):
            run(values(), folder / "resumed")
    with pytest.raises(RunError, match=r"training\.max_steps \(5, now 6\) changed"):
        run(values(training__max_steps=6), folder / "resumed")
    run(values(), folder / "resumed")
    for name in ("heads/heads.safetensors", "model/model.safetensors", "structure_encoder/model.safetensors"):
        one, other = load_file(trained.path / name), load_file(folder / "resumed" / name)
        assert [key for key in one if not torch.equal(one[key], other[key])] == []
    with pytest.raises(RunError, match="finished"):
        run(values(), folder / "resumed")


def test_two_processes_train_as_one(values, folder):
    # dropout is drawn by each process
    arguments = {"hidden_dim": 16, "num_decoder_layers": 0, "k_neighbors": 6, "dropout": 0.0}
    config = values(structure__arguments=arguments)
    alone = run(config, folder / "one").path
    (folder / "job.json").write_text(json.dumps({"config": config, "out": str(folder / "two")}))
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(LAUNCHED.parents[1])}
    done = subprocess.run(
        [*words, str(LAUNCHED), str(folder / "job.json")],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    one = load_file(alone / "heads/heads.safetensors")
    other = load_file(folder / "two/heads/heads.safetensors")
    for name in one:
        torch.testing.assert_close(other[name], one[name], atol=1e-4, rtol=0, msg=name)
    losses = [
        [line["loss"] for line in Run(path).metrics() if line["split"] == "train"]
        for path in (alone, folder / "two")
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_towers_can_be_frozen_and_lora(values, folder):
    frozen = run(
        values(
            data__crop_residues=None,
            sequence__adapt="frozen",
            structure__encoder="3di",
            structure__arguments={},
            structure__is_trained=False,
        ),
        folder / "frozen",
        cache=folder / "cache",
    )
    before, after = (load_file(path / "model.safetensors") for path in (folder / "lm", frozen.model_path))
    assert all(torch.equal(before[name], after[name]) for name in before)
    model = load_dual_tower(frozen.path)
    divided = read_pairs(ContrastConfig.from_dict(values(data__crop_residues=None)).data)
    assert model.embed_structures(divided.pairs.backbones[:2]).shape == (2, 8)
    lora = run(values(sequence__adapt="lora"), folder / "lora")
    assert (lora.path / "adapter/adapter_config.json").is_file()
    assert load_dual_tower(lora.path).embed_sequences([record_of(divided.pairs.backbones[0])]).shape == (1, 8)


def test_untrained_towers_are_other_ones_of_the_same_shape(trained, values):
    model = load_dual_tower(trained.path)
    records = read_pairs(ContrastConfig.from_dict(values()).data).pairs.records[:4]
    drawn = [model.untrained(seed).embed_sequences(records) for seed in (1, 1, 2)]
    assert np.array_equal(drawn[0], drawn[1])
    assert np.abs(drawn[0] - drawn[2]).max() > 1e-2
    assert np.abs(drawn[0] - model.embed_sequences(records)).max() > 1e-2


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"data__group": "foldd"}, ConfigError, "no column 'foldd'"),
        ({"data__crop_residues": 90}, DataError, "none of 48 structures is left"),
        ({"data__tested": 0.6, "data__validation": 0.5}, ConfigError, "leave nothing"),
        ({"sequence__head": {"dim": 16}}, ConfigError, "meet in one space"),
        (
            {"structure__encoder": "3di", "structure__arguments": {}},
            ModelError,
            "structure.is_trained to false",
        ),
        ({"structure__encoder": "3di"}, ConfigError, "structure.arguments"),
        ({"structure__encoder": "nope"}, ModelError, "there is no structure encoder 'nope'"),
        ({"training__step_tokens": 999}, ConfigError, "training.step_tokens 999"),
        ({"training__step_records": None}, ConfigError, "step_records"),
        ({"data__group": None}, ConfigError, "say what is alike"),
        ({"sequence__pooling": "begins"}, ConfigError, "begins"),
    ],
)
def test_refuses_what_cannot_be(values, tmp_path, changes, kind, message):
    with pytest.raises(kind, match=message):
        run(values(**changes), tmp_path / "out")
    assert not (tmp_path / "out/DONE").exists()


def test_dry_run_leaves_nothing(values, tmp_path):
    text = describe(ContrastConfig.from_dict(values()), device="cpu", say=lambda _: None)
    assert "pairs per step: 12" in text


def test_command_line(values, folder, tmp_path):
    import yaml

    (tmp_path / "c.yaml").write_text(yaml.safe_dump(values()))
    words = ["contrast", "--config", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "run"), "--crop", "22"]
    done = CliRunner().invoke(app, [*words, "--set", "training.max_steps=1", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert Run(tmp_path / "run").is_done


def interrupted(config, out, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(loop._Trainer, "_step", stop)
        with pytest.raises((KeyboardInterrupt, Interrupted)):
            run(config, out)


def test_other_sides_under_the_same_coordinates_are_refused(values, tmp_path, monkeypatch):
    for name, families in (("before", 8), ("after", 5)):
        write_backbones(tmp_path / f"{name}.parquet", 48, families=families)
    path = tmp_path / "structures.parquet"
    path.write_bytes((tmp_path / "before.parquet").read_bytes())
    config = values(data__structures=str(path))
    interrupted(config, tmp_path / "run", monkeypatch)
    before = (tmp_path / "run/tables/pairs.parquet").read_bytes()
    path.write_bytes((tmp_path / "after.parquet").read_bytes())
    with pytest.raises(RunError, match="cluster, side of the pairs"):
        run(config, tmp_path / "run")
    assert (tmp_path / "run/tables/pairs.parquet").read_bytes() == before
    path.write_bytes((tmp_path / "before.parquet").read_bytes())
    assert run(config, tmp_path / "run").is_done


@pytest.mark.parametrize(("same_cluster", "what"), [("negative", "pair"), ("positive", "group")])
def test_one_item_chooses_no_weights(values, tmp_path, same_cluster, what):
    shares = {"data__random": True, "data__group": None} if what == "pair" else {}
    write_backbones(tmp_path / "few.parquet", 20, families=4)
    config = values(
        **shares,
        data__structures=str(tmp_path / "few.parquet"),
        data__validation=0.05,
        loss__same_cluster=same_cluster,
        training__max_steps=3,
    )
    said = []
    made = contrast(ContrastConfig.from_dict(config), tmp_path / "out", device="cpu", say=said.append)
    assert f"the side 'valid' has one {what}, which leaves nothing to tell apart" in " ".join(said)
    assert {line["split"] for line in made.metrics()} == {"train"}


def vectors_of(path, folder, *, per_residue):
    random = np.random.default_rng(3)
    backbones = read_pairs(PairData(structures=str(folder / "structures.parquet"), group="fold")).pairs
    shapes = {each.id: (len(each), 6) if per_residue else (6,) for each in backbones.backbones}
    save_numpy({name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}, path)
    return path


@pytest.mark.parametrize("per_residue", [False, True])
def test_vectors_of_a_file_are_kept_with_the_towers(values, folder, tmp_path, per_residue):
    file = vectors_of(tmp_path / "plm.v2.safetensors", folder, per_residue=per_residue)
    settings = {"structure__encoder": str(file), "structure__arguments": {}, "structure__is_trained": False}
    with pytest.raises(ConfigError, match=r"vectors of whole structures, and data\.crop_residues 20"):
        run(values(**settings), tmp_path / "cropped")
    made = run(values(**settings, data__crop_residues=None, training__max_steps=2), tmp_path / "run")
    before = load_structure_encoder(file)
    file.unlink()
    towers = load_dual_tower(made)
    backbones = read_pairs(ContrastConfig.from_dict(values()).data).pairs.backbones[:5]
    assert towers.structure.encoder.name == before.name == "plm.v2"
    for one, other in zip(towers.structure.encoder.embed(backbones), before.embed(backbones), strict=True):
        assert np.array_equal(one, other)
    assert towers.embed_structures(backbones).shape == (5, 8)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("heads.json", lambda text: text[:-9], r"heads\.json is damaged"),
        ("heads.json", lambda text: "[1]", r"heads\.json is damaged"),
        ("heads.json", lambda text: text.replace('"segments"', '"parts"'), "has no 'segments'"),
        ("heads.json", lambda text: text.replace('"dim": 8', '"dim": "x"'), r"heads\.json.*dim"),
        (
            "heads.json",
            lambda text: text.replace('"dim": 8', '"dim": 9'),
            r"heads\.safetensors.*size mismatch",
        ),
    ],
)
def test_damaged_heads_are_named(trained, tmp_path, file, change, message):
    shutil.copytree(trained.path, tmp_path / "copy")
    path = tmp_path / "copy/heads" / file
    path.write_text(change(path.read_text()))
    with pytest.raises(ModelError, match=message):
        load_dual_tower(tmp_path / "copy")


def test_a_run_that_is_not_finished_is_no_towers(trained, tmp_path):
    shutil.copytree(trained.path, tmp_path / "copy")
    (tmp_path / "copy/DONE").unlink()
    with pytest.raises(ModelError, match="is not finished"):
        load_dual_tower(tmp_path / "copy")
