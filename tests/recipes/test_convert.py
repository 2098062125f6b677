"""`protlm convert` of folders and archives: what is read, what is said, and what is refused."""

import io
import json
import os
import pickle
import tarfile
import zipfile
from argparse import Namespace
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, AutoTokenizer
from typer.testing import CliRunner

from fixtures.builders import batch_of, enliven, lively_esm, random_records
from protlm.cli.main import app
from protlm.data.layout import FILE_NAME, published_layout
from protlm.data.vocabularies import LAYOUTS, VOCABULARIES, layouts_of
from protlm.errors import ConfigError, ModelError, RunError
from protlm.models.architectures import EsmArchitecture
from protlm.models.catalog import catalog
from protlm.models.language_model import LanguageModel
from protlm.models.loading import load_model
from protlm.models.pickled import read_pickle
from protlm.recipes.convert import convert


def lab_folder(folder, name="preferential-masking", *, weights="pytorch_model.bin", tokenizer=True):
    """Save a small model of a layout in the files of a lab, none of ours; give the module."""
    model = lab_model(name)
    model.save(folder)
    (folder / FILE_NAME).unlink()
    if not tokenizer:
        for file in (*folder.glob("vocab*"), *folder.glob("token*"), *folder.glob("special*")):
            file.unlink()
    state = model.module.state_dict()
    if weights != "model.safetensors":
        (folder / "model.safetensors").unlink()
    if weights == "pytorch_model.bin":
        torch.save(state, folder / weights)
    return model


def lab_model(name):
    layout = published_layout(name)
    if layout.begin == ("<s>",):
        from transformers import RobertaConfig, RobertaForMaskedLM

        module = RobertaForMaskedLM(
            RobertaConfig(
                vocab_size=len(layout.tokens), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                intermediate_size=32, max_position_embeddings=66,
                pad_token_id=1, bos_token_id=0, eos_token_id=2,
            )
        ).eval()  # fmt: skip
        enliven(module)
        return LanguageModel(module, replace(layout, max_tokens=64)).eval()
    config = EsmArchitecture.Config(
        num_layers=2, hidden_size=16, num_heads=2, vocabulary=LAYOUTS[name].vocabulary,
        separator=LAYOUTS[name].separator, single_chain=LAYOUTS[name].single_chain, layer_norm_eps=1e-12,
    )  # fmt: skip
    model = config.build(seed=0)
    enliven(model.module)
    return model.eval()


def converted(source, out, **options):
    """Convert and load; give the model and what was said."""
    said = []
    return load_model(convert(source, out, say=said.append, **options), device="cpu"), "\n".join(said)


def check_same(model, other, name):
    records = [record for record in random_records(8, seed=1) if len(record.chains) > 1]
    batch = batch_of(replace(model.layout, single_chain="bare"), *records)
    with torch.inference_mode():
        assert torch.equal(model.logits(batch), other.logits(batch)), name


class TestFolders:
    @pytest.mark.parametrize("name", LAYOUTS)
    def test_each_published_layout_converts_and_loads_in_plain_hugging_face(self, name, tmp_path):
        before = lab_folder(tmp_path / "lab", name)
        needs = len(layouts_of(VOCABULARIES[LAYOUTS[name].vocabulary].tokens)) > 1
        model, said = converted(tmp_path / "lab", tmp_path / "out", layout=name if needs else None)
        assert model.layout == before.layout
        check_same(model, before, name)
        assert "all of known names and shapes" in said
        stock = AutoModelForMaskedLM.from_pretrained(tmp_path / "out")
        for key, value in before.module.state_dict().items():
            assert torch.equal(stock.state_dict()[key], value), key
        assert AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab() == model.layout.ids
        assert not list((tmp_path / "out").glob("*.bin"))

    @pytest.mark.parametrize(
        "kind", ["model.safetensors", "pytorch_model.bin", "stock", "parts", "deepspeed"]
    )
    def test_weights_are_found_in_each_kind_of_checkpoint(self, kind, tmp_path):
        folder = tmp_path / "checkpoint-250000"
        before = lab_folder(folder, weights=kind)
        state = before.module.state_dict()
        if kind == "stock":  # transformers 5 writes names of version 1 for ESM
            before.module.save_pretrained(folder)
            assert any("gamma" in name for name in load_file(folder / "model.safetensors"))
        if kind == "parts":
            names = list(state)
            where = {n: f"pytorch_model-0000{1 + (i > 9)}-of-00002.bin" for i, n in enumerate(names)}
            for file in set(where.values()):
                torch.save({n: state[n] for n in names if where[n] == file}, folder / file)
            (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": where}))
        if kind == "deepspeed":
            for step, values in ((1, {}), (2, state)):
                (folder / f"global_step{step}").mkdir()
                content = {"module": {f"module.{n}": v for n, v in values.items()}, "ds_version": "0.15"}
                torch.save(content, folder / f"global_step{step}" / "mp_rank_00_model_states.pt")
            (folder / "latest").write_text("global_step2\n")
        (folder / "training_args.bin").write_bytes(b"never read")
        model, said = converted(folder, tmp_path / "out")
        check_same(model, before, kind)
        if kind == "deepspeed":
            assert "DeepSpeed checkpoint global_step2" in said
            assert "'module.' taken off every name" in said

    def test_a_class_of_the_labs_own_is_read_as_the_plain_one(self, tmp_path):
        before = lab_folder(tmp_path / "lab")
        path = tmp_path / "lab" / "config.json"
        facts = json.loads(path.read_text())
        own = {"architectures": ["EsmForMaskedLM_withCdr"], "auto_map": {"AutoModel": "evil.Model"}}
        path.write_text(json.dumps({**facts, **own}))
        (tmp_path / "lab" / "evil.py").write_text("raise SystemExit('was run')")
        model, said = converted(tmp_path / "lab", tmp_path / "out")
        assert "EsmForMaskedLM_withCdr read as EsmForMaskedLM" in said
        check_same(model, before, "own class")
        written = json.loads((tmp_path / "out" / "config.json").read_text())
        assert written["architectures"] == ["EsmForMaskedLM"]
        assert "auto_map" not in written
        assert not (tmp_path / "out" / "evil.py").exists()

    def test_a_checkpoint_without_tokenizer_files_needs_the_layout(self, tmp_path):
        before = lab_folder(tmp_path / "lab", tokenizer=False)
        wanted = "no vocabulary .* for 26 tokens\nhint: .*preferential-masking \\| preferential-masking-cls"
        with pytest.raises(ModelError, match=wanted):
            converted(tmp_path / "lab", tmp_path / "out")
        model, _ = converted(tmp_path / "lab", tmp_path / "out", layout="preferential-masking")
        assert model.layout == before.layout
        check_same(model, before, "without tokenizer")

    def test_half_precision_stays_as_it_is_on_disk(self, tmp_path):
        before = lab_folder(tmp_path / "lab")
        state = {name: value.bfloat16() for name, value in before.module.state_dict().items()}
        torch.save(state, tmp_path / "lab" / "pytorch_model.bin")
        convert(tmp_path / "lab", tmp_path / "out", say=lambda _: None)
        kept = load_file(tmp_path / "out" / "model.safetensors")
        assert {value.dtype for name, value in kept.items() if "inv_freq" not in name} == {torch.bfloat16}
        assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"

    def test_a_folder_of_ours_keeps_its_layout(self, tmp_path):
        model = lively_esm()
        model.layout = replace(model.layout.with_separator("linker"), position_gap=9)
        model.save(tmp_path / "ours")
        again, _ = converted(tmp_path / "ours", tmp_path / "out")
        assert again.layout == model.layout

    def test_an_architecture_with_its_own_call_converts_too(self, tmp_path):
        from transformers import BertConfig, BertForMaskedLM

        tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"ACDEFGHIKLMNPQRSTVWY"]
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        module = BertForMaskedLM(BertConfig(vocab_size=25, **sizes)).eval()
        enliven(module)
        (tmp_path / "bert").mkdir()
        module.config.save_pretrained(tmp_path / "bert")
        torch.save(module.state_dict(), tmp_path / "bert" / "pytorch_model.bin")
        (tmp_path / "bert" / "vocab.txt").write_text("\n".join(tokens))
        model, said = converted(tmp_path / "bert", tmp_path / "out")
        assert "[CLS]HEAVY[SEP]LIGHT[SEP]" in said
        batch = batch_of(model.layout, "ACD/WY")
        with torch.inference_mode():
            assert torch.equal(model.logits(batch), module(input_ids=batch.tokens[None]).logits[0])

    @pytest.mark.parametrize("layout", [None, "esm-pipe"])
    def test_esm_c_has_more_rows_of_weights_than_tokens(self, layout, tmp_path):
        from transformers import EsmcConfig, EsmcForMaskedLM, EsmcTokenizer

        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        module = EsmcForMaskedLM(EsmcConfig(**sizes)).eval()
        enliven(module)
        module.save_pretrained(tmp_path / "esmc")
        EsmcTokenizer().save_pretrained(tmp_path / "esmc")
        model, said = converted(tmp_path / "esmc", tmp_path / "out", layout=layout)
        assert "<cls>HEAVY|LIGHT<eos>; 64 tokens" in said
        assert model.tokenizer.get_vocab()["<mask>"] == 32
        batch = batch_of(model.layout, "ACD/WY")
        with torch.inference_mode():
            assert torch.equal(model.logits(batch), module(input_ids=batch.tokens[None]).logits[0])
        again, _ = converted(tmp_path / "out", tmp_path / "again")
        assert again.layout == model.layout


def pairs_of(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


class TestRefusals:
    def test_nothing_is_overwritten(self, tmp_path):
        lab_folder(tmp_path / "lab")
        convert(tmp_path / "lab", tmp_path / "out", say=lambda _: None)
        before = pairs_of(tmp_path / "out")
        with pytest.raises(RunError, match="overwrites nothing"):
            convert(tmp_path / "lab", tmp_path / "out")
        assert pairs_of(tmp_path / "out") == before

    @pytest.mark.parametrize(
        ("layout", "message"),
        [("esm", "id 0 is A, and would be <cls>"), ("balm", "id 0 is A"), ("nothing", "unknown layout")],
    )
    def test_a_layout_with_another_vocabulary_is_refused(self, layout, message, tmp_path):
        lab_folder(tmp_path / "lab")
        with pytest.raises((ModelError, ConfigError), match=message):
            convert(tmp_path / "lab", tmp_path / "out", layout=layout, say=lambda _: None)
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda state: state.update(odd=torch.ones(1)), "has 1 weights that a EsmForMaskedLM .* 'odd'"),
            (lambda state: state.pop("lm_head.bias"), "lacks 1 weights"),
            (lambda state: state.update({"lm_head.bias": torch.ones(7)}), r"\(7,\), but .* \(26,\)"),
            (lambda state: state.update({"lm_head.bias": "text"}), "is a str and no tensor"),
            (lambda state: state["lm_head.bias"].fill_(torch.inf), "no finite numbers"),
            (
                lambda state: state.update({"lm_head.decoder.weight": torch.ones(26, 16)}),
                "differ, but are one weight",
            ),
        ],
    )
    def test_weights_that_do_not_fit_are_refused(self, change, message, tmp_path):
        state = lab_folder(tmp_path / "lab").module.state_dict()
        change(state)
        torch.save(state, tmp_path / "lab" / "pytorch_model.bin")
        with pytest.raises(ModelError, match=message):
            convert(tmp_path / "lab", tmp_path / "out", say=lambda _: None)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["lab"]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{", "is damaged"),
            ("{}", "is damaged"),
            ("[]", "is damaged"),
            ('{"model_type": "balm_moe"}', "no masked language model of type 'balm_moe'"),
            ('{"model_type": "gpt2"}', "no masked language model of type 'gpt2'"),
            ('{"model_type": "esm", "hidden_size": "wide"}', "settings that a 'esm' model cannot have"),
        ],
    )
    def test_configurations_that_are_no_masked_language_models(self, text, message, tmp_path):
        lab_folder(tmp_path / "lab")
        (tmp_path / "lab" / "config.json").write_text(text)
        with pytest.raises(ModelError, match=message):
            convert(tmp_path / "lab", tmp_path / "out", say=lambda _: None)

    def test_a_folder_that_holds_several_models_or_none(self, tmp_path):
        for name in ("a", "b"):
            lab_folder(tmp_path / "many" / name)
        with pytest.raises(ModelError, match=r"has 2 models: a, b\nhint: .*--inside"):
            convert(tmp_path / "many", tmp_path / "out")
        convert(tmp_path / "many", tmp_path / "out", inside="b", say=lambda _: None)
        with pytest.raises(ModelError, match=r"no folder \.\./other inside"):
            convert(tmp_path / "many", tmp_path / "out2", inside="../other")
        (tmp_path / "none").mkdir()
        with pytest.raises(ModelError, match=r"has no config\.json"):
            convert(tmp_path / "none", tmp_path / "out2")
        with pytest.raises(ModelError, match="there is no"):
            convert(tmp_path / "nowhere", tmp_path / "out2")

    def test_an_index_that_leads_elsewhere_is_refused(self, tmp_path):
        lab_folder(tmp_path / "lab", weights="none")
        index = {"weight_map": {"lm_head.bias": "../secret.bin"}}
        (tmp_path / "lab" / "pytorch_model.bin.index.json").write_text(json.dumps(index))
        with pytest.raises(ModelError, match=r"names '\.\./secret\.bin', which is no file beside it"):
            convert(tmp_path / "lab", tmp_path / "out")

    def test_weights_spread_over_processes_are_refused(self, tmp_path):
        state = lab_folder(tmp_path / "lab", weights="none").module.state_dict()
        (tmp_path / "lab" / "global_step5").mkdir()
        content = {"module": {name: torch.zeros(0) for name in state}}
        torch.save(content, tmp_path / "lab" / "global_step5" / "mp_rank_00_model_states.pt")
        with pytest.raises(ModelError, match="ZeRO stage 3"):
            convert(tmp_path / "lab", tmp_path / "out")


class Runs:
    """What a hostile pickle calls while it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class TestHostileFiles:
    @pytest.mark.parametrize("where", ["beside", "inside args", "as a key's value"])
    def test_a_pickle_that_would_run_code_is_refused_by_name(self, where, tmp_path):
        state = lab_folder(tmp_path / "lab").module.state_dict()
        attack = Runs(tmp_path / "was run")
        content = {
            "beside": {**state, "extra": attack},
            "inside args": {"args": Namespace(arch=attack), "model": state},
            "as a key's value": {"state": [attack]},
        }[where]
        torch.save(content, tmp_path / "lab" / "pytorch_model.bin")
        with pytest.raises(ModelError, match=r"holds (posix|nt)\.mkdir, which .* could run code"):
            convert(tmp_path / "lab", tmp_path / "out")
        assert not (tmp_path / "was run").exists()
        assert not (tmp_path / "out").exists()

    def test_a_bare_pickle_is_refused(self, tmp_path):
        path = tmp_path / "model.pt"
        path.write_bytes(pickle.dumps(Runs(tmp_path / "was run"), protocol=2))
        with pytest.raises(ModelError):
            convert(path, tmp_path / "out")
        assert not (tmp_path / "was run").exists()

    def test_settings_of_fair_esm_are_read(self, tmp_path):
        torch.save({"args": Namespace(arch="x", heads=3)}, tmp_path / "a.pt")
        assert read_pickle(tmp_path / "a.pt")["args"].heads == 3

    @pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
    def test_a_file_cut_short_is_damaged(self, share, tmp_path):
        lab_folder(tmp_path / "lab")
        path = tmp_path / "lab" / "pytorch_model.bin"
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(ModelError, match=r"is damaged or no file of torch\.save"):
            convert(tmp_path / "lab", tmp_path / "out")

    def test_safetensors_cut_short_are_damaged(self, tmp_path):
        lab_folder(tmp_path / "lab", weights="model.safetensors")
        path = tmp_path / "lab" / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-40])
        with pytest.raises(ModelError, match="is damaged"):
            convert(tmp_path / "lab", tmp_path / "out")


def tar_with(path, source, *extra):
    """Pack a folder, and members of hostile names or kinds."""
    with tarfile.open(path, "w:gz") as file:
        file.add(source, arcname="models/lab")
        for name, kind, target in extra:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            content = b"x" if kind == tarfile.REGTYPE else b""
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))


class TestArchives:
    @pytest.mark.parametrize("suffix", ["tar.gz", "zip"])
    def test_they_are_unpacked_and_converted(self, suffix, tmp_path):
        before = lab_folder(tmp_path / "lab")
        archive = tmp_path / f"weights.{suffix}"
        if suffix == "zip":
            with zipfile.ZipFile(archive, "w") as file:
                for each in (tmp_path / "lab").iterdir():
                    file.write(each, f"models/lab/{each.name}")
        else:
            tar_with(archive, tmp_path / "lab")
        model, said = converted(archive, tmp_path / "out")
        check_same(model, before, suffix)
        assert "files unpacked" in said
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["lab", archive.name, "out"])

    @pytest.mark.parametrize(
        ("extra", "message"),
        [
            (("../outside.txt", tarfile.REGTYPE, ""), "'../outside.txt' leads outside"),
            (("models/../../outside.txt", tarfile.REGTYPE, ""), "leads outside"),
            (("/outside.txt", tarfile.REGTYPE, ""), "leads outside"),
            (("C:\\outside.txt", tarfile.REGTYPE, ""), "leads outside"),
            (("..\\outside.txt", tarfile.REGTYPE, ""), "leads outside"),
            (("models/link", tarfile.SYMTYPE, "/etc"), "is a link"),
            (("models/link", tarfile.LNKTYPE, "models/lab/config.json"), "is a link"),
            (("models/device", tarfile.CHRTYPE, ""), "is a device"),
            (("models/pipe", tarfile.FIFOTYPE, ""), "is a device"),
        ],
    )
    def test_a_member_that_leads_outside_or_is_no_file_stops_it_all(self, extra, message, tmp_path):
        lab_folder(tmp_path / "lab")
        tar_with(tmp_path / "weights.tar.gz", tmp_path / "lab", extra)
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(ModelError, match=message):
            convert(tmp_path / "weights.tar.gz", tmp_path / "deep" / "out")
        assert sorted(set(tmp_path.rglob("*")) - {tmp_path / "deep"}) == before

    def test_a_zip_that_leads_outside(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "w.zip", "w") as file:
            file.writestr("../outside.txt", "x")
        with pytest.raises(ModelError, match="leads outside"):
            convert(tmp_path / "w.zip", tmp_path / "out")

    def test_an_archive_cut_short(self, tmp_path):
        lab_folder(tmp_path / "lab")
        archive = tmp_path / "weights.tar.gz"
        tar_with(archive, tmp_path / "lab")
        archive.write_bytes(archive.read_bytes()[:-200])
        with pytest.raises(ModelError, match="is damaged"):
            convert(archive, tmp_path / "out")


class TestCommandLine:
    def test_it_prints_the_folder_and_says_what_it_did(self, tmp_path):
        lab_folder(tmp_path / "lab")
        answer = CliRunner().invoke(app, ["convert", str(tmp_path / "lab"), "--out", str(tmp_path / "out")])
        assert answer.exit_code == 0, answer.output
        assert answer.stdout.strip() == str(tmp_path / "out")
        assert "<cls>HEAVY<cls><cls>LIGHT<eos>; 26 tokens" in answer.stderr

    @pytest.mark.parametrize("options", [[], ["--layouts"], *([name] for name in catalog())])
    def test_the_catalogue_fits_a_hundred_columns(self, options):
        answer = CliRunner().invoke(app, ["models", *options])
        assert answer.exit_code == 0
        assert max(map(len, answer.stdout.splitlines())) <= 100

    def test_the_catalogue_as_json_has_every_licence(self):
        facts = json.loads(CliRunner().invoke(app, ["models", "--json"]).stdout)
        assert all(each["licence"] and each["citation"] and each["parameters"] for each in facts)
        assert {each["layout"] for each in facts} - {None} <= set(LAYOUTS)


def test_a_model_that_is_on_no_hub_says_how_to_get_it():
    with pytest.raises(ModelError, match=r"zenodo.14019655, run: protlm convert DOWNLOAD --out pm-uniform"):
        load_model("pm-uniform")


def test_loading_pickled_weights_names_the_command(tmp_path):
    lab_folder(tmp_path / "lab")
    with pytest.raises(ModelError, match="hint: pickled weights are not read; run: protlm convert"):
        load_model(tmp_path / "lab")


def test_saved_weights_have_the_names_of_the_module(tmp_path):
    model = lively_esm()
    model.save(tmp_path)
    tied = {"lm_head.decoder.weight"}
    assert set(load_file(tmp_path / "model.safetensors")) == set(model.module.state_dict()) - tied
