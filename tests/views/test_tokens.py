"""Pictures of tokens and features: rows for backbones, the share that classes explain, bars with intervals."""

import numpy as np
import pandas as pd
import pytest
import torch

from peftlab.analysis.probes import explained_by_class, object_overlap
from peftlab.results.statistics import accuracy_interval
from peftlab.views import tokens


def test_patch_pca_has_a_row_for_each_backbone_and_one_pca_each():
    grids = {name: torch.randn(3, 4, 4, 8) for name in ("trained", "random")}
    figure = tokens.patch_pca(torch.zeros(3, 16, 16, 3, dtype=torch.uint8), grids, "title")
    assert len(figure.axes) == 9 and [figure.axes[i].get_ylabel() for i in (3, 6)] == ["trained", "random"]
    assert figure.axes[3].images[0].get_array().shape == (4, 4, 3) and figure.get_suptitle() == "title"


def test_feature_plane_says_what_the_class_explains():
    x = np.array([[0.0, 0], [0, 1], [9, 0], [9, 1]])
    labels = np.array([0, 0, 1, 1])
    ax = tokens.feature_plane(x, labels, ("first", "last"), ordered=True, title="made up")
    assert ax.get_title() == f"made up: the class explains {explained_by_class(x, labels):.0%} of this plane"
    bar = ax.figure.axes[1]
    assert [t.get_text() for t in bar.get_yticklabels()] == ["first", "last"]
    few = tokens.feature_plane(x, labels, ("cat", "dog"), ordered=False)
    forms = {tuple(dots.get_paths()[0].vertices.ravel()) for dots in few.collections}
    assert len(few.collections) == 2 and len(forms) == 2  # classes differ by form, not only by colour
    many = tokens.feature_plane(np.random.rand(22, 3), np.arange(22) % 11, [str(i) for i in range(11)], ordered=False)
    assert many.get_legend() is None  # more names than colours


def test_probes_have_values_and_wilson_intervals():
    known = pd.DataFrame(
        [[10.0, 20.0, 50.0, 30.0], [25.0, 30.0, 40.0, 38.0]],
        index=["a", "b (synthetic)"],
        columns=["chance", "5 nearest neighbours", "linear probe", "linear probe, random weights"],
    )
    ax = tokens.probes(known, [100, 400])
    assert [text.get_text() for text in ax.texts] == [f"{v:.0f}" for v in known.to_numpy().T.ravel()]
    assert ax.get_title() == "Pre-training adds 20 points to the probe on a, 2 on b (synthetic)"
    spans = [segments for c in ax.collections for segments in c.get_segments()]
    assert spans[2][:, 1] == pytest.approx(100 * np.array(accuracy_interval(0.5, 100)))


def test_overlap_of_a_cluster_with_the_objects():
    grid = torch.zeros(2, 4, 4, 3)
    grid[:, :2, :2, 0], grid[:, 2:, 2:, 1] = 5, 5
    mask = np.zeros((1, 64, 64), bool)
    mask[0, :32, :32] = True
    assert object_overlap(grid, [mask, mask]) == pytest.approx([1, 1])
    half = mask.copy()
    half[0, :, :16] = False
    assert object_overlap(grid, [mask, half]) == pytest.approx([1, 0.5])
