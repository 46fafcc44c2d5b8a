"""Pictures of the two-stage paradigm draw what was measured, and their titles say it."""

import numpy as np
import pandas as pd
import pytest
import torch
from support import tuned

import peftlab.views as views
from peftlab.analysis.two_stage import norm_steps
from peftlab.backbones.load import load_backbone
from peftlab.methods import attach
from peftlab.methods.norm import norm_layers


def shift_table():
    """Two tasks and a control, frozen and after two lengths of stage 1: [task, epochs, group, block, distance]."""
    means = {"clevr_count": (0.4, 0.6, 0.8), "dtd": (0.2, 0.15, 0.1), "pets": (0.02, 0.03, 0.03)}
    rows = [
        {"task": task, "epochs": epochs, "group": group, "block": block, "distance": value + (0.1 if group else -0.1)}
        for task, values in means.items()
        for epochs, value in zip((0, 3, 10), values, strict=True)
        for group in (0, 1)
        for block in (1, 2, 3)
    ]
    return pd.DataFrame(rows)


def test_shift_averages_groups_and_holds_the_gain_against_coming_nearer():
    gains = shift_table().groupby(["task", "epochs"], as_index=False)["distance"].mean()
    gains["gain"] = [0, 20, 30, 0, 1, 2, 0, 4, 6]
    left, right = views.two_stage.shift(shift_table(), gains).axes
    drawn = {line.get_label(): list(line.get_ydata()) for line in left.lines}
    assert drawn["clevr_count"] == pytest.approx([0.4] * 3) and drawn["dtd"] == pytest.approx([0.2] * 3)
    assert list(drawn) == ["clevr_count", "dtd", "other photographs (pets)"]
    assert "clevr_count is 0.40 deviations" in left.get_title()
    path = right.lines[0]  # of the task that is furthest
    assert list(path.get_xdata()) == pytest.approx([0.4, 0.6, 0.8]) and list(path.get_ydata()) == [0, 20, 30]
    assert "gains 13 points and changes distances by -0.10 to +0.40" in right.get_title()
    assert "correlation of gain and of coming nearer -1.00" in right.get_title()


def test_norm_changes_averages_models():
    models = [tuned(load_backbone("test_vit", pretrained=False, img_size=32), "norm") for _ in range(2)]
    with torch.no_grad():
        for norm in (norm for model in models for norm in norm_layers([model.backbone], {64})):
            norm.bias.fill_(0.3)  # a fresh network has none
        models[1].vit.blocks[1].norm1.bias.add_(1)
    lines = views.two_stage.norm_changes(models).lines
    mean = np.mean([100 * norm_steps(model).to_numpy() for model in models], axis=0)
    for line, column in zip(lines, mean.T, strict=True):
        assert list(line.get_ydata()) == pytest.approx(list(column))


@pytest.mark.parametrize(
    ("gamma", "beta", "words"), [(1.5, 1.02, "gamma moves most (50 %, beta 2 %)"), (1, 2, "beta")]
)
def test_norm_changes_names_what_moved_more(gamma, beta, words):
    model = attach(load_backbone("test_vit", pretrained=False, img_size=32), "norm", 3)
    with torch.no_grad():
        for norm in norm_layers([model.backbone], {64}):
            norm.bias.fill_(0.3)
        for norm in norm_layers([model.vit], {64}):
            norm.bias.fill_(0.3 * beta)
            norm.weight.mul_(gamma)
    own, read = views.two_stage.norm_changes([model]).get_title().split("\n")
    assert own.startswith(f"Of its own size {words}")
    assert f"what the next layer reads, {'beta' if gamma == 1 else 'gamma'} does" in read


def test_dots_on_the_line_have_changed_the_loss_by_score_times_step():
    scores = torch.tensor([0.0, 0.1, 0.4])
    _, line = views.importance.against_removal(scores, 0.05 * scores, step=0.05).lines
    assert list(line.get_xdata()) == pytest.approx([0.1, 0.4]) and list(line.get_ydata()) == pytest.approx(
        [0.005, 0.02]
    )


def test_against_removal_names_the_rank_correlation():
    scores = torch.rand(64)
    assert "rank correlation 1.000" in views.importance.against_removal(scores, scores**2).get_title()


def removal_table():
    rows = [{"k": 0, "choice": "none", "accuracy": 0.6}]
    for k in (1, 4):
        rows += [{"k": k, "choice": "top", "accuracy": 0.3 / k}, {"k": k, "choice": "bottom", "accuracy": 0.6}]
        rows += [{"k": k, "choice": "random", "accuracy": value} for value in (0.5, 0.6, 0.61)]
    return pd.DataFrame(rows).assign(images=100, task="clevr_count", block=7)


def test_removal_draws_choices_and_the_range_of_random_ones():
    ax = views.importance.removal(removal_table())
    labels = ax.get_legend_handles_labels()[1]
    assert set(labels) >= {"nothing removed", "top", "bottom"}
    drawn = {line.get_label(): list(line.get_ydata()) for line in ax.lines}
    assert drawn["random (range of draws)"] == pytest.approx([57, 57]) and drawn["nothing removed"] == pytest.approx(
        [60, 60]
    )
    top = ax.containers[0].lines[0]
    assert list(top.get_ydata()) == pytest.approx([30, 7.5])
    assert ax.get_title() == "The top 4 channels of block 7 take clevr_count\nfrom 60 to 8 %, 4 random ones to 57 %"


def test_removal_by_depth_holds_zero_against_the_mean():
    rows = [
        {"block": block, "k": 1, "choice": choice, "accuracy": value}
        for block in (1, 2)
        for choice, value in {"top": 0.6 - 0.2 * block, "top, at its mean": 0.55}.items()
    ]
    rows.append({"block": 1, "k": 0, "choice": "none", "accuracy": 0.6})
    ax = views.importance.removal_by_depth(pd.DataFrame(rows).assign(images=100, task="clevr_count"))
    zero, mean = (container.lines[0].get_ydata() for container in ax.containers)
    assert list(zero) == pytest.approx([40, 20]) and list(mean) == pytest.approx([55, 55])
    assert ax.get_title() == "The top channel of block 2 at zero: 20 %,\nat its mean over images: 55 %"


def halves(seed=0):
    """Scores [2, 5, 96] of two halves that agree; another seed is another task."""
    draw = torch.rand(5, 96, generator=torch.Generator().manual_seed(seed)) ** 4 + 0.01
    return torch.stack([draw, draw * 1.01])


def test_importance_sorts_channels_by_their_mean_and_takes_the_mean_over_tasks_away():
    scores = {"a": halves(0), "b": halves(1)}
    figure = views.importance.scores_by_task(scores, ["a", "b"], k=6, first=20)
    above, below = figure.axes[:2], figure.axes[2:4]
    means = sum(np.asarray(ax.images[0].get_array()) for ax in above).mean(0)
    assert means.shape == (20,) and (np.diff(means) <= 1e-6).all()
    assert sum(np.asarray(ax.images[0].get_array()) for ax in below) == pytest.approx(np.zeros((5, 20)), abs=1e-6)
    assert below[0].get_title() == "with the other half: r = 1.00" and "r = -1.00" in below[1].get_title()
    assert figure.get_suptitle().startswith("6 of 96 channels carry")
    assert below[0].images[0].norm.vmin == -below[0].images[0].norm.vmax == below[1].images[0].norm.vmin


def test_agreement_by_depth_keeps_three_kinds_of_pairs_apart():
    scores = {"a": halves(0), "b": halves(0), "c": halves(1)}
    figure = views.importance.agreement_by_depth(scores, k=12, alike=("a", "b"))
    left, right = figure.axes
    assert [line.get_label() for line in left.lines] == [
        "two halves of one task",
        "two other tasks",
        "a, b: images alike, other labels",
        "chance",
    ]
    assert "1.00 where the images are alike" in figure.get_suptitle()
    assert "1.00 between halves of one task" in figure.get_suptitle()
    share = 12 / 96
    assert right.lines[-1].get_ydata()[0] == pytest.approx(share / (2 - share))


def test_overlap_says_what_chance_gives():
    drawn = views.importance.overlap({"a": torch.tensor([0, 1]), "b": torch.tensor([1, 2])}, 4)
    assert drawn.get_title() == "chance: 0.33"  # 2 of 4: 1 in common, 3 in all
