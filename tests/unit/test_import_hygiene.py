"""Heavy imports stay out of what must start fast; every module imports."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import protlm

HEAVY = ("torch", "transformers", "accelerate", "plotly", "polars", "pyarrow", "scipy")


def loaded_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(' '.join(name for name in {HEAVY!r} if name in sys.modules))"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(answer.stdout.splitlines()[-1].split()) if answer.stdout.strip() else set()


def test_importing_protlm_loads_nothing_heavy():
    assert loaded_after("import protlm") == set()


@pytest.mark.parametrize(
    "verb", ["", "pretrain", "score", "report", "embed", "prepare", "demo", "convert", "models", "explain"]
)
def test_help_loads_nothing_heavy(verb):
    code = f"sys.argv = ['protlm', *'{verb} --help'.split()]\nfrom protlm.cli.main import main\n"
    code += "try:\n    main()\nexcept SystemExit:\n    pass"
    assert loaded_after(code) == set()


def test_the_report_room_is_free_of_torch():
    assert not {"torch", "transformers"} & loaded_after("import protlm.report.page")


def test_readers_and_corpus_are_free_of_torch():
    code = "import protlm.data.readers, protlm.data.corpus, protlm.recipes.prepare, protlm.data.simulate"
    assert not {"torch", "transformers"} & loaded_after(code)


def test_every_module_imports():
    for module in pkgutil.walk_packages(protlm.__path__, "protlm."):
        importlib.import_module(module.name)


def test_public_names_exist_and_others_do_not():
    for name in protlm.__all__:
        assert getattr(protlm, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = protlm.nothing
