"""protlm models."""

import typer


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command()(models)


def models() -> None:
    """List the catalogue of published models with their licences."""
    from protlm.models.catalog import catalog

    for entry in catalog().values():
        limit = f"up to {entry.max_tokens} tokens" if entry.max_tokens else "any length"
        typer.echo(f"{entry.name:<12} {entry.parameters:>5}  {limit:<18} {entry.licence}  {entry.source}")
