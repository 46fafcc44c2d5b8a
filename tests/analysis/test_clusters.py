"""Clusters as segmentations: what is read where, the recipe, the controls, the measure and its masks."""

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from sklearn.metrics import jaccard_score
from support import attention_core, by_hand, generator_of, tuned
from timm.models.vision_transformer import VisionTransformer

from peftlab.analysis import clusters as sg
from peftlab.analysis import segmentation
from peftlab.backbones.load import load_backbone
from peftlab.backbones.preprocess import prepare_for
from peftlab.common.errors import PeftlabError
from peftlab.methods import attach
from peftlab.tasks.synthetic.registry import SIZES, SYNTHETIC, draw, object_masks
from peftlab.training.precision import computing, pick_precision

CLASSES = 3


@pytest.fixture(params=["test_vit", "test_vit2"])
def backbone(request):
    torch.manual_seed(0)
    return load_backbone(request.param, pretrained=False, img_size=64)


@pytest.fixture
def pixels():
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, 64, 64, 3), generator=generator, dtype=torch.uint8)


# --- what is read where ---


@torch.no_grad()
@pytest.mark.parametrize("layer", [0, -1])
def test_features_are_the_projections_output_before_the_residual_add(backbone, pixels, layer):
    """With bias, patches only (test_vit2 has registers), by the generated weight; W+ written out."""
    model, seen = tuned(backbone, "gift", rank=6), {}
    deltas = generator_of(model).deltas()

    def attention(i, u):
        attn = backbone.blocks[i].attn
        weight = attn.proj.weight + deltas[i]
        seen[i] = attention_core(backbone.blocks[i], attn.qkv(u)) @ weight.T + attn.proj.bias
        return seen[i]

    by_hand(model, prepare_for(backbone, pixels), attention)
    expected = seen[layer % len(backbone.blocks)][:, backbone.num_prefix_tokens :].reshape(2, 4, 4, -1)
    found = sg.layer_output(model, pixels, layer)
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=2e-3)
    C = generator_of(model).clusters(generator_of(model).weights())[layer]
    maps = sg.cluster_maps(model, pixels, layer, centred=False)
    assert maps.shape == (2, 96, 4, 4)
    torch.testing.assert_close(maps[1, 7], found[1] @ C[:, 7])


def test_maps_are_of_centred_features_unless_asked_otherwise(backbone, pixels):
    model = tuned(backbone, "gift")
    f, C = sg.layer_output(model, pixels), sg.assignment(model)
    centred = (f - f.mean(-1, keepdim=True)) @ C
    torch.testing.assert_close(sg.cluster_maps(model, pixels), centred.permute(0, 3, 1, 2), atol=1e-4, rtol=1e-4)


def test_what_all_channels_share_raises_all_maps_alike():
    """The reason for centred=True: with C > 0 a common offset of the channels drowns what tells clusters apart."""
    C, f, offset = torch.rand(64, 5) + 0.5, torch.randn(1, 4, 4, 64), 1e4 * torch.rand(1, 4, 4, 1)
    drowned = sg.maps_of(f + offset, C)[0].flatten(1)
    assert torch.corrcoef(drowned).min() > 0.9999 > 0.99 > torch.corrcoef(sg.maps_of(f, C)[0].flatten(1)).min()


def test_shapes_for_vit_base_and_for_the_linear_form():
    """14 x 14 x M, as in the paper."""
    vit = VisionTransformer(224, 16, embed_dim=24, depth=2, num_heads=2, num_classes=0).requires_grad_(False)
    vit.pretrained_cfg = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    pixels = torch.zeros(1, 224, 224, 3, dtype=torch.uint8)
    assert sg.cluster_maps(attach(vit, "gift", CLASSES), pixels).shape == (1, 96, 14, 14)
    linear = attach(vit, "gift_linear", CLASSES, rank=7)
    assert sg.cluster_maps(linear, pixels, layer=0).shape == (1, 7, 14, 14)
    g = generator_of(linear)
    torch.testing.assert_close(sg.assignment(linear, 1), vit.blocks[1].attn.proj.weight @ g.reduce.weight.T)


@pytest.mark.parametrize("target", ["o", "fc1"])
def test_more_prefix_tokens_do_not_shift_the_patches(backbone, pixels, target):
    """With GIST around GIFT the patches stand one token later."""
    model, seen = tuned(backbone, "gist", base_method="gift", targets=(target,)), []
    layer = {"o": model.vit.blocks[-1].attn.proj, "fc1": model.vit.blocks[-1].mlp.fc1}[target]
    hook = layer.register_forward_hook(lambda module, args, output: seen.append(output))
    f = sg.layer_output(model, pixels, target=target)
    hook.remove()
    assert torch.equal(f.flatten(1, 2), seen[0][:, backbone.num_prefix_tokens + 1 :])
    assert sg.cluster_maps(model, pixels, target=target).shape == (2, 96, 4, 4)


def test_models_without_a_generator_and_unknown_layers_are_named(backbone, pixels):
    with pytest.raises(
        PeftlabError, match="LoRA generates no change of attn.proj in block -1; take a model of 'gift'"
    ):
        sg.cluster_maps(attach(backbone, "lora", CLASSES), pixels)
    partial = attach(backbone, "gift", CLASSES, last_blocks=2)
    assert sg.assignment(partial, -2).shape == (64, 96)
    with pytest.raises(PeftlabError, match="in block 0"):
        sg.assignment(partial, 0)
    with pytest.raises(PeftlabError, match="unknown target 'fc3'; did you mean 'fc"):
        sg.layer_output(backbone, pixels, target="fc3")
    for other in ("lora", "gift_linear"):
        with pytest.raises(PeftlabError, match="has no hyper-transformer; take a model of 'gift' that changes 'o'"):
            sg.generator_steps(attach(backbone, other, CLASSES))


def test_no_hook_survives_a_failure(backbone):
    with pytest.raises((RuntimeError, AssertionError)):
        sg.layer_output(backbone, torch.zeros(1, 9, 9, 3, dtype=torch.uint8))
    assert not backbone.blocks[-1].attn.proj._forward_hooks


# --- the recipe ---


def test_recipe_upsamples_then_stretches_then_cuts():
    maps = torch.tensor([[[[0.0, 1.0], [2.0, 4.0]], [[5.0, 5.0], [5.0, 5.0]]]])
    large = F.interpolate(maps[:, :1], size=(8, 8), mode="bilinear", align_corners=False)
    expected = (large - large.min()) / (large.max() - large.min())
    expected[expected < 0.5] = 0
    found = sg.highlight(maps, (8, 8))
    torch.testing.assert_close(found[:, :1], expected)
    assert found[0, 0].max() == 1 and found[0, 0][found[0, 0] > 0].min() >= 0.5
    assert not found[0, 1].any()  # a constant map shows nothing, and no nan
    corner = torch.zeros(1, 1, 4, 4)
    corner[..., 1, 1] = 1  # bilinear upsampling flattens a single patch, stretching afterwards restores its height
    assert sg.highlight(corner, (8, 8)).max() == 1


def test_the_correlation_of_maps_leaves_out_each_with_itself():
    maps = torch.randn(3, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    pairs = [np.corrcoef(each.flatten(1))[np.triu_indices(5, 1)].mean() for each in maps]
    assert sg.correlation(maps) == pytest.approx(np.mean(pairs), abs=1e-4)


# --- the change taken apart ---


@torch.no_grad()
def test_answers_depend_on_the_change_that_is_put_in(backbone):
    """The generator's own change keeps all answers; without it they are those of the frozen backbone."""
    model, images = tuned(backbone, "gift"), torch.randn(8, 3, 64, 64)
    model.vit.head.weight.normal_()
    deltas = generator_of(model).deltas()
    kept = sg.answers_kept(model, images, {"own": deltas, "none": 0 * deltas, "wild": 1e6 * torch.randn_like(deltas)})
    plain, merged = model.merge(), model.merge()
    for block, delta in zip(plain.blocks, deltas, strict=True):
        block.attn.proj.weight -= delta
    with computing(plain, images.device, pick_precision("auto", images.device)):
        before = plain(images).argmax(-1)
    with computing(merged, images.device, pick_precision("auto", images.device)):
        frozen = (before == merged(images).argmax(-1)).float().mean().item()
    assert kept["own"] == 1 and kept["none"] == frozen and kept["wild"] < 1


# --- controls ---


def test_controls_are_as_many_maps_of_the_same_features():
    f = torch.randn(3, 4, 4, 20, generator=torch.Generator().manual_seed(0))
    pca = sg.pca_maps(f, 6)
    assert pca.shape == (3, 6, 4, 4)
    torch.testing.assert_close(pca[:, :3], -pca[:, 3:])
    scores = torch.from_numpy(PCA(3, random_state=0).fit_transform(f.flatten(0, 2).numpy())).unflatten(0, (3, 4, 4))
    difference = pca[:, :3].movedim(1, -1) - scores  # the same up to the mean, which stretching takes away
    assert difference.flatten(0, 2).std(0).max() < 1e-5
    assert sg.pca_maps(f, 96).shape[1] == 40  # not more components than channels
    groups = sg.kmeans_maps(f, 5)
    assert groups.shape == (3, 5, 4, 4) and torch.equal(groups.sum(1), torch.ones(3, 4, 4))
    assert torch.equal(sg.random_maps(f, 7), sg.random_maps(f, 7)) and sg.random_maps(f, 7).shape == (3, 7, 4, 4)
    assert not torch.equal(sg.random_maps(f, 7), sg.random_maps(f, 7, seed=1))
    assert not torch.equal(groups, sg.kmeans_maps(f, 5, seed=1))


# --- the measure ---


def test_iou_agrees_with_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    regions, objects = (torch.rand(n, 8, 8, generator=generator) > 0.6 for n in (5, 3))
    regions[0] = False
    found = segmentation.iou(regions, objects)
    for i, one in enumerate(objects):
        for j, region in enumerate(regions):
            assert found[i, j] == pytest.approx(jaccard_score(one.flatten(), region.flatten()), abs=1e-6)
    assert segmentation.iou(torch.zeros(1, 2, 2).bool(), torch.zeros(1, 2, 2).bool()) == 0  # and no nan


def test_iou_table_rewards_the_right_map_and_tells_luck_from_a_detector():
    objects = [torch.zeros(1, 16, 16, dtype=torch.bool) for _ in range(8)]
    right, lucky = torch.zeros(8, 3, 4, 4), torch.zeros(8, 8, 4, 4)
    for i, mask in enumerate(objects):
        row, column = divmod(i, 3)
        mask[0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = True
        right[i, 1, row, column] = 1  # one map that always finds the object
        lucky[i, i, row, column] = 1  # for each object another one
    table = segmentation.iou_table({"right": right, "lucky": lucky}, objects)
    best = table.loc["the objects themselves", "best"]
    assert table.loc[["right", "lucky"], "best"].tolist() == pytest.approx([best, best])
    assert table.loc["right", "one_for_all"] == pytest.approx(best, abs=0.1)
    assert table.loc["lucky", "one_for_all"] == 0
    assert table["maps"].tolist()[:2] == [3, 8] and (table["low"] <= table["best"]).all()


def test_iou_table_averages_over_the_objects_of_an_image_then_over_images():
    mask = torch.zeros(2, 16, 16, dtype=torch.bool)
    mask[0, :4, :4] = mask[1, 12:, 12:] = True
    maps = torch.zeros(4, 1, 4, 4)
    maps[..., 0, 0] = 1  # finds one object of two; in the third and the fourth image the only one
    table = segmentation.iou_table({"half": maps}, [mask, mask, mask[:1], mask[:1]])
    assert table.loc["half", "best"] == pytest.approx(0.75 * table.loc["the objects themselves", "best"], rel=1e-4)


def test_one_map_for_all_is_chosen_on_every_second_image_and_measured_on_the_others():
    mask = torch.zeros(1, 16, 16, dtype=torch.bool)
    mask[0, :4, :4] = True
    maps = torch.zeros(4, 2, 4, 4)
    maps[::2, 0, 0, 0] = maps[1::2, 0, 3, 3] = 1  # right where it is chosen, wrong where it is measured
    maps[1::2, 1, 0, 0] = maps[::2, 1, 3, 3] = 1
    assert segmentation.best_map(maps, [mask] * 4) == (0, 0.0)
    assert segmentation.best_map(maps.flip(1), [mask] * 4) == (1, 0.0)
    found = segmentation.image_ious(maps, [mask] * 4)
    assert (found[:, 0] > 0).tolist() == [True, False, True, False] and found.shape == (4, 2)


def test_the_effect_of_training_pairs_a_model_with_the_seed_that_it_started_from():
    rows = [
        {"source": "gift", "recipe": "centred", "block": 4, "state": state, "seed": seed, "best": iou}
        for state, values in (("trained", (0.5, 0.7, 0.9)), ("untrained", (0.4, 0.6, 0.8, 0.0)))
        for seed, iou in enumerate(values)
    ]
    rows += [rows[0] | {"recipe": "published", "best": 0.0}, rows[0] | {"source": "PCA", "best": 0.0}]
    (found,) = segmentation.training_effect(pd.DataFrame(rows)).to_dict("records")
    assert (found["source"], found["block"], found["seeds"]) == ("gift", 4, 3)
    assert [found[name] for name in ("mean", "low", "high")] == pytest.approx([0.1, 0.1, 0.1])


def test_objects_on_the_grid_are_their_share_of_each_patch():
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, :2, :3] = True
    assert segmentation.drawn_coarsely(mask, (2, 2)).tolist() == [[[6 / 16, 0], [0, 0]]]


# --- the masks ---


@pytest.mark.parametrize("name", sorted(name for name in SYNTHETIC if SYNTHETIC[name].masks))
def test_masks_show_the_objects_of_the_image(name):
    """Brightness changes along the border of the image's own masks more than along those of the other images."""
    first, every = SIZES["train800"] + SIZES["val200"], object_masks(name, "test", range(4))
    borders = [np.diff(masks.any(0).astype(int)) != 0 for masks in every]
    for row, masks in enumerate(every):
        image, label, factors = draw(name, first + row)
        objects = len(factors["objects"]) if "objects" in factors else 1
        assert masks.dtype == bool and masks.shape == (objects, 64, 64)
        assert masks.any((1, 2)).all() and masks.sum(0).max() == 1
        slope = np.abs(np.diff(image.reshape(64, 64, -1).astype(float).mean(-1)))
        assert np.argmax([slope[border].mean() for border in borders]) == row
        if name.startswith("dsprites"):
            assert np.array_equal(masks[0], image > 0)


def test_masks_stand_in_the_order_of_the_factors():
    (masks,) = object_masks("clevr_count", "val200", [5])
    image, _, factors = draw("clevr_count", SIZES["train800"] + 5)
    for mask, what in zip(masks, factors["objects"], strict=True):
        colour = image[mask].mean(0)
        if what["colour"] in ("red", "green", "blue") and what["material"] == "rubber":
            assert colour.argmax() == ("red", "green", "blue").index(what["colour"])


def test_rows_of_every_split_are_counted_from_its_own_start():
    each = {split: object_masks("dsprites_ori", split, [3])[0] for split in ("train800", "val200", "test")}
    for split, first in (("train800", 0), ("val200", 800), ("test", 1000)):
        assert np.array_equal(each[split][0], draw("dsprites_ori", first + 3)[0] > 0)
    assert np.array_equal(object_masks("dsprites_ori", "train800val200", [803])[0], each["val200"])


@pytest.mark.parametrize("name", ["digits", "textures", "eurosat"])
def test_tasks_without_objects_are_named(name):
    with pytest.raises(PeftlabError, match=f"no object masks for '{name}'; the renderer has them for clevr_count"):
        object_masks(name, "test", [0])
