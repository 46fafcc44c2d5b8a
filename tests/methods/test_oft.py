"""OFT: rotations that are rotations, and what they leave alone."""

import pytest
import torch
from support import tuned

from peftlab.backbones.load import load_backbone
from peftlab.common.errors import PeftlabError
from peftlab.methods import attach
from peftlab.methods.oft import Rotation


@pytest.fixture
def rotation():
    torch.manual_seed(0)
    module = Rotation(12, 4).double()
    torch.nn.init.normal_(module.upper)
    return module


def test_cayley_transform(rotation):
    """(I + Q) (I - Q)^-1 with the trained numbers above the diagonal, row by row, and their negatives below."""
    for upper, R in zip(rotation.upper, rotation.matrices(), strict=True):
        a, b, c, d, e, f = upper
        zero = torch.zeros_like(a)
        Q = torch.stack([zero, a, b, c, -a, zero, d, e, -b, -d, zero, f, -c, -e, -f, zero]).view(4, 4)
        identity = torch.eye(4).double()
        torch.testing.assert_close(R, (identity + Q) @ torch.linalg.inv(identity - Q))
        torch.testing.assert_close(R @ R.T, identity)
        assert torch.linalg.det(R).item() == pytest.approx(1)


def test_each_piece_of_the_input_is_turned_by_its_own_matrix(rotation):
    x = torch.randn(2, 3, 12).double()
    expected = [x[..., 4 * i : 4 * i + 4] @ R.T for i, R in enumerate(rotation.matrices())]
    torch.testing.assert_close(rotation(x), torch.cat(expected, -1))
    assert torch.autograd.gradcheck(rotation, (x.requires_grad_(),))


def test_rows_keep_their_lengths_and_angles():
    """W+ W+^T = W W^T: all scalar products of rows, though most weights have changed."""
    model = tuned(load_backbone(), "oft", targets=("qkv", "fc2"))
    merged = model.merge()
    for path in ("attn.qkv", "mlp.fc2"):
        before, after = (vit.blocks[1].get_submodule(path).weight for vit in (model.backbone, merged))
        torch.testing.assert_close(after @ after.T, before @ before.T, atol=1e-4, rtol=1e-4)
        assert (after - before).norm() > 0.1 * before.norm()


def test_a_block_size_that_does_not_divide_the_width_is_refused():
    with pytest.raises(PeftlabError, match="block_size is 7, but must divide the input width of attn.qkv, 192"):
        attach(load_backbone(), "oft", 3, block_size=7)
