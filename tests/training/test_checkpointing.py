"""Gradient checkpointing: the same gradients of every method, from fewer kept tensors."""

import pytest
import torch
from support import shallow

from peftlab.analysis.costs import activation_bytes, costs, trained_stages
from peftlab.methods import METHODS, attach, create_method
from peftlab.training.checkpointing import checkpointing
from peftlab.training.fit import fit
from peftlab.training.precision import computing

CLASSES = 3
SMALL = {"epochs": 2, "batch_size": 16, "device": "cpu"}


@pytest.fixture
def backbone():
    return shallow("test_vit", img_size=32)


def batch(backbone, images=4):
    x = torch.randn(images, 3, *backbone.patch_embed.img_size, generator=torch.Generator().manual_seed(0))
    return x, torch.arange(images) % CLASSES


def gradients(model, x, y, wanted, precision="fp32"):
    model.train()
    model.zero_grad()
    torch.manual_seed(0)  # of dropout
    with checkpointing(model.vit, wanted):
        with computing(model, x.device, precision):
            loss = model.loss(model(x), y)["loss"]
        loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("method", sorted(METHODS))
def test_gradients_of_every_method_are_the_same(method, backbone):
    x, y = batch(backbone)
    model = trained_stages(attach(backbone, method, CLASSES), x, y)[-1]
    plain, checkpointed = (gradients(model, x, y, wanted) for wanted in (False, True))
    assert plain.keys() == checkpointed.keys() and plain
    for name, value in plain.items():
        assert torch.equal(checkpointed[name], value), name
    with checkpointing(model.vit):
        fewer = activation_bytes(model, x, y)
    assert fewer <= activation_bytes(model, x, y)  # equal where all blocks are frozen
    assert not any("forward" in vars(block) for block in model.vit.blocks)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_blocks_keep_their_input_alone(precision, backbone):
    """N tokens of D numbers in fp32 for each block, in place of all that is within it."""
    x, y = batch(backbone)
    model = attach(backbone, "full", CLASSES)
    plain, tokens = activation_bytes(model, x, y, precision), 4 * len(x) * (1 + 4) * backbone.embed_dim
    with checkpointing(model.vit):
        assert activation_bytes(model, x, y, precision) < plain / 3
        kept = activation_bytes(model, x, y, precision)
        del model.vit.blocks[1]
        assert kept - activation_bytes(model, x, y, precision) == pytest.approx(tokens, rel=0.1)


def test_bf16_meets_the_attention_of_the_forward_pass(backbone):
    """On a CPU that is explicit while `computing`, and the backward pass comes after."""
    model = attach(backbone, "lora", CLASSES)
    plain, checkpointed = (gradients(model, *batch(backbone), wanted, "bf16") for wanted in (False, True))
    for name, value in plain.items():
        assert torch.equal(checkpointed[name], value), name


def test_a_forward_that_was_there_is_there_again(backbone):
    block = backbone.blocks[0]
    own = block.forward = lambda x: x
    with pytest.raises(RuntimeError), checkpointing(backbone):
        assert block.forward is not own and backbone.blocks[1].forward != type(block).forward
        raise RuntimeError
    assert block.forward is own and "forward" not in vars(backbone.blocks[1])


def test_the_card_says_what_it_saves(backbone):
    method = create_method("norm")
    plain, checkpointed = (
        costs(backbone, method, CLASSES, batch_size=64, precision="fp32", gradient_checkpointing=on)
        for on in (False, True)
    )
    assert checkpointed["activation_mib"] < plain["activation_mib"] / 3 and "gradient_checkpointing" not in plain
    assert checkpointed["peak_mib"] < 0.8 * plain["peak_mib"] and checkpointed["gradient_checkpointing"]
    assert checkpointed["gflops_forward"] == plain["gflops_forward"]
    N, D, H = 5, backbone.embed_dim, backbone.blocks[0].mlp.fc1.out_features
    again = 2 * N * D * (4 * D + H) + 4 * N * N * D  # a block but for fc2, whose output no gradient needs
    more = checkpointed["gflops_training"] - plain["gflops_training"]
    assert more * 1e9 == pytest.approx(len(backbone.blocks) * again)


def test_fit_gives_the_same_run(backbone, tiny_task, tmp_path):
    """With equal weights, under the same name; the record says how it was trained."""
    plain, checkpointed = (attach(backbone, "lora", CLASSES) for _ in range(2))
    first = fit(plain, tiny_task, runs=tmp_path / "a", drop_path=0.3, **SMALL)
    second = fit(checkpointed, tiny_task, runs=tmp_path / "b", drop_path=0.3, gradient_checkpointing=True, **SMALL)
    assert first.folder.name == second.folder.name and plain.digest() == checkpointed.digest()
    assert second.record["gradient_checkpointing"] and "gradient_checkpointing" not in first.record
    again = fit(plain, tiny_task, runs=tmp_path / "a", drop_path=0.3, gradient_checkpointing=True, **SMALL)
    assert again.record == first.record  # taken from the ledger
