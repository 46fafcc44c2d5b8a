"""Builds of notebook 09_build, right ones and the wrong ones that are known, and the experiments that compare them."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ...methods.core.importance import channel_scores
from ...methods.gift import PaCa
from ...methods.gist import kl
from .base import Test
from .explain import described, raised

Found = dict[str, Any]  # tensors, if all is right


def random(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers in double precision, the same each time."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unlike(yours: Any, expected: Tensor) -> str:
    """How a tensor differs from the one expected: in kind, shape, or by more than 1e-5; "" where it does not."""
    if not isinstance(yours, Tensor):
        return f"yours is {described(yours)}, expected a tensor of shape {list(expected.shape)}"
    yours, expected = yours.detach().double(), expected.detach().double()
    if yours.shape != expected.shape:
        return f"wrong shape: yours {list(yours.shape)}, expected {list(expected.shape)}"
    error = (yours - expected).abs().nan_to_num(math.inf, math.inf, math.inf)
    if (error <= 1e-5 * (1 + expected.abs())).all():
        return ""
    worst = tuple(int(i) for i in torch.unravel_index(error.argmax(), error.shape)) if error.ndim else ()
    where = f" at {list(worst)}" if worst else ""
    size = f" (shape {list(expected.shape)}, largest error {error.max():.2g})" if expected.ndim else ""
    return f"yours {yours[worst]:.6g}{where}, expected {expected[worst]:.6g}{size}"


def built(experiment: Callable[[Any], Found], right: Any) -> Test:
    """The answer gives the same named tensors in an experiment as a right build; the first that differs is named."""

    def explain(answer: Any) -> str:
        if not callable(answer):
            return f"yours is {described(answer)}, expected a {'class' if isinstance(right, type) else 'function'}"
        try:
            found = experiment(answer)
        except NotImplementedError:
            return "not built yet: write what stands for `raise NotImplementedError`"
        except Exception as error:
            return raised(error, answer, "when tried on small tensors")
        wrong = {name: unlike(found[name], tensor) for name, tensor in experiment(right).items()}
        return next((f"{name}: {what}" for name, what in wrong.items() if what), "")

    return Test(explain)


# --- LoRA ---


class LoRALinear(nn.Module):
    """y = base(x) + scale B A x, the base frozen; starts at the base."""

    def __init__(self, base: nn.Linear, rank: int, scale: float) -> None:
        super().__init__()
        self.base, self.scale = base.requires_grad_(False), scale
        self.A = nn.Parameter(torch.empty(rank, base.in_features))
        self.B = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.scale * x @ self.A.T @ self.B.T

    def merged(self) -> Tensor:
        return self.base.weight + self.scale * self.B @ self.A


class NoScale(LoRALinear):
    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.A.T @ self.B.T


class NoBias(LoRALinear):
    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.base.weight + self.scale * self.B @ self.A).T


class AllScaled(LoRALinear):
    def forward(self, x: Tensor) -> Tensor:
        return self.scale * (self.base(x) + x @ self.A.T @ self.B.T)


class BothRandom(LoRALinear):
    def __init__(self, base: nn.Linear, rank: int, scale: float) -> None:
        super().__init__(base, rank, scale)
        nn.init.normal_(self.B)


class BothZero(LoRALinear):
    def __init__(self, base: nn.Linear, rank: int, scale: float) -> None:
        super().__init__(base, rank, scale)
        nn.init.zeros_(self.A)


class NotFrozen(LoRALinear):
    def __init__(self, base: nn.Linear, rank: int, scale: float) -> None:
        super().__init__(base, rank, scale)
        self.base.requires_grad_(True)


class MergedWithoutScale(LoRALinear):
    def merged(self) -> Tensor:
        return self.base.weight + self.B @ self.A


class MergedAlone(LoRALinear):
    def merged(self) -> Tensor:
        return self.scale * self.B @ self.A


def try_lora(cls: Any) -> Found:
    """A layer of 6 inputs and 4 outputs: at its start, with given A and B, its gradients, merged."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        base, x = nn.Linear(6, 4), random(3, 6).float()
        layer = cls(base, 2, 0.5)
        found = {
            "output at the start, less the frozen layer's": layer(x) - base(x),
            "whether A starts at 0": (layer.A == 0).all(),
            "whether the frozen weight is trained": torch.tensor(base.weight.requires_grad),
        }
        with torch.no_grad():
            layer.A.copy_(random(2, 6, seed=1))
            layer.B.copy_(random(4, 2, seed=2))
        output = layer(x)
        output.square().sum().backward()
        gradients = {f"gradient of {name}": getattr(layer, name).grad for name in "AB"}
        return found | {"output": output} | gradients | {"merged weight": layer.merged()}


# --- GIST's loss ---


def gist_loss(cls: Tensor, gist: Tensor, labels: Tensor, T: float) -> Tensor:
    """CE(cls) + CE(gist) / 2 + 3/4 (KL(cls || gist) + KL(gist || cls)), both KLs of softmax(logits / T)."""
    both = kl(cls, gist, T) + kl(gist, cls, T)
    return F.cross_entropy(cls, labels) + 0.5 * F.cross_entropy(gist, labels) + 0.75 * both


def other_gist(
    half: float = 0.5,
    forward: float = 0.75,
    back: float = 0.75,
    frozen: bool = False,
    averaged: bool = False,
    T: float | None = None,
) -> Callable[..., Tensor]:
    """A loss with other weights, a detached teacher, a mean over classes, or another temperature."""

    def loss(cls: Tensor, gist: Tensor, labels: Tensor, temperature: float) -> Tensor:
        t = T or temperature
        a, b = (
            (kl(cls, gist.detach(), t), kl(gist, cls.detach(), t)) if frozen else (kl(cls, gist, t), kl(gist, cls, t))
        )
        ce = F.cross_entropy(cls, labels) + half * F.cross_entropy(gist, labels)
        return ce + (forward * a + back * b) / (cls.shape[1] if averaged else 1)

    return loss


def try_gist(loss: Any) -> Found:
    """The loss of five images and four classes, its gradients, and the loss of very large logits."""
    cls, gist = random(5, 4).requires_grad_(), random(5, 4, seed=1).requires_grad_()
    labels = torch.tensor([0, 1, 2, 3, 0])
    value = loss(cls, gist, labels, 3.0)
    value.backward()
    large = loss(1e4 * cls.detach().sign(), 1e4 * gist.detach().sign(), labels, 3.0)
    gradients = {"gradient of the CLS logits": cls.grad, "gradient of the gist logits": gist.grad}
    return {"loss": value} | gradients | {"loss at logits of 10,000": large}


# --- PaCa ---


def paca(
    U: Tensor, cluster: nn.Linear, q: nn.Linear, k: nn.Linear, v: nn.Linear, proj: nn.Linear
) -> tuple[Tensor, ...]:
    """Parameter-to-cluster attention with one head -> C [N, M], Z [M, d], A [N, M], output [N, d]."""
    C = cluster(U).sigmoid()
    Z = F.normalize(C.T @ U, dim=-1)
    A = (q(U) @ k(Z).T / U.shape[1] ** 0.5).softmax(-1)
    return C, Z, A, proj(A @ v(Z))


def other_paca(
    assign: Callable[[Tensor], Tensor] = torch.sigmoid,
    unit: bool = True,
    root: float = 0.5,
    axis: int = -1,
    last: bool = True,
) -> Callable[..., tuple[Tensor, ...]]:
    """PaCa with another assignment, without Z's norm, another scale, softmax over tokens, or without proj."""

    def build(U: Tensor, cluster: Any, q: Any, k: Any, v: Any, proj: Any) -> tuple[Tensor, ...]:
        C = assign(cluster(U))
        Z = F.normalize(C.T @ U, dim=-1) if unit else C.T @ U
        A = (q(U) @ k(Z).T / U.shape[1] ** root).softmax(axis)
        mixed = A @ v(Z)
        return C, Z, A, proj(mixed) if last else mixed

    return build


def try_paca(function: Any) -> Found:
    """Seven tokens of width 6 and three clusters, with the layers of the package's own PaCa."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        own = PaCa(6, 3, 1, "sigmoid").double()
    found = function(random(7, 6), own.cluster, own.q, own.k, own.v, own.proj)
    return dict(zip(("C", "Z", "A", "output"), found, strict=True))


# --- Taylor scores ---


def taylor(vit: Any, x: Tensor, y: Tensor) -> Tensor:
    """Scores [blocks, D] of the residual stream after attention: mean over images of |sum over tokens of h dL/dh|."""
    return channel_scores(vit, [(x, y)])


def other_taylor(
    score: Callable[[Tensor, Tensor], Tensor], share: bool = False, late: bool = False
) -> Callable[..., Tensor]:
    """Another score of h and g [B, N, D] of each block; of the mean loss; of what the block gives."""

    def build(vit: Any, x: Tensor, y: Tensor) -> Tensor:
        seen: list[Tensor] = []
        hooks = [
            block.register_forward_hook(lambda m, a, out: seen.append(out))
            if late
            else block.norm2.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
            for block in vit.blocks
        ]
        loss = F.cross_entropy(vit(x), y, reduction="mean" if share else "sum")
        for hook in hooks:
            hook.remove()
        gradients = torch.autograd.grad(loss, seen)
        return torch.stack([score(h, g) for h, g in zip(seen, gradients, strict=True)])

    return build


def first_order(h: Tensor, g: Tensor) -> Tensor:
    return (h * g).sum(1).abs().mean(0)


def try_taylor(function: Any) -> Found:
    """A random ViT of two blocks and width 24 on four images of three classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vit = VisionTransformer(32, 8, embed_dim=24, depth=2, num_heads=2, num_classes=3).eval()
    return {"scores": function(vit, random(4, 3, 32, 32).float(), torch.tensor([0, 1, 2, 0]))}


# --- the product masked by context ---


def masked(x: Tensor, A: Tensor, B: Tensor, contexts: Tensor) -> Tensor:
    """y [batch, tokens, D] = B_c A_c x with c the context of each token; A [C, r, D], B [C, D, r]."""
    down = torch.einsum("btd,crd->btcr", x, A) * F.one_hot(contexts, len(A))[..., None]
    return torch.einsum("btcr,cdr->btd", down, B)


def other_masked(rule: str) -> Callable[..., Tensor]:
    """The whole product in one einsum, with another rule of what belongs together."""

    def build(x: Tensor, A: Tensor, B: Tensor, contexts: Tensor) -> Tensor:
        s = F.one_hot(contexts, len(A)).to(x.dtype)
        if rule == "all":
            s = torch.ones_like(s)
        if rule == "first":
            s = F.one_hot(torch.zeros_like(contexts), len(A)).to(x.dtype)
        if rule == "other":
            s = s.flip(1)
        if rule == "mean":
            s = s / len(A)
        if rule == "whole":
            return torch.einsum("btd,crd,tc,uer->bte", x, A, s, B)
        y = torch.einsum("btd,crd,tc,cer->bte", x, A, s, B)
        return x + y if rule == "residual" else y

    return build


def try_masked(function: Any) -> Found:
    """Two images of five tokens, width 4, two contexts of rank 3."""
    contexts = torch.tensor([0, 0, 1, 1, 1])
    return {"output": function(random(2, 5, 4), random(2, 3, 4, seed=1), random(2, 4, 3, seed=2), contexts)}
