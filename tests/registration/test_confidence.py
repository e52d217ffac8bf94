"""A pair that seems unlike until it is registered: what truly changed stands out."""

from __future__ import annotations

import numpy as np
from scipy import stats

import bigcorr as bc
from bigcorr.simulate.images import image_pair


def test_a_registered_pair_tells_what_changed() -> None:
    pair = image_pair((600, 700), shift=(2.7, -1.3), changed_fraction=0.02, seed=3)
    reg = bc.register(pair.reference, pair.moving)
    np.testing.assert_allclose(reg.shift, pair.truth["shift"], atol=0.01)
    before = bc.ncc(pair.reference, pair.moving, window=15)
    after = bc.ncc(pair.reference, bc.apply_shift(pair.moving, reg.shift), window=15)
    assert np.nanmean(before) < 0.6
    assert np.nanmean(after) > 0.95
    known = np.isfinite(after)
    changed = pair.truth["changed"][known]
    ranks = stats.rankdata(-after[known])
    pairs = int(changed.sum()) * int((~changed).sum())
    above = ranks[changed].sum() - changed.sum() * (changed.sum() + 1) / 2
    assert above / pairs > 0.95
