"""Ingest: every row is counted in its cell, whatever the table's format, order and size."""

import bz2
import gzip

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bigcorr.errors import InputError, MissingFileError
from bigcorr.raster import open_raster, open_source, points, spill, text_table
from bigcorr.raster.ingest import ingest
from bigcorr.raster.points import GeneNames, find_columns, read_points
from bigcorr.tiles import Box

quiet = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)


def pixels(path):
    source = open_source(path)
    return source.read(slice(None), Box(0, source.shape[1], 0, source.shape[2]))


def counted(x, y, gene, count, size, origin=None):
    """Brute force: a loop over rows."""
    y0, x0 = (min(y), min(x)) if origin is None else origin
    names = sorted(set(gene))
    shape = (int((max(y) - y0) // size) + 1, int((max(x) - x0) // size) + 1)
    out = np.zeros((len(names), *shape), dtype=int)
    for a, b, g, c in zip(x, y, gene, count, strict=True):
        if a >= x0 and b >= y0:
            out[names.index(g), int((b - y0) // size), int((a - x0) // size)] += c
    return names, out


rows = st.lists(
    st.tuples(
        st.integers(0, 90),
        st.integers(0, 60),
        st.sampled_from(["b", "a", "Z 1"]),
        st.integers(0, 300),
    ),
    min_size=1,
    max_size=60,
)


@quiet
@given(rows, st.integers(1, 9), st.sampled_from([None, (-3.0, -5.0), (0.0, 0.0)]))
def test_every_row_is_counted_in_its_cell(tmp_path_factory, table, size, origin):
    folder = tmp_path_factory.mktemp("points")
    text = "x,y,gene,count\n" + "".join(f"{x},{y},{g},{c}\n" for x, y, g, c in table)
    (folder / "t.csv").write_text(text)
    done = ingest(folder / "t.csv", folder / "s.zarr", bin=size, origin=origin, chunk=4, shard=8)
    x, y, gene, count = zip(*table, strict=True)
    names, expected = counted(x, y, gene, count, size, origin)
    found = pixels(folder / "s.zarr")
    np.testing.assert_array_equal(found, expected)
    assert open_source(folder / "s.zarr").channels == tuple(names)
    np.testing.assert_array_equal(open_source(folder / "s.zarr").counts, expected.sum(axis=(1, 2)))
    assert found.dtype == np.min_scalar_type(expected.max())
    assert done["total_count"] == expected.sum()
    assert done["rows"] == len(table)


@pytest.fixture
def table():
    rng = np.random.default_rng(3)
    n = 5000
    return {
        "x": rng.normal(500, 80, n).round(3),
        "y": rng.normal(300, 50, n).round(3),
        "gene": rng.choice(["Gad1", "Slc17a7", "Aqp4", "Sst"], n, p=[0.5, 0.3, 0.19, 0.01]),
    }


def expected_of(table, size):
    return counted(table["x"], table["y"], table["gene"], np.ones(len(table["x"]), int), size)[1]


def as_text(table, names, sep=",", head=""):
    lines = [sep.join(names)]
    lines += [
        sep.join(map(str, row)) for row in zip(table["x"], table["y"], table["gene"], strict=True)
    ]
    return head + "\n".join(lines) + "\n"


FORMATS = {
    "plain.csv": ("x", "y", "gene", ","),
    "merscope.csv.gz": ("global_x", "global_y", "gene", ","),
    "tabs.tsv": ("X", "Y", "Gene", "\t"),
    "xenium.csv.bz2": ("x_location", "y_location", "feature_name", ","),
    "cosmx.csv": ("x_global_px", "y_global_px", "target", ";"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_tables_of_every_maker_give_the_same_stack(tmp_path, table, name):
    *columns, sep = FORMATS[name]
    raw = as_text(table, columns, sep).encode()
    raw = gzip.compress(raw) if name.endswith("gz") else raw
    raw = bz2.compress(raw) if name.endswith("bz2") else raw
    (tmp_path / name).write_bytes(raw)
    done = ingest(tmp_path / name, tmp_path / "s.zarr", pixel_size=7)
    np.testing.assert_array_equal(pixels(tmp_path / "s.zarr"), expected_of(table, 7))
    assert done["pixel_size"] == 7
    assert open_raster(tmp_path / "s.zarr").attrs["origin"] == [
        table["y"].min(),
        table["x"].min(),
    ]


@pytest.mark.parametrize("kind", ["string", "binary", "dictionary", "large"])
def test_parquet_tables_are_read_whatever_holds_the_names(tmp_path, table, kind):
    gene = pa.array(table["gene"].tolist())
    gene = {
        "string": gene,
        "binary": gene.cast(pa.binary()),
        "dictionary": gene.dictionary_encode(),
        "large": gene.cast(pa.large_string()),
    }[kind]
    columns = {
        "x_location": table["x"],
        "y_location": table["y"].astype("f4"),
        "feature_name": gene,
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet", row_group_size=700)
    ingest(tmp_path / "t.parquet", tmp_path / "s.zarr", pixel_size=7)
    table["y"] = table["y"].astype("f4").astype("f8")
    np.testing.assert_array_equal(pixels(tmp_path / "s.zarr"), expected_of(table, 7))


def test_a_stereo_seq_table_is_read_below_its_comment_lines(tmp_path):
    head = "#FileFormat=GEMv0.1\n#BinType=Bin\n#OffsetX=3\n"
    body = "geneID\tx\ty\tMIDCount\nE1\t10\t20\t3\nE1\t59\t20\t1\nE2\t60\t21\t2\n"
    (tmp_path / "t.gem.gz").write_bytes(gzip.compress((head + body).encode()))
    done = ingest(tmp_path / "t.gem.gz", tmp_path / "s.zarr", bin=50)
    assert pixels(tmp_path / "s.zarr").tolist() == [[[4, 0]], [[0, 2]]]
    assert done["bin"] == 50
    assert "pixel_size" not in open_source(tmp_path / "s.zarr").attrs


def test_known_columns_are_chosen_in_the_right_order():
    merscope = ["", "barcode_id", "global_x", "global_y", "global_z", "x", "y", "fov", "gene"]
    assert find_columns(merscope, None, "t") == {"x": "global_x", "y": "global_y", "gene": "gene"}
    gem = ["geneID", "geneName", "x", "y", "MIDCount", "ExonCount"]
    assert find_columns(gem, None, "t")["gene"] == "geneName"
    assert find_columns(gem, {"gene": "geneid", "count": "ExonCount"}, "t") == {
        "x": "x",
        "y": "y",
        "gene": "geneID",
        "count": "ExonCount",
    }


def little_memory(monkeypatch):
    """As if a small table were a long one: rows, batches and sums go to files."""
    monkeypatch.setattr(text_table, "BLOCK_BYTES", 4096)
    monkeypatch.setattr(points, "BATCH_ROWS", 300)
    monkeypatch.setattr(spill, "SPOOL_BYTES", 9999)
    monkeypatch.setattr(spill, "RUN_ROWS", 100)
    monkeypatch.setattr(spill, "MERGED_ROWS", 400)


def test_a_long_table_takes_no_more_memory_than_its_batches(tmp_path, table, monkeypatch):
    little_memory(monkeypatch)
    (tmp_path / "t.csv").write_text(as_text(table, ["x", "y", "gene"]))
    ingest(tmp_path / "t.csv", tmp_path / "s.zarr", pixel_size=7, chunk=8, shard=16)
    np.testing.assert_array_equal(pixels(tmp_path / "s.zarr"), expected_of(table, 7))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.zarr", "t.csv"]


def test_batches_are_bounded(tmp_path, table, monkeypatch):
    monkeypatch.setattr(text_table, "BLOCK_BYTES", 4096)
    (tmp_path / "t.csv").write_text(as_text(table, ["x", "y", "gene"]))
    sizes = [len(p.x) for p in read_points(tmp_path / "t.csv", GeneNames())]
    assert sum(sizes) == 5000
    assert max(sizes) < 400


def test_rows_without_a_position_or_a_gene_are_left_out_and_counted(tmp_path):
    text = "x,y,gene\n1,1,a\nnan,1,a\n,2,a\n3,inf,a\n2,2,\n2,2,b\n"
    (tmp_path / "t.csv").write_text(text)
    done = ingest(tmp_path / "t.csv", tmp_path / "s.zarr", pixel_size=1)
    assert done["left_out"] == {"position is not finite": 3, "no gene": 1}
    assert done["total_count"] == 2
    assert any("3 left out" in line for line in done["warnings"])
    assert open_source(tmp_path / "s.zarr").attrs["left_out"] == done["left_out"]


def test_rows_before_the_origin_are_left_out_and_counted(tmp_path):
    (tmp_path / "t.csv").write_text("x,y,gene\n1,1,a\n5,5,a\n9,2,b\n")
    done = ingest(tmp_path / "t.csv", tmp_path / "s.zarr", pixel_size=1, origin=(2, 2))
    assert done["left_out"] == {"before the origin": 1}
    assert done["shape"] == [4, 8]
    with pytest.raises(InputError, match=r"origin .* lies beyond every position"):
        ingest(tmp_path / "t.csv", tmp_path / "t.zarr", pixel_size=1, origin=(50, 2))


def test_rounding_puts_positions_on_the_nearest_whole_multiple(tmp_path):
    (tmp_path / "t.csv").write_text("x,y,gene\n0.9,2.1,a\n2.1,1.9,a\n3.2,3.0,a\n")
    done = ingest(tmp_path / "t.csv", tmp_path / "s.zarr", pixel_size=1, round=True)
    assert pixels(tmp_path / "s.zarr")[0].tolist() == [[1, 1, 0], [0, 0, 1]]
    assert done["origin"] == [1.5, 0.5]
    assert open_raster(tmp_path / "s.zarr")["y"].values.tolist() == [2.0, 3.0]


def test_normalised_pixels_are_log_counts_per_10k_and_missing_where_nothing_was_seen(
    tmp_path, table
):
    (tmp_path / "t.csv").write_text(as_text(table, ["x", "y", "gene"]))
    ingest(
        tmp_path / "t.csv",
        tmp_path / "s.zarr",
        pixel_size=7,
        normalize="log1p-cp10k",
        chunk=8,
        shard=16,
    )
    raw = expected_of(table, 7)
    total = raw.sum(axis=0)
    with np.errstate(invalid="ignore"):
        expected = np.log1p(1e4 * raw / total)
    found = pixels(tmp_path / "s.zarr")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    source = open_source(tmp_path / "s.zarr")
    np.testing.assert_array_equal(source.counts, raw.sum(axis=(1, 2)))
    np.testing.assert_array_equal(source.mask(Box(0, raw.shape[1], 0, raw.shape[2])), total > 0)


def spots_file(path, **change):
    matrix = np.array([[1, 0, 2, 0], [0, 5, 0, 0], [0, 0, 3, 4]])
    held = {
        "data": matrix[matrix > 0],
        "indices": np.nonzero(matrix)[1],
        "indptr": np.concatenate([[0], np.cumsum((matrix > 0).sum(axis=1))]),
        "shape": np.array(matrix.shape),
        "genes": np.array(["a", "b", "c"]),
        "pos": np.array([[10.0, 5.1], [11.9, 5.0], [12.2, 6.1], [12.3, 5.9]]),
    }
    held.update(change)
    np.savez(path, **{name: value for name, value in held.items() if value is not None})
    return path


def test_spots_in_one_cell_are_added_up_and_cells_without_a_spot_are_missing(tmp_path):
    path = spots_file(tmp_path / "counts.npz")
    done = ingest(path, tmp_path / "s.zarr", pixel_size=1, round=True)
    assert done["merged_spots"] == 1
    assert any("1 spots fell in a cell" in line for line in done["warnings"])
    assert pixels(tmp_path / "s.zarr").tolist() == [
        [[1, 0, 0], [0, 0, 2]],
        [[0, 0, 5], [0, 0, 0]],
        [[0, 0, 0], [0, 0, 7]],
    ]
    mask = open_raster(tmp_path / "s.zarr")["mask"].values
    assert mask.tolist() == [[True, False, True], [False, False, True]]
    ingest(path, tmp_path / "n.zarr", pixel_size=1, round=True, normalize="log1p-cp10k")
    found = pixels(tmp_path / "n.zarr")
    assert np.isnan(found[:, ~mask]).all()
    np.testing.assert_allclose(found[:, 1, 2], np.log1p([1e4 * 2 / 9, 0, 1e4 * 7 / 9]), rtol=1e-6)
    assert open_source(tmp_path / "n.zarr").counts.tolist() == [3, 5, 7]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pos": None}, "lacks pos"),
        ({"pos": np.zeros((3, 2))}, "pos must be numbers of shape"),
        ({"pos": np.full((4, 2), np.nan)}, "not finite"),
        ({"genes": np.array(["a"])}, "gene names for 3 rows"),
        ({"indices": np.array([0, 1, 2, 3, 9])}, "no CSR matrix"),
        ({"indptr": np.array([0, 2, 1, 5])}, "no CSR matrix"),
        ({"data": np.array([1.5, 1, 1, 1, 1])}, "must hold counts"),
        ({"genes": np.array(["a", "a", "b"])}, "given twice: a"),
        ({"data": np.array([{}], dtype=object)}, "not a readable .npz"),
    ],
)
def test_counts_files_that_do_not_fit_are_refused(tmp_path, change, message):
    path = spots_file(tmp_path / "counts.npz", **change)
    with pytest.raises(InputError, match=message):
        ingest(path, tmp_path / "s.zarr", pixel_size=1)
    assert [p.name for p in tmp_path.iterdir()] == ["counts.npz"]


def test_images_become_stacks_tile_by_tile(tmp_path):
    rng = np.random.default_rng(0)
    red, green = rng.integers(0, 255, (2, 70, 90)).astype("u1")
    tifffile.imwrite(tmp_path / "red.tif", red, tile=(16, 16))
    np.save(tmp_path / "green.npy", green)
    done = ingest(
        [tmp_path / "red.tif", tmp_path / "green.npy"], tmp_path / "s.zarr", chunk=16, shard=32
    )
    assert done["kind"] == "image"
    assert open_source(tmp_path / "s.zarr").channels == ("red", "green")
    np.testing.assert_array_equal(pixels(tmp_path / "s.zarr"), [red, green])


BAD_TABLES = {
    "words.csv": ("x,y,gene\n1,2,a\noops,2,a\n", "oops"),
    "ragged.csv": ("x,y,gene\n1,2,a\n1,2\n", "cannot be read as a table"),
    "empty.csv": ("x,y,gene\n", "has no rows"),
    "nothing.csv": ("", "is empty"),
    "comments.gem": ("#a\n#b\n", "no line of column names"),
    "prose.txt": ("It was a dark night.\nIt rained.\n", "no column for x|neither"),
    "no-gene.csv": ("x,y,z\n1,2,3\n", "no column for gene .* it has 'x', 'y', 'z'"),
    "negative.csv": ("x,y,gene,count\n1,2,a,-1\n", "must hold counts .* got -1"),
    "half.csv": ("x,y,gene,count\n1,2,a,0.5\n", "must hold counts"),
    "all-nan.csv": ("x,y,gene\nnan,2,a\n", "none of its 1 rows has a position"),
    "far.csv": ("x,y,gene\n0,0,a\n1e9,1e9,a\n", "would have 1000000001 x 1000000001 pixels"),
    "binary.dat": ("PK\x00\x01\x00,,,", "binary"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_a_bad_table_is_refused_in_one_line_and_leaves_nothing(tmp_path, name):
    text, message = BAD_TABLES[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        ingest(tmp_path / name, tmp_path / "s.zarr", pixel_size=1)
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "one of bin and pixel_size, got neither"),
        ({"bin": 1, "pixel_size": 1}, "got both"),
        ({"pixel_size": -1}, "pixel_size must be a positive number, got -1"),
        ({"pixel_size": float("nan")}, "positive"),
        ({"bin": 0}, "bin must be a positive number"),
        ({"bin": 1, "normalize": "sqrt"}, "normalize takes"),
        ({"bin": 1, "origin": (1,)}, "origin takes two numbers"),
        ({"bin": 1, "columns": {"x": "nope"}}, "no column 'nope' for x; it has 'x', 'y', 'gene'"),
        ({"bin": 1, "columns": {"z": "x"}}, "columns takes x, y, gene, count"),
        ({"bin": 1, "chunk": 0}, "chunk must be at least 1"),
        ({"bin": 1, "chunk": 100, "shard": 150}, "multiple of chunk"),
        ({"bin": 1e-9}, "choose a larger pixel"),
    ],
)
def test_bad_parameters_are_refused_by_name(tmp_path, arguments, message):
    (tmp_path / "t.csv").write_text("x,y,gene\n1,2,a\n30,40,b\n")
    with pytest.raises(InputError, match=message):
        ingest(tmp_path / "t.csv", tmp_path / "s.zarr", **arguments)
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


def test_kinds_are_not_mixed_and_missing_files_are_named(tmp_path):
    (tmp_path / "t.csv").write_text("x,y,gene\n1,2,a\n")
    np.save(tmp_path / "a.npy", np.ones((3, 3)))
    with pytest.raises(InputError, match="go together"):
        ingest([tmp_path / "t.csv", tmp_path / "a.npy"], tmp_path / "s.zarr", bin=1)
    with pytest.raises(MissingFileError, match=r"absent\.csv"):
        ingest(tmp_path / "absent.csv", tmp_path / "s.zarr", bin=1)
    with pytest.raises(InputError, match="bin is for points"):
        ingest(tmp_path / "a.npy", tmp_path / "s.zarr", bin=1)


def test_a_finished_store_is_kept_unless_asked(tmp_path):
    (tmp_path / "t.csv").write_text("x,y,gene\n1,2,a\n")
    ingest(tmp_path / "t.csv", tmp_path / "s.zarr", bin=1)
    with pytest.raises(InputError, match="exists already"):
        ingest(tmp_path / "t.csv", tmp_path / "s.zarr", bin=2)
    done = ingest(tmp_path / "t.csv", tmp_path / "s.zarr", bin=2, overwrite=True)
    assert done["bin"] == 2


@quiet
@given(
    st.binary(max_size=200), st.sampled_from([".csv", ".gz", ".parquet", ".npz", ".npy", ".tif"])
)
def test_rubbish_is_refused_without_a_traceback_of_others(tmp_path_factory, raw, suffix):
    folder = tmp_path_factory.mktemp("rubbish")
    start = {".gz": b"\x1f\x8b", ".parquet": b"PAR1", ".npy": b"\x93NUMPY", ".tif": b"II*\x00"}
    (folder / f"t{suffix}").write_bytes(start.get(suffix, b"") + raw)
    with pytest.raises(InputError):
        ingest(
            folder / f"t{suffix}",
            folder / "s.zarr",
            bin=1 if suffix in (".csv", ".gz", ".parquet", ".npz") else None,
        )
    assert not (folder / "s.zarr").exists()
