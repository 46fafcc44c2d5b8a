"""The two tokens of GIST, read where they stand."""

import pytest
import torch
import torch.nn.functional as F
from support import small_vit, tuned

from peftlab.analysis.attention import attention_maps
from peftlab.analysis.gist import token_cosine, token_exchange, token_pair
from peftlab.backbones.load import load_backbone
from peftlab.backbones.preprocess import prepare_for
from peftlab.common.errors import PeftlabError


@pytest.fixture
def model():
    return tuned(load_backbone("test_vit", pretrained=False, img_size=32), "gist", base_method="lora")


@pytest.fixture
def pixels():
    return torch.randint(0, 256, (5, 32, 32, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@torch.no_grad()
def test_both_tokens_after_every_block(model, pixels):
    cls, gist = token_pair(model, pixels)
    assert cls.shape == gist.shape == (6, 5, 64)
    features = model.vit.forward_features(prepare_for(model.vit, pixels))
    torch.testing.assert_close(model.vit.norm(cls[-1]), features[:, 0])
    torch.testing.assert_close(gist[-1], model.vit.blocks[0].gist.output)
    assert not any(block._forward_hooks for block in list(model.vit.blocks)[:-1])
    table, expected = token_cosine(model, pixels), F.cosine_similarity(cls[2], gist[2], dim=-1)
    assert table.loc[3, "cosine"] == pytest.approx(expected.mean().item(), rel=1e-5)
    assert table.loc[3, "std"] == pytest.approx(expected.std().item(), rel=1e-3)


def test_exchange_is_read_off_the_attention(model, pixels):
    table = token_exchange(model, pixels)
    weights = attention_maps(model.vit, prepare_for(model.vit, pixels), 4)
    assert table.loc[5, "CLS to gist"] == pytest.approx(weights[:, :, 0, 1].mean().item(), rel=1e-4)
    assert table.loc[5, "gist to CLS"] == pytest.approx(weights[:, :, 1, 0].mean().item(), rel=1e-4)
    assert table["uniform"].eq(1 / (1 + 1 + 4)).all()


@pytest.mark.parametrize("read", [token_pair, token_cosine, token_exchange])
def test_without_a_cls_token_the_gist_is_not_compared_with_itself(read, pixels):
    model = tuned(small_vit(class_token=False, global_pool="avg"), "gist", base_method="lora")
    with pytest.raises(PeftlabError, match="this backbone has no CLS token"):
        read(model, pixels)


def test_models_without_a_gist_are_named(pixels):
    model = tuned(load_backbone("test_vit", pretrained=False, img_size=32), "lora")
    for read in (token_pair, token_exchange):
        with pytest.raises(PeftlabError, match="no query 'gist'"):
            read(model, pixels)
