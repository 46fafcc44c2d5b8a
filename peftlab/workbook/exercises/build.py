"""Exercises of notebook 09_build: methods that the reader builds, held against the package's own."""

from .base import Exercise
from .experiments import (
    AllScaled,
    BothRandom,
    BothZero,
    LoRALinear,
    MergedAlone,
    MergedWithoutScale,
    NoBias,
    NoScale,
    NotFrozen,
    built,
    first_order,
    gist_loss,
    masked,
    other_gist,
    other_masked,
    other_paca,
    other_taylor,
    paca,
    taylor,
    try_gist,
    try_lora,
    try_masked,
    try_paca,
    try_taylor,
)

EXERCISES = {
    "build.1": Exercise(
        built(try_lora, LoRALinear),
        "Output, gradients, start and merged weight are those of peftlab's.",
        (
            (built(try_lora, NoScale), "forward leaves out the scale"),
            (built(try_lora, NoBias), "the frozen layer has a bias, too: call self.base(x)"),
            (built(try_lora, AllScaled), "only the change is scaled, not the frozen layer"),
            (built(try_lora, BothRandom), "B has to start at 0, so that nothing is changed at first"),
            (built(try_lora, BothZero), "if A and B are both 0, neither ever gets a gradient: start A at random"),
            (built(try_lora, NotFrozen), "the base is trained, too: base.requires_grad_(False)"),
            (built(try_lora, MergedWithoutScale), "merged leaves out the scale"),
            (built(try_lora, MergedAlone), "merged is the whole weight: the frozen one plus the change"),
        ),
        "The thin way: x [.., d_in] @ A.T is [.., rank], and that @ B.T is [.., d_out].",
    ),
    "build.2": Exercise(
        built(try_gist, gist_loss),
        "Finite at logits of 10,000, and with gradients in both branches.",
        (
            (
                lambda loss: not try_gist(loss)["loss at logits of 10,000"].isfinite(),
                "at logits of 10,000 it is not finite: log of a softmax is log(0) there; take log_softmax",
            ),
            (built(try_gist, other_gist(half=1)), "the gist's cross-entropy counts half"),
            (built(try_gist, other_gist(back=0)), "KL(gist || CLS) is missing: there are two directions"),
            (built(try_gist, other_gist(forward=0)), "KL(CLS || gist) is missing: there are two directions"),
            (built(try_gist, other_gist(forward=1, back=1)), "each KL is weighted by 3/4"),
            (built(try_gist, other_gist(T=1)), "both logits are divided by T before the softmax of the KLs"),
            (built(try_gist, other_gist(frozen=True)), "nothing is detached: both branches learn from both KLs"),
            (
                built(try_gist, other_gist(averaged=True)),
                "sum over classes, mean over images: F.kl_div takes reduction='batchmean'",
            ),
            (built(try_gist, other_gist(forward=6.75, back=6.75)), "the KLs are not multiplied by T squared here"),
        ),
        "log_softmax, not log of softmax. F.kl_div(log_q, log_p, reduction='batchmean', log_target=True) is KL(p, q).",
    ),
    "build.3": Exercise(
        built(try_paca, paca),
        "C, Z, A and the output are those of peftlab's PaCa.",
        (
            (
                built(try_paca, other_paca(lambda c: c.softmax(-1))),
                "C is a sigmoid: clusters do not compete for a token",
            ),
            (built(try_paca, other_paca(lambda c: c)), "C is between 0 and 1: put it through a sigmoid"),
            (built(try_paca, other_paca(unit=False)), "each cluster of Z is divided by its norm"),
            (built(try_paca, other_paca(root=0)), "divide Q K^T by the root of the width before the softmax"),
            (built(try_paca, other_paca(root=1)), "the scale is the root of the width, not the width"),
            (
                built(try_paca, other_paca(axis=0)),
                "each token spreads 1 over the clusters: softmax over the last axis",
            ),
            (built(try_paca, other_paca(last=False)), "the output goes through proj"),
        ),
        "C is [N, M], C.T @ U is [M, d], q(U) @ k(Z).T is [N, M]. Queries are of tokens, keys and values of clusters.",
    ),
    "build.4": Exercise(
        built(try_taylor, taylor),
        "One backward pass for all channels of all blocks.",
        (
            (built(try_taylor, other_taylor(first_order, share=True)), "take the sum of the losses, not their mean"),
            (
                built(try_taylor, other_taylor(lambda h, g: (h * g).abs().sum(1).mean(0))),
                "a channel is removed from all tokens at once: sum over tokens first, then take the absolute value",
            ),
            (built(try_taylor, other_taylor(lambda h, g: (h * g).sum(1).mean(0))), "the absolute value is missing"),
            (
                built(try_taylor, other_taylor(lambda h, g: (h * g).sum((0, 1)).abs() / len(h))),
                "take the absolute value for each image, then the mean: images must not cancel",
            ),
            (
                built(try_taylor, other_taylor(lambda h, g: g.sum(1).abs().mean(0))),
                "the gradient alone says how the loss moves for a step of 1; multiply by the activation",
            ),
            (
                built(try_taylor, other_taylor(first_order, late=True)),
                "the stream is read after attention, where norm2 reads it, not after the block",
            ),
        ),
        "A pre-hook of block.norm2 sees the stream as args[0]. torch.autograd.grad(loss, streams) gives all g.",
    ),
    "build.5": Exercise(
        built(try_masked, masked),
        "No loop over tokens or contexts, and no context's change formed in full.",
        (
            (built(try_masked, other_masked("all")), "every token goes through all contexts: mask by its own"),
            (built(try_masked, other_masked("first")), "all tokens go through context 0: use `contexts`"),
            (built(try_masked, other_masked("other")), "the contexts are swapped"),
            (built(try_masked, other_masked("mean")), "a token has one context: nothing is averaged over them"),
            (built(try_masked, other_masked("whole")), "the mask has to reach B, too: A's context and B's are one"),
            (built(try_masked, other_masked("residual")), "only the change is asked for, not x plus the change"),
        ),
        "All A x first: [batch, tokens, C, r]; times one_hot(contexts)[..., None]; then all B, summed over C and r.",
    ),
}
