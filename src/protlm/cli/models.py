"""protlm models."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from protlm.models.catalog import CatalogEntry


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command()(models)


def models(
    name: Annotated[str | None, typer.Argument(help="one model, in full")] = None,
    layouts: Annotated[bool, typer.Option("--layouts", help="list how models write pairs")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="all facts, for machines")] = False,
) -> None:
    """List published models: parameters, licence, layout and where they are."""
    from protlm.errors import ModelError, did_you_mean
    from protlm.models.catalog import catalog

    entries = catalog()
    if name is not None and name not in entries:
        raise ModelError(f"there is no model '{name}' in the catalogue", hint=did_you_mean(name, entries))
    chosen = [entries[name]] if name is not None else list(entries.values())
    if as_json:
        typer.echo(json.dumps([asdict(entry) for entry in chosen], indent=1))
    elif layouts:
        _lines(_layout_rows())
    elif name is not None:
        _in_full(chosen[0])
    else:
        _list(chosen)


def _list(entries: list["CatalogEntry"]) -> None:
    for molecule, title in (("protein", "Proteins"), ("antibody", "Antibodies")):
        rows = [("name", "size", "licence", "layout", "source")]
        rows += [
            (each.name, each.parameters, each.licence, each.layout or "its own", _place(each))
            for each in entries
            if each.molecule == molecule
        ]
        typer.echo(f"{title}\n")
        _lines(rows)
        typer.echo()
    typer.echo("'package' comes with protlm; names on the hub load as they are;")
    typer.echo("doi ones are downloaded and converted first.")
    typer.echo("protlm models NAME says how. 'check': read the licence at the source before use.")


def _place(entry: "CatalogEntry") -> str:
    if entry.members:
        return f"{entry.members[0]} … {entry.members[-1]}"
    return entry.source if entry.is_on_hub else entry.source.removeprefix("https://doi.org/")


def _in_full(entry: "CatalogEntry") -> None:
    limit = f"{entry.max_tokens:,} tokens" if entry.max_tokens else "any"
    trained = f" (up to {entry.trained_tokens:,} tokens in training)" if entry.trained_tokens else ""
    licence = "not verified; read it at the source before use" if entry.licence == "check" else entry.licence
    rows = [
        ("name", entry.name),
        ("members", ", ".join(entry.members)) if entry.members else ("source", entry.source),
        ("parameters", entry.parameters),
        ("licence", licence),
        ("layout", entry.layout or "by its own tokenizer files"),
        ("length", limit + trained),
        ("citation", entry.citation),
    ]
    rows += [("note", entry.note)] if entry.note else []
    if entry.convert_command:
        rows += [("to use it", "download it from the source, then run"), ("", entry.convert_command)]
    _lines(rows)


def _layout_rows() -> list[tuple[str, ...]]:
    from protlm.data.layout import published_layout
    from protlm.data.vocabularies import LAYOUTS

    rows = [("layout", "ids", "a pair", "used by")]
    for name, facts in LAYOUTS.items():
        layout = published_layout(name)
        pair = f"{layout.begin[0]}H{layout.separator_text}L{layout.end[0]}"
        rows.append((name, str(len(layout.tokens)), pair, facts.used_by))
    return rows


def _lines(rows: Iterable[tuple[str, ...]]) -> None:
    rows = list(rows)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        padded = [text.ljust(width) for text, width in zip(row, widths, strict=False)]
        typer.echo("  ".join([*padded, row[-1]]))
