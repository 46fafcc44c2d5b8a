"""What the guided walk says at each step, with the shapes of the model it goes through."""

from ...backbones.preprocess import input_size
from ...methods.core.model import PeftModel
from .forward import Inside

OF_A_HEAD = 8  # numbers of q, k and v shown for each head; all of them would take 3 MB


def steps(model: PeftModel, inside: Inside) -> list[dict[str, str]]:
    """Name, name in a list, heading, text and shape of each step, for the shapes of a model."""
    vit, (height, width) = model.vit, input_size(model.vit)
    (rows, columns), patch = vit.patch_embed.grid_size, vit.patch_embed.patch_size
    depth, tokens, _, heads, channels = inside.qkv.shape
    numbers, wide = 3 * patch[0] * patch[1], vit.embed_dim
    registers = f" and {vit.num_prefix_tokens - 1} registers" if vit.num_prefix_tokens > 1 else ""
    texts = [
        (
            "photograph",
            "photograph",
            "Photograph",
            "Each pixel is three numbers from 0 to 255: how much red, green and blue. Point at a patch of the "
            "photograph; it stays chosen through all steps.",
            f"{height} x {width} pixels x 3 numbers",
        ),
        (
            "patches",
            "patches",
            "Patches",
            f"The photograph is cut into {rows} x {columns} patches of {patch[0]} x {patch[1]} pixels. Each number is "
            "shifted and scaled, so that a usual colour is near 0.",
            f"{rows * columns} patches x {numbers} numbers ({patch[0]} x {patch[1]} x 3)",
        ),
        (
            "tokens",
            "tokens",
            "Tokens with their places",
            f"One learned matrix turns the {numbers} numbers of a patch into {wide}; learned numbers for its place "
            f"are added, and the sum is its token. CLS{registers} belong to no patch: learned as they are, they come "
            "first.",
            f"{tokens} tokens x {wide} numbers",
        ),
        (
            "qkv",
            "q, k, v",
            "In a block: query, key, value",
            "A LayerNorm and one matrix make three vectors of each token: a query (what it looks for), a key (what it "
            f"can be found by) and a value (what it hands on). Shown are the first {OF_A_HEAD} numbers of each head.",
            f"{tokens} tokens x 3 vectors x {heads} heads x {channels} numbers",
        ),
        (
            "attention",
            "attention",
            "In a block: attention",
            "The query of the chosen token is compared with the keys of all; softmax makes weights that sum to 100 %. "
            f"So much of each token's value it takes (mean of {heads} heads).",
            f"{heads} heads x {tokens} queries x {tokens} keys",
        ),
        (
            "residual",
            "residual",
            "In a block: residual stream",
            "A block never replaces a token: attention adds a vector to it, then the MLP adds another. Bars are "
            "lengths; they do not add up, for the vectors point in different directions.",
            f"{tokens} tokens x {wide} numbers, as before the block",
        ),
        (
            "cls",
            "CLS",
            "CLS after the last block",
            f"After {depth} blocks and a last LayerNorm the head reads the CLS token alone. All it knows of the "
            "photograph came through attention.",
            f"1 token x {wide} numbers",
        ),
        (
            "answer",
            "answer",
            "Answer",
            "The head, one trained matrix, makes a number for each class; softmax makes shares of them that sum to "
            "100 %. Another answer than one of its classes it cannot give, whatever the photograph shows.",
            f"{model.num_classes} classes",
        ),
        (
            "method",
            "a method",
            "Put a method here",
            "Which part of the walk does a method train? Grey parts of the block stay frozen, orange ones are tuned "
            "in place, blue ones are new.",
            "",
        ),
    ]
    keys = ("name", "short", "heading", "says", "shape")
    return [dict(zip(keys, row, strict=True)) for row in texts]
