"""Photographs of other libraries: there without a network, credited, and read by a ViT."""

import socket
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import peftlab
from peftlab.backbones.load import load_backbone
from peftlab.backbones.preprocess import input_size, prepare_for
from peftlab.common.errors import DataError, PeftlabError
from peftlab.tasks.photographs import PHOTOGRAPHS, Library, photographs

SIZES = {
    "china": (427, 640),
    "flower": (427, 640),
    "hopper": (600, 512),
    "cat": (300, 451),
    "astronaut": (512, 512),
    "coffee": (400, 600),
    "rocket": (427, 640),
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args):
        raise AssertionError("a photograph was asked for over the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_each_is_there_with_its_credit(name):
    [photo] = photographs(name)
    assert photo.name == name and np.asarray(photo.image()).shape == (*SIZES[name], 3)
    assert photo.shows and photo.credit and photo.source.startswith("https://")
    assert photo.licence in ("CC BY 2.0", "CC0", "public domain")
    assert all(words in photo.caption for words in (photo.shows, photo.credit, photo.licence, photo.library.name))


@pytest.mark.parametrize("name", ["cat", "astronaut", "coffee", "rocket"])
def test_those_of_scikit_image_are_what_it_gives_by_these_names(name):
    from skimage import data

    assert np.array_equal(photographs(name)[0].image(), getattr(data, name)())


def test_names_keep_their_order_and_unknown_ones_get_near_ones():
    assert [p.name for p in peftlab.photographs("rocket", "cat")] == ["rocket", "cat"]
    assert [p.name for p in peftlab.photographs()] == list(SIZES)
    with pytest.raises(PeftlabError, match="unknown photograph 'rockett'; did you mean 'rocket'"):
        photographs("cat", "rockett")


def test_a_backbone_reads_them_at_its_own_size():
    vit = load_backbone()
    pixels = torch.cat([photo.pixels(input_size(vit)) for photo in photographs()])
    assert pixels.shape == (7, 64, 64, 3) and pixels.dtype == torch.uint8
    assert vit(prepare_for(vit, pixels)).shape == (7, 192)


def test_pixels_are_cropped_around_the_centre_and_not_squeezed(tmp_path):
    """Ten white columns in the middle of a wide image are half of what a square of its height shows."""
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 25:35] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    photo = replace(photographs("cat")[0], file=str(tmp_path / "wide.png"))
    [square], [flat] = photo.pixels((20, 20)), photo.pixels((10, 30))
    assert torch.equal(square, torch.from_numpy(wide[:, 20:40]))
    assert flat.shape == (10, 30, 3) and flat[5, 15].tolist() == [255] * 3 and not flat[:, :10].any()


def test_a_library_without_its_photograph_is_said():
    photo = replace(photographs("cat")[0], library=Library("scikit-image", "skimage", "nowhere"))
    with pytest.raises(DataError, match="scikit-image was installed without this photograph. Install"):
        photo.image()
