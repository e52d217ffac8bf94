"""Registration of real images: known shifts, planes of one field, two stains of one tissue."""

import csv

import numpy as np
import pytest
from PIL import Image
from scipy import fft

import bigcorr as bc

pytestmark = pytest.mark.acceptance

MARGIN = 64


def grey(path):
    Image.MAX_IMAGE_PIXELS = None
    with Image.open(path) as picture:
        return np.asarray(picture.convert("L"), dtype=np.float32)


class Leaves:
    """The scan moved by the Fourier transform, and cut so that nothing has wrapped around."""

    def __init__(self, image):
        self.shape = image.shape
        self.spectrum = fft.rfft2(image.astype(np.float64))
        self.reference = self.cut(image)
        self.vectors = np.random.default_rng(0).uniform(-40, 40, (20, 2))

    def cut(self, image):
        return image[MARGIN:-MARGIN, MARGIN:-MARGIN].astype(np.float32)

    def moved(self, number):
        (h, w), (dy, dx) = self.shape, self.vectors[number]
        turned = self.spectrum * np.exp(-2j * np.pi * fft.fftfreq(h) * dy)[:, None]
        turned *= np.exp(-2j * np.pi * fft.rfftfreq(w) * dx)
        return self.cut(fft.irfft2(turned, self.shape))

    def error(self, found, number):
        return float(np.abs(np.array(found.shift) + self.vectors[number]).max())


@pytest.fixture(scope="module")
def leaves(real_data):
    return Leaves(grey(real_data / "leaves" / "leaves_6976x5074.jpg"))


def holes(shape, side, rng):
    """Random blocks that cover 30 % of an image."""
    few = rng.random([-(-n // side) for n in shape]) < 0.3
    return np.kron(few, np.ones((side, side), bool)).astype(bool)[: shape[0], : shape[1]]


@pytest.mark.slow
def test_twenty_shifts_of_a_scan_are_found_to_a_hundredth_of_a_pixel(leaves):
    errors = [leaves.error(bc.register(leaves.reference, leaves.moved(k)), k) for k in range(20)]
    print("largest error", max(errors))
    assert max(errors) <= 0.01


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1, 2])
def test_shifts_are_found_through_holes_and_noise(leaves, number):
    a, b = leaves.reference, leaves.moved(number)
    rng = np.random.default_rng(number)
    for side in (8, 64):
        one, other = (holes(a.shape, side, rng) for _ in range(2))
        reference = np.where(one, np.nan, a)
        for name, lost, most in (("other", other, 0.04), ("same", one, 0.05)):
            found = bc.register(reference, np.where(lost, np.nan, b))
            error = leaves.error(found, number)
            print(f"holes of {side}, {name} ones: {error:.4f}, sigma {found.sigma}")
            assert error <= most
    noisy = [image + a.std() * rng.standard_normal(a.shape, dtype=np.float32) for image in (a, b)]
    for name, first, most in (("moving", a, 0.02), ("both", noisy[0], 0.08)):
        found = bc.register(first, noisy[1])
        error = leaves.error(found, number)
        print(f"noise on {name}: {error:.4f}, sigma {found.sigma}")
        assert error <= most
    assert found.sigma > 0


@pytest.mark.parametrize(("stain", "least"), [("dapi", 0.99), ("polyT", 0.95)])
def test_two_planes_of_one_field_lie_on_each_other(real_data, stain, least):
    folder = real_data / "vizgen"
    a, b = (grey(folder / f"mini_dataset_{stain}_z{plane}.jpg") for plane in (0, 1))
    found = bc.register(a, b)
    print(stain, found.shift, found.score)
    assert max(np.abs(found.shift)) < 0.05
    assert found.score >= least


def landmarks(path):
    with open(path) as file:
        rows = list(csv.reader(file))[1:]
    return np.array([[float(y), float(x)] for _, x, y in rows])


def test_two_stains_of_a_kidney_are_laid_on_each_other(real_data):
    """The best affine map of the landmarks themselves leaves 3.50 pixels."""
    folder = real_data / "histology" / "rat_kidney" / "scale-5pc"
    names = [folder / f"Rat-Kidney_{stain}" for stain in ("HE", "PanCytokeratin")]
    images = [grey(name.with_suffix(".jpg")) for name in names]
    points = [landmarks(name.with_suffix(".csv"))[:69] for name in names]
    size = np.max([image.shape for image in images], axis=0)
    canvas = np.full((2, *size), np.nan, np.float32)
    for part, image in zip(canvas, images, strict=True):
        part[: image.shape[0], : image.shape[1]] = image
    assert np.median(np.hypot(*(points[0] - points[1]).T)) == pytest.approx(29.1, abs=0.05)
    for first, second in ((0, 1), (1, 0)):
        found = bc.register(canvas[first], canvas[second], model="affine")
        places = np.column_stack([points[first], np.ones(69)]) @ found.matrix[:2].T
        median = np.median(np.hypot(*(places - points[second]).T))
        print(f"median landmark error {median:.2f}, score {found.score:.3f}")
        assert median < 8
        assert found.score > found.score_before
