"""A drawn scene is the image of the synthetic task, with the mask of its objects."""

import pytest

from peftlab.common.errors import PeftlabError
from peftlab.tasks.load import load_task
from peftlab.tasks.synthetic.registry import object_masks
from peftlab.views.inside import DrawnScene


def test_a_drawn_scene_is_the_image_of_the_task():
    scene = DrawnScene("clevr_count", 3)
    written = load_task("clevr_count", root="synthetic").pixels("test", (112, 112), [3])
    assert (scene.pixels((112, 112)).int() - written.int()).abs().max() <= 1 and scene.name == "scene 4"
    assert (scene.mask((64, 64))[0].numpy() == object_masks("clevr_count", "test", [3])[0].any(0)).all()
    with pytest.raises(PeftlabError, match="no object masks for 'digits'"):
        DrawnScene("digits", 0).mask((64, 64))
