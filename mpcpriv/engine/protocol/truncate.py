"""Exact truncation: division by a power of two, for any number of parties, in one round.

With |x| < 2^62 let c = x + 2^62 + r be open, r uniform. As x + 2^62 has no top bit, the carry of
the low 63 bits shows in the top bit of c: w = msb(c) + msb(r) (mod 2), and

    (x + 2^62) >> k  =  ((c mod 2^63) >> k) - ((r mod 2^63) >> k) + w 2^(63 - k)  (- 1 for a borrow below)

is linear in what is dealt. The result is floor(x / 2^k) or one more, the latter with probability
the dropped fraction: unbiased, off by less than one unit, never by a wrap. (Dalskov, Escudero,
Keller, PoPETs 2020, section 3.2; Escudero et al., CRYPTO 2020, section 5.)
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit

from mpcpriv.engine.correlation.truncation import LOW_63, TruncationMask
from mpcpriv.engine.session import Session

_OFFSET = 1 << 62


def truncate(session: Session, values: list[tuple[torch.Tensor, int]]) -> list[torch.Tensor]:
    """Shares of x / 2^bits for each (shares of x, bits), all opened in one frame.

    Args:
        values: pairs of shares of ring elements in [-2^62, 2^62) and a number of bits in [0, 62].
    """
    results = [x for x, _ in values]
    places = [i for i, (x, bits) in enumerate(values) if bits and x.numel()]
    if not places:
        return results
    requests = [TruncationMask(tuple(values[i][0].shape), values[i][1]) for i in places]
    dealt = [session.correlations.take(request) for request in requests]
    masked = [values[i][0] + d.masks[0] for i, d in zip(places, dealt, strict=True)]
    if session.rank == 0:
        for m in masked:
            m.add_(_OFFSET)
    # Safe to open: each value is masked by a fresh uniform ring element.
    opened = session.open("truncate", masked)
    for i, c, request, d in zip(places, opened, requests, dealt, strict=True):
        high, top = d.derived()
        share = torch.empty_like(c)
        flat = [t.reshape(-1).numpy() for t in (c, high, top, share)]
        _divide(flat[0], flat[1], flat[2], flat[3], np.int64(request.bits), session.rank == 0)
        results[i] = share
    return results


@njit(cache=True, nogil=True)
def _divide(c, high, top, share, k, first):  # type: ignore[no-untyped-def]
    one = np.int64(1)
    for i in range(c.shape[0]):
        sign = c[i] >> np.int64(63)  # -1 where the top bit of c is set
        result = (np.int64(top[i]) << (np.int64(63) - k)) * (one + np.int64(2) * sign) - high[i]
        if first:
            result += (
                ((c[i] & np.int64(LOW_63)) >> k) - (sign << (np.int64(63) - k)) - (one << (np.int64(62) - k))
            )
        share[i] = result
