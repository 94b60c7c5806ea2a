"""What an alignment in mode "all" or "secret" costs, exactly, once the numbers of identifiers are known."""

from __future__ import annotations

from collections.abc import Mapping

from mpcpriv.alignment.align import receiver
from mpcpriv.alignment.group import POINT
from mpcpriv.alignment.many import COUNT, KEY
from mpcpriv.alignment.secret import HASHES, SEED
from mpcpriv.alignment.store import VALUE, WORD, height
from mpcpriv.alignment.two import TAG
from mpcpriv.alignment.wire import Terms


def rounds(parties: int) -> int:
    """How often the parties wait for each other: terms, points, tags (in mode "secret", terms, points, a
    store with points); among more, terms, keys and points, stores and points, tags.
    """
    return 3 if parties == 2 else 4


def sent(terms: Terms, counts: Mapping[str, int], common: int, sender: str) -> dict[str, int]:
    """Bytes of a party's messages to each other.

    Args:
        terms: of the alignment.
        counts: by party, how many identifiers it has.
        common: how many all have; in mode "secret" it makes no difference.
        sender: whose messages.
    """
    names = terms.parties
    announced, own = len(terms.said(counts[sender])), counts[sender]
    others = [name for name in names if name != sender]
    if terms.columns:
        return {others[0]: announced + _halving(terms, [counts[name] for name in names], sender)}
    if len(names) == 2:
        return {other: announced + own * POINT + counts[other] * TAG for other in others}
    found = {}
    for other in others:
        # Of each two the one that stands first draws their key.
        found[other] = announced + (KEY if names.index(sender) < names.index(other) else 0)
        if sender == names[0]:
            found[other] += own * POINT + COUNT + common * TAG
        elif other == names[0]:
            found[other] += height(own) * VALUE + counts[other] * POINT
    return found


def _halving(terms: Terms, counts: list[int], sender: str) -> int:
    receives = receiver(counts)
    points = counts[receives] * POINT
    if terms.parties[receives] == sender:
        return SEED + points
    entries = height(HASHES * counts[1 - receives])
    return entries * WORD * (1 + terms.columns[1 - receives]) + points
