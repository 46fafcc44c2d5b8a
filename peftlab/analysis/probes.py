"""What frozen features already know: nearest neighbours, a linear probe, clusters of tokens; scikit-learn's."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from ..backbones.preprocess import prepare_for
from ..backbones.protocols import Protocol
from ..backbones.swin import final_grid
from ..backbones.types import Images, Pixels, ViT
from ..methods.core.model import PeftModel
from ..tasks.task import Task
from ..training.evaluate import features
from .segmentation import drawn_coarsely


def knn_accuracy(
    train_x: Float[np.ndarray, "train features"],
    train_y: Int64[np.ndarray, " train"],
    test_x: Float[np.ndarray, "test features"],
    test_y: Int64[np.ndarray, " test"],
    k: int = 5,
) -> float:
    """Top-1 of the vote of the k nearest training images by cosine distance; nothing is trained.

    >>> x, y = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 1])
    >>> knn_accuracy(x, y, np.array([[9.0, 1.0], [1.0, 2.0]]), y, k=1)
    1.0
    """
    return KNeighborsClassifier(k, metric="cosine").fit(train_x, train_y).score(test_x, test_y)


def linear_probe_accuracy(
    train_x: Float[np.ndarray, "train features"],
    train_y: Int64[np.ndarray, " train"],
    test_x: Float[np.ndarray, "test features"],
    test_y: Int64[np.ndarray, " test"],
) -> float:
    """Top-1 of logistic regression on standardised features, with a strong L2 penalty."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
    return model.fit(train_x, train_y).score(test_x, test_y)


def cls_and_patches(
    vit: ViT, task: Task, split: str, limit: int | None = None, protocol: str | Protocol = "peftlab"
) -> Float[np.ndarray, "images two_channels"]:
    """Final CLS token and mean patch token, concatenated. Needs a CLS token. limit: only the first so many images."""
    tokens = features(vit, task, split, protocol, stop=-2, limit=limit)
    tokens = vit.norm(tokens.to(next(vit.parameters()).device)).detach().cpu()
    return np.concatenate([tokens[:, 0], tokens[:, vit.num_prefix_tokens :].mean(1)], axis=1)


@torch.inference_mode()
def patch_tokens(vit: ViT, pixels: Pixels) -> Float[Tensor, "batch rows columns channels"]:
    """Final patch tokens as a grid, prefix tokens left out; of a Swin in the grid of its last stage."""
    tokens = vit.forward_features(prepare_for(vit, pixels))[:, vit.num_prefix_tokens :]
    return tokens.unflatten(1, final_grid(vit)).cpu()


def explained_by_class(x: Float[np.ndarray, "images channels"], labels: Int64[np.ndarray, " images"]) -> float:
    """Share of the variance of x that lies between the means of the classes, in [0, 1].

    >>> explained_by_class(np.array([[0.0], [2.0], [5.0], [7.0]]), np.array([0, 0, 1, 1]))
    0.8620689655172413
    """
    means = np.stack([x[labels == c].mean(0) for c in labels])
    return float(np.sum((means - x.mean(0)) ** 2) / np.sum((x - x.mean(0)) ** 2))


def object_overlap(
    tokens: Float[Tensor, "images rows columns channels"], masks: Sequence[Bool[np.ndarray, "_ height width"]]
) -> Float[np.ndarray, " images"]:
    """IoU with the objects of each image: of three k-means clusters of all tokens, the one that fits them best.

    One clustering for all images; the cluster is chosen with the answer, alike for every backbone. masks: where each
    image shows its objects; a cell belongs to them where they cover half of it.
    """
    seen = torch.stack([torch.from_numpy(mask).any(0) for mask in masks])
    objects = drawn_coarsely(seen, tokens.shape[1:3]).numpy() >= 0.5
    cluster = KMeans(3, n_init=4, random_state=0).fit_predict(tokens.flatten(0, 2).numpy()).reshape(objects.shape)
    each = [(cluster == c) for c in range(3)]
    ious = [(one & objects).sum((1, 2)) / np.maximum((one | objects).sum((1, 2)), 1) for one in each]
    return max(ious, key=np.mean)


@torch.no_grad()
def distance_at_start(model: PeftModel, x: Images) -> float:
    """How far a method's features are from the frozen backbone's, before any training.

    ||f - f0|| / ||f0|| over the pooled features; exactly 0 for methods that start at the backbone.
    """
    plain, tuned = (vit.forward_head(vit.forward_features(x), pre_logits=True) for vit in (model.backbone, model.vit))
    return ((tuned - plain).norm() / plain.norm()).item()
