"""Pictures of a reader's own images: numbers in them are those of the tables."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from peftlab.results.images import against_best
from peftlab.views import answers, own_images


def counts(classes):
    table = pd.DataFrame({"train": range(classes, 0, -1), "choose": 1, "test": 2})
    return table.set_index(pd.Index([f"class {i}" for i in range(classes)]))


def test_every_class_has_a_bar_or_the_largest_and_smallest_have():
    ax = own_images.class_bars(counts(5))
    assert [text.get_text() for text in ax.texts] == ["8", "7", "6", "5", "4"]
    assert len(ax.patches) == 15
    ax = own_images.class_bars(counts(60))
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert len(names) == 24 and names[0] == "class 0" and names[-1] == "class 59"


def test_names_of_classes_are_no_mathematics_and_stay_short(tmp_path):
    ax = own_images.class_bars(counts(2).set_axis([r"$\x$", "a" * 200]))
    ax.figure.savefig(tmp_path / "bars.png")
    assert [label.get_text() for label in ax.get_yticklabels()] == [r"\$\x\$", "a" * 29 + "…"]


def test_a_letter_that_no_font_has_is_a_box_and_no_warning_on_the_page():
    """In a process of its own, as pytest has warnings of its own."""
    draw = (
        "import matplotlib.pyplot as plt; import peftlab.views as v; plt.title('\U00012000'); plt.savefig('/dev/null')"
    )
    done = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", draw], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_copies_stand_below_one_another(tmp_path):
    paths = []
    for i in range(3):
        Image.new("RGB", (8, 6), (80 * i, 0, 0)).save(tmp_path / f"{i}.png")
        paths.append(tmp_path / f"{i}.png")
    figure = own_images.copies([paths, paths[:2]])
    assert [ax.get_title() for ax in figure.axes] == ["3 alike", "2 alike", "", ""]
    assert len(own_images.copies([paths[:2]] * 9).axes) == 10


def test_a_learning_curve_has_its_draws_and_the_guess():
    table = pd.DataFrame({"images": [10, 10, 20], "5 nearest neighbours": [0.2, 0.4, 0.5], "linear probe": 0.6})
    ax = own_images.learning_curve(table, guess=0.25)
    means = {line.get_label(): list(line.get_ydata()) for line in ax.lines}
    assert means["5 nearest neighbours"] == pytest.approx([30, 50]) and means["always the largest class"] == [25, 25]


def test_methods_stand_beside_the_best_and_grey_is_no_difference():
    right = {"lora": np.arange(200) < 190, "norm": np.arange(200) < 189, "linear": np.arange(200) < 120}
    figure = own_images.against_best(against_best({name: values[None] for name, values in right.items()}))
    accuracies, differences = figure.axes
    assert [text.get_text() for text in accuracies.texts] == ["95.0", "94.5", "60.0"]
    says = [text.get_text() for text in differences.texts]
    assert says == ["the best mean", "not significantly\ndifferent", "behind"]
    assert differences.lines[5].get_xdata() == pytest.approx([-35])


def test_intervals_are_drawn_as_they_are():
    right = {"lora": np.arange(200) < 190, "linear": np.arange(200) < 120}
    table = against_best({name: values[None] for name, values in right.items()})
    accuracies, differences = own_images.against_best(table).axes
    spans = lambda ax: [list(line.get_xdata()) for line in ax.lines if line.get_linewidth() == 2]  # noqa: E731
    assert spans(accuracies) == [pytest.approx(list(ends)) for ends in 100 * table[["low", "high"]].to_numpy()]
    assert spans(differences)[1] == pytest.approx(list(-100 * table.loc["linear", ["below high", "below low"]]))


def test_one_method_is_beside_nothing():
    [ax] = own_images.against_best(against_best({"lora": np.ones((1, 50), bool)})).axes
    assert [text.get_text() for text in ax.texts] == ["100.0"]


def test_mistakes_show_their_images_and_say_both_names(tiny_task):
    table = pd.DataFrame({"image": [0, 4], "said": [1, 2], "label": [0, 1], "confidence": [0.912, 0.5]})
    axes = answers.mistakes(tiny_task, table, size=(32, 32)).axes
    shown = np.stack([ax.images[0].get_array() for ax in axes[:2]])
    assert np.array_equal(shown, tiny_task.pixels("test", (32, 32), [0, 4]).numpy())
    assert [ax.get_title() for ax in axes[:2]] == ["says green\n(91%)", "says blue\n(50%)"]
    assert [ax.get_xlabel() for ax in axes[:2]] == ["label: red", "label: green"]
    assert len(axes) == answers.COLUMNS and not axes[3].axison


def test_reliability_shows_bins_with_their_images():
    table = pd.DataFrame({"confidence": [0.55, 0.95], "accuracy": [0.5, 0.65], "images": [10, 30]})
    ax = answers.reliability(table)
    assert ax.get_title() == "mean distance 23.8 points"
    assert [text.get_text() for text in ax.texts][-2:] == ["10", "30"]
    assert np.asarray(ax.collections[0].get_offsets()).ravel() == pytest.approx([55, 50, 95, 65])


def test_maps_have_a_row_a_name(tiny_task):
    import torch

    pixels = tiny_task.pixels("test", (32, 32), range(3))
    figure = answers.maps(pixels, {"frozen": torch.rand(3, 4, 4), "importance": torch.rand(3, 4, 4)})
    assert len(figure.axes) == 9 and figure.axes[6].get_ylabel() == "importance"
