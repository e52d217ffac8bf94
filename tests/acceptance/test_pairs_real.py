"""All pairs of real stacks, against what is known of them."""

import csv

import numpy as np
import pytest
import scipy.io
from scipy.stats import rankdata, spearmanr

import bigcorr as bc
from bigcorr.raster.ingest import ingest

pytestmark = pytest.mark.acceptance

VARIABLE = 67


def auc(similarity: np.ndarray, group: np.ndarray) -> float:
    """Chance that a pair of one group is more similar than a pair of two."""
    i, j = np.triu_indices(len(group), 1)
    same, ranks = group[i] == group[j], rankdata(similarity[i, j])
    pairs = same.sum()
    return float((ranks[same].sum() - pairs * (pairs + 1) / 2) / (pairs * (~same).sum()))


def layer_of_each_gene(stack, real_data) -> np.ndarray:
    """The layer in which a gene lies highest above its mean, in its standard deviations."""
    folder = real_data / "olfactory_bulb"
    with open(folder / "layers.csv") as file:
        layer = dict(list(csv.reader(file))[1:])
    with np.load(folder / "counts.npz") as counts:
        spots, places = counts["spots"].astype(str), counts["pos"]
    of_spot = np.array([layer.get(spot, "") for spot in spots])
    x, y = (np.rint(places[:, k]) for k in (0, 1))
    rows, columns = (np.searchsorted(stack[name].values, at) for name, at in (("y", y), ("x", x)))
    values = stack.values[:, rows, columns]
    means = [values[:, of_spot == name].mean(axis=1) for name in sorted(set(of_spot) - {""})]
    return np.argmax((np.array(means) - values.mean(axis=1)) / values.std(axis=1), axis=0)


def test_variable_genes_of_the_olfactory_bulb_are_like_those_of_their_layer(real_data, tmp_path):
    source = real_data / "olfactory_bulb" / "counts.npz"
    store = tmp_path / "ob.zarr"
    ingest(source, store, pixel_size=1, round=True, normalize="log1p-cp10k")
    stack = bc.open_raster(store)
    stack = stack.isel(channel=np.flatnonzero(stack["count"].values >= 500))
    sim = bc.pairwise(
        stack, measures=["moran", "pearson", "lee"], significance=False, progress=False
    )
    group = layer_of_each_gene(stack, real_data)
    variable = np.argsort(-np.diag(sim["moran"].values))[:VARIABLE]
    rng = np.random.default_rng(0)
    random = [rng.choice(len(group), VARIABLE, replace=False) for _ in range(20)]
    for measure, least in (("pearson", 0.95), ("moran", 0.97), ("lee", 0.97)):
        value = sim[measure].values
        value = (value + value.T) / 2
        of_variable = auc(value[np.ix_(variable, variable)], group[variable])
        of_random = [auc(value[np.ix_(some, some)], group[some]) for some in random]
        print(f"{measure}: AUC {of_variable:.3f}, of random genes {np.mean(of_random):.3f}")
        assert of_variable > least
        assert of_variable > max(of_random)


def test_bands_of_a_scene_are_less_alike_the_further_apart_they_are(real_data):
    bands = scipy.io.loadmat(real_data / "jasper_ridge" / "jasperRidge2_R198.mat")["Y"]
    stack = np.ascontiguousarray(bands.reshape(198, 100, 100).transpose(0, 2, 1))
    sim = bc.pairwise(
        stack, measures=["pearson", "spearman", "ncc"], window=8, stride=4, progress=False
    )
    pearson = sim["pearson"].values
    np.testing.assert_allclose(pearson, np.corrcoef(bands.astype(float)), atol=1e-9)
    assert np.median(np.diag(pearson, 1)) == pytest.approx(0.9995, abs=5e-5)
    assert pearson.min() == pytest.approx(-0.325, abs=5e-4)
    i, j = np.triu_indices(198, 1)
    for measure in ("pearson", "spearman", "ncc"):
        value = sim[measure].values
        assert spearmanr(j - i, value[i, j]).statistic < -0.5
        assert np.diag(value, 1).mean() > np.diag(value, 20).mean() > np.diag(value, 50).mean()
    # Noisy: much of a band is not told by a pixel's neighbours. Window by window no band is like
    # a noisy one, however alike their means over the scene are.
    image = stack.astype(float)
    around = image[:, :-2, 1:-1] + image[:, 2:, 1:-1] + image[:, 1:-1, :-2] + image[:, 1:-1, 2:]
    noise = (image[:, 1:-1, 1:-1] - around / 4).std(axis=(1, 2)) / image.std(axis=(1, 2))
    value = sim["ncc"].values.copy()
    np.fill_diagonal(value, -1)
    closest = value.max(axis=1)
    noisiest = np.argsort(-noise)[:3].tolist()
    assert noisiest == [0, 145, 146]
    assert set(noisiest) <= set(np.argsort(closest)[:10].tolist())
