import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import polars as pl
import pytest
from handmade import (
    VALUES,
    WILD_TYPE,
    provenance,
    summary_table,
    write_evaluation,
    write_pdb,
    write_pretrain,
    write_run,
    write_scan,
    write_variants,
)
from plotly.offline import get_plotlyjs
from typer.testing import CliRunner

from protlm.errors import DataError, RunError
from protlm.report.page import write_report
from protlm.runs import Run

WEBGL_TALK = ("willReadFrequently", "GL Driver Message", "software WebGL")
"""What Chromium says of any page that draws in three dimensions."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class Page(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.texts, self.addresses, self.figures = [], [], [], []
        self._inside = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._inside = dict(attrs).get("data-figure", "code") if tag in ("script", "style") else None
        self.addresses += [
            value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")
        ]

    def handle_endtag(self, tag):
        self._inside = None if tag in ("script", "style") else self._inside

    def handle_data(self, data):
        if self._inside is None:
            self.texts.append(data.strip())
        elif self._inside != "code":
            self.figures.append(json.loads(data))

    @property
    def text(self):
        return " ".join(text for text in self.texts if text)


def without_plotly(path):
    text = path.read_text(encoding="utf-8")
    assert text.count(get_plotlyjs()) <= 1, "plotly is embedded once"
    return text.replace(get_plotlyjs(), "")


def page_of(paths, tmp_path):
    return Page(without_plotly(write_report(paths, tmp_path / "report.html")))


def headings(text):
    return re.findall(r"<h2>(.*?)</h2>", text)


def test_the_page_has_every_section_and_figure(sources, tmp_path):
    text = without_plotly(write_report(sources, tmp_path / "report.html"))
    assert headings(text) == [
        "What ran",
        "Training",
        "Masking rates",
        "Accuracy by region: evaluation",
        "Models compared: evaluation",
        "Leakage: evaluation",
        "Substitutions: scan",
    ]
    page = Page(text)
    assert len(page.figures) == 9
    assert page.tags.count("section") == len(headings(text))
    links = [address for address in page.addresses if address.startswith("#")]
    assert links == [f"#{name}" for name in re.findall(r'<section id="([^"]+)"', text)]


def test_the_page_loads_nothing(sources, tmp_path):
    path = write_report(sources, tmp_path / "report.html")
    text = without_plotly(path)
    assert get_plotlyjs() in path.read_text(encoding="utf-8")
    assert not [address for address in Page(text).addresses if not address.startswith("#")]
    assert not re.search(r"https?://|url\(|@import|\bimport\(", text)
    assert "default-src 'none'" in text, "the browser itself refuses to load anything"


def test_names_from_users_are_escaped(tmp_path):
    name = "<b>x</script><script>alert(1)"
    sources = [
        write_pretrain(tmp_path / "<b>x", is_done=False),
        write_run(tmp_path / "evaluation", "evaluate"),
    ]
    tables = sources[1] / "tables"
    summary_table({name: {"other": 0.1}, "position_mode": {"other": 0.5}}).write_parquet(
        tables / "regions_summary.parquet"
    )
    page = page_of(sources, tmp_path)
    assert "b" not in page.tags
    assert page.tags.count("script") == 2 + len(page.figures), "plotly, the figures, and what draws them"
    assert "<b>x pretrain unfinished" in page.text
    names = {trace["name"] for figure in page.figures for trace in figure["data"]}
    assert "&lt;b&gt;x" in names, "plotly reads some HTML in names"
    assert not [name for name in names if "<" in name]


def test_a_run_without_tables_still_renders(tmp_path):
    run = write_pretrain(tmp_path / "run")
    shutil.rmtree(run / "tables")
    text = without_plotly(write_report([run], tmp_path / "report.html"))
    assert headings(text) == ["What ran", "Training"]


def test_a_run_with_nothing_but_its_environment_renders(tmp_path):
    run = write_run(tmp_path / "run", "pretrain", is_done=False)
    path = write_report([run], tmp_path / "report.html")
    assert headings(path.read_text()) == ["What ran"]
    assert path.stat().st_size < 100_000, "plotly is left out of a page without figures"
    assert "Not finished: run." in Page(path.read_text()).text


def test_a_model_below_its_baseline_is_named_in_red(tmp_path):
    text = without_plotly(write_report([write_evaluation(tmp_path / "e")], tmp_path / "report.html"))
    (note,) = re.findall(r'<p class="bad">(cdr3 is worse .*?)</p>', text)
    assert note.startswith("cdr3 is worse than the best trivial baseline in accuracy in heavy (CDR3)")
    assert "uniform is worse" not in text
    assert '<td class="bad">0.200 [0.150, 0.240]</td>' in text
    assert "<td>0.400 [0.350, 0.440]</td>" in text


def test_a_model_below_its_baseline_everywhere_is_said_so_shortly(tmp_path):
    run = write_evaluation(tmp_path / "e")
    summary_table({"m": {"other": 0.2}, "position_mode": {"other": 0.5}}).write_parquet(
        run / "tables" / "regions_summary.parquet"
    )
    assert "in accuracy in heavy (everywhere)" in page_of([run], tmp_path).text


def test_a_missing_baseline_is_said(tmp_path):
    run = write_evaluation(tmp_path / "e")
    summary_table({"m": {"other": 0.2}}).write_parquet(run / "tables" / "regions_summary.parquet")
    assert "No trivial baseline was evaluated" in page_of([run], tmp_path).text


def test_leakage_is_told_for_every_model(tmp_path):
    text = without_plotly(write_report([write_evaluation(tmp_path / "e")], tmp_path / "report.html"))
    assert '<p class="bad">runs/cdr3: 1 of 24 chains and 0 of 12 groups were in its training data.' in text
    assert '<p class="note">runs/uniform: not known' in text


def test_evaluation_on_different_data_is_said(tmp_path):
    one, two = write_pretrain(tmp_path / "one"), write_pretrain(tmp_path / "two")
    other = write_pretrain(tmp_path / "other", corpus="bb")
    warning = "cannot be compared."
    assert warning not in page_of([one, two], tmp_path).text
    assert warning in Page(without_plotly(write_report([one, other], tmp_path / "2.html"))).text


def test_speeds_are_medians(tmp_path):
    text = without_plotly(write_report([write_pretrain(tmp_path / "run")], tmp_path / "report.html"))
    row = re.search(r"<tr><td>run</td>.*?</tr>", text)
    cells = re.findall(r"<td>(.*?)</td>", row[0])
    assert cells == ["run", "4", "400", "2,500", "0.004", "1.9000", "1.9000", "0.3200"]


def test_a_model_has_one_colour_on_the_whole_page(sources, tmp_path):
    page = page_of(sources, tmp_path)
    colours = {
        (trace["name"], (trace.get("line") or trace["marker"])["color"])
        for figure in page.figures
        for trace in figure["data"]
        if trace.get("name", "") in VALUES
    }
    assert len(colours) == len(VALUES)


def test_a_scan_without_single_substitutions_says_so(tmp_path):
    path = write_scan(tmp_path / "scan.csv")
    pl.DataFrame({"mutant": ["E11A:V12A"], "score": [0.5]}).write_csv(path)
    assert "no scored single substitution" in page_of([path], tmp_path).text


def test_a_provenance_without_wild_type_is_refused(tmp_path):
    facts = {name: value for name, value in provenance().items() if name != "wild_type"}
    path = write_scan(tmp_path / "scan.csv", facts)
    with pytest.raises(DataError, match=r"scan\.csv .*wild type"):
        write_report([path], tmp_path / "report.html")


def test_existing_pages_are_kept_without_force(sources, tmp_path):
    out = tmp_path / "report.html"
    out.write_text("precious")
    with pytest.raises(RunError, match=r"report\.html exists"):
        write_report(sources[:1], out)
    assert out.read_text() == "precious"
    assert write_report(sources[:1], out, force=True) == out
    assert "precious" not in out.read_text()
    with pytest.raises(RunError, match="is a folder"):
        write_report(sources[:1], tmp_path, force=True)


def test_a_wrong_source_leaves_no_page(sources, tmp_path):
    out = tmp_path / "new" / "report.html"
    with pytest.raises(DataError, match="no such file"):
        write_report([*sources, tmp_path / "nowhere"], out)
    assert not out.parent.exists()


def test_the_command(sources, tmp_path):
    from protlm.cli.main import app

    out = tmp_path / "report.html"
    arguments = ["report", *map(str, sources), "--out", str(out)]
    answer = CliRunner().invoke(app, arguments)
    assert (answer.exit_code, answer.stdout.strip()) == (0, str(out))
    assert isinstance(CliRunner().invoke(app, arguments).exception, RunError)
    assert CliRunner().invoke(app, [*arguments, "--force"]).exit_code == 0
    assert CliRunner().invoke(app, ["report", "--out", str(out)]).exit_code == 2


def test_a_report_needs_no_torch(sources, tmp_path):
    arguments = ["report", *map(str, sources), "--out", str(tmp_path / "report.html")]
    script = (
        f"import sys; from protlm.cli.main import app; app({arguments!r}, standalone_mode=False)\n"
        "assert 'plotly' in sys.modules\n"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "[]"


@pytest.fixture(scope="session")
def browser():
    found = [path for name in BROWSERS if (path := shutil.which(name))]
    if not found:
        pytest.skip(f"needs a browser: none of {', '.join(BROWSERS)} is installed")
    return found[0]


def opened(browser, page, profile):
    """Give the drawn page and what its console said."""
    quiet = ["no-first-run", "disable-background-networking", "disable-component-update", "disable-sync"]
    options = ["headless", "no-sandbox", "disable-gpu", "disable-quic", *quiet, f"user-data-dir={profile}"]
    options += [
        "dump-dom",
        "enable-logging=stderr",
        "v=0",
        "virtual-time-budget=20000",
        "window-size=1280,4000",
    ]
    command = [browser, *(f"--{option}" for option in options), page.as_uri()]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return answer.stdout, [line for line in answer.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.browser
def test_a_browser_draws_every_figure_in_silence(browser, sources, tmp_path):
    page = write_report(sources, tmp_path / "report.html")
    figures = Page(without_plotly(page)).figures
    drawn, console = opened(browser, page, tmp_path / "profile")
    assert console == []
    assert drawn.count('class="main-svg"') >= len(figures) == 9
    bodies = re.findall(
        r'<div class="figure[^"]*" id="[^"]+"[^>]*>(.*?)<script type="application/json"', drawn, re.S
    )
    assert len(bodies) == len(figures)
    assert all('class="main-svg"' in body for body in bodies)
    (scan,) = [body for body in bodies if "heatmaplayer" in body and "<image" in body]
    assert "CDR1" in scan


@pytest.mark.browser
def test_a_browser_draws_variant_effects_and_structures(browser, tmp_path):
    run = write_variants(tmp_path / "variants")
    scan = write_scan(tmp_path / "scan.csv")
    structure = write_pdb(tmp_path / "one.pdb", {"A": WILD_TYPE, "B": "WYWYWHHCCP"})
    page = write_report([run, scan], tmp_path / "r.html", structures=[str(structure)])
    drawn, console = opened(browser, page, tmp_path / "profile")
    assert not [line[:400] for line in console if not any(each in line for each in WEBGL_TALK)]
    assert drawn.count('class="main-svg"') >= len(Page(without_plotly(page)).figures) == 9
    assert len(re.findall(r'<div id="scene"[^>]*><svg.*?</svg><canvas', drawn)) == 1


@pytest.mark.browser
def test_the_console_would_tell(browser, sources, tmp_path):
    """A page that asks the network for something, or fails, is noticed by the test above."""
    page = write_report(sources[:1], tmp_path / "report.html")
    broken = page.read_text().replace(
        "</body>", '<img src="https://example.invalid/x.png"><script>oops()</script>'
    )
    page.write_text(broken)
    _, console = opened(browser, page, tmp_path / "profile")
    assert any("Content Security Policy" in line for line in console)
    assert any("oops is not defined" in line for line in console)


def test_runs_are_opened_for_reading_only(sources, tmp_path):
    def contents():
        return {path: path.stat().st_mtime_ns for source in sources for path in source.rglob("*")}

    before = contents()
    write_report(sources, tmp_path / "report.html")
    assert contents() == before
    assert Run(sources[0]).is_done
