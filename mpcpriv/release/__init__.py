"""The one door through which results leave: priced, debited, noised on shares, opened to the recipients.

    rules    whether a result may leave at all, asked before anything is computed
    price    what it costs of each data set's budget
    noise    what each party adds to its share
    choice   which sum is the largest, found on shares
    unseen   results about rows in common that nobody knows
    cells    counts of rows suppressed or rounded, on shares
    withheld whether the result tells a cell of few rows, and is not opened
    share    a party's share as it leaves: fixed, then paid for, then sent
    result   what a recipient makes of all parties' shares

Here is what each step decides; `mpcpriv.party` makes it durable, in this order: all computing parties
commit to their shares, each with the debit that pays for it, and only then does any of them send its share.
"""

from mpcpriv.release.noise import noise_for, noise_of_steps, threshold
from mpcpriv.release.price import charges, price
from mpcpriv.release.result import Result, read_result
from mpcpriv.release.rules import Cohort, apart, check, cohorts, rounding
from mpcpriv.release.share import Layout, Sealed, seal
from mpcpriv.release.unseen import Unseen, held_apart, secret, settle

__all__ = [
    "Cohort",
    "Layout",
    "Result",
    "Sealed",
    "Unseen",
    "apart",
    "charges",
    "check",
    "cohorts",
    "held_apart",
    "noise_for",
    "noise_of_steps",
    "price",
    "read_result",
    "rounding",
    "seal",
    "secret",
    "settle",
    "threshold",
]
