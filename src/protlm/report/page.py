"""The report: one HTML page that works from disk without a network."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from protlm.errors import RunError
from protlm.report.blocks import Section
from protlm.report.sections import sections
from protlm.report.sources import read_sources


def write_report(
    sources: Sequence[Path | str],
    out: Path | str,
    *,
    structures: Sequence[str] = (),
    force: bool = False,
) -> Path:
    """Write one self-contained page about Runs and score tables.

    Parameters
    ----------
    sources
        Run folders, and score tables written by `protlm score`.
    out
        The page, such as ``report.html``.
    structures
        PDB and mmCIF files to show score tables on, as ``[TABLE=]FILE[:CHAIN]``; without a table, those
        that fit.
    force
        Replace an existing file.

    Returns
    -------
    pathlib.Path
        `out`.

    Raises
    ------
    UserError
        If `out` exists and `force` is not given, a source is neither a Run nor a score table, or a
        structure has no chain of any of the wild types.
    """
    out = Path(out)
    if out.is_dir():
        raise RunError(f"{out} is a folder; --out names the page to write", hint=f"try {out / 'report.html'}")
    if out.exists() and not force:
        raise RunError(f"{out} exists", hint="choose another --out, or pass --force to replace it")
    opened = read_sources(sources, structures)
    page = render(f"protlm report: {', '.join(opened.labels)}", sections(opened))
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".part")
    part.write_text(page, encoding="utf-8")
    return part.replace(out)


def render(title: str, parts: Sequence[Section]) -> str:
    """Fill the template.

    Parameters
    ----------
    title
        Of the page.
    parts
        Sections in order.
    """
    environment = Environment(
        loader=PackageLoader("protlm.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        title=title,
        sections=parts,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        plotly=Markup(get_plotlyjs()),  # noqa: S704
        has_figures=any(block.kind == "figure" for part in parts for block in part.blocks),
    )
