"""Which task cards there are, whether their files are there, and under which licence."""

from collections.abc import Sequence
from pathlib import Path

from protlm.errors import DataError
from protlm.evaluation.cards import TaskCard, load_card, shipped_cards
from protlm.evaluation.task_files import find_files
from protlm.report.tables import format_table


def card_lines(data: Sequence[Path | str]) -> list[str]:
    """List the shipped cards, a line each.

    Parameters
    ----------
    data
        Folders to look for their files in; none: where the files are to be had is said instead.
    """
    rows = []
    for name in shipped_cards():
        card = load_card(name)
        splits = ", ".join(split.name for split in card.splits)
        rows.append([name, card.level, card.kind, splits, _state(card, data), _licences(card)])
    return format_table(["card", "level", "kind", "splits", "data", "licence"], rows)


def cards_here(data: Sequence[Path | str]) -> list[str]:
    """Name the shipped cards whose files are all there.

    Parameters
    ----------
    data
        Folders.

    Raises
    ------
    DataError
        If there is none.
    """
    found = [name for name in shipped_cards() if _is_here(load_card(name), data)]
    if not found:
        raise DataError(
            f"no card has all of its files in {', '.join(map(str, data))}",
            hint="protlm evaluate tasks --list --data FOLDER says which are missing",
        )
    return found


def _state(card: TaskCard, data: Sequence[Path | str]) -> str:
    if data:
        return "here" if _is_here(card, data) else "missing"
    has_url = any(source.url for source in card.data)
    return f"protlm fetch {card.name}" if has_url else "see origin"


def _is_here(card: TaskCard, data: Sequence[Path | str]) -> bool:
    try:
        find_files(card, [str(place) for place in data])
    except DataError:
        return False
    return True


def _licences(card: TaskCard) -> str:
    return " · ".join(dict.fromkeys(source.licence for source in card.data))[:70]
