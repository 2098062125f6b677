"""Fixtures of the whole suite; puts this folder on the path, so that tests write `from fixtures…`."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from fixtures.builders import lively_esm
from fixtures.table_model import TableModel

SHARED_DATA = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Tiny models are fastest on one thread, and a sum has one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    """Nothing that tests keep goes to the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROTLM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def table_model():
    """The class: ``table_model(masked=..., visible=..., couplings=...)``."""
    return TableModel


@pytest.fixture
def tiny_model():
    """A two-layer rotary ESM whose weights, norms and biases all matter."""
    return lively_esm()


@pytest.fixture(scope="session")
def shared_data():
    """The developers' data folder."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"needs the developers' data folder {SHARED_DATA}")
    return SHARED_DATA
