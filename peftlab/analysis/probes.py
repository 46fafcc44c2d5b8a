"""What frozen features already know: nearest neighbours and a linear probe, both scikit-learn's."""

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ..training.evaluate import features


def knn_accuracy(train_x, train_y, test_x, test_y, k=5):
    """Top-1 of the vote of the k nearest training images by cosine distance; nothing is trained."""
    return KNeighborsClassifier(k, metric="cosine").fit(train_x, train_y).score(test_x, test_y)


def linear_probe_accuracy(train_x, train_y, test_x, test_y, C=0.01):
    """Top-1 of logistic regression on standardised features. C: inverse strength of its L2 penalty."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=2000))
    return model.fit(train_x, train_y).score(test_x, test_y)


def cls_and_patches(vit, task, split, limit=None):
    """Final CLS token and mean patch token, concatenated -> array [n, 2 D]. Needs a CLS token."""
    tokens = features(vit, task, split, stop=-2, limit=limit)
    tokens = vit.norm(tokens.to(next(vit.parameters()).device)).detach().cpu()
    return np.concatenate([tokens[:, 0], tokens[:, vit.num_prefix_tokens :].mean(1)], axis=1)


@torch.no_grad()
def distance_at_start(model, x):
    """How far a method's features are from the frozen backbone's on images x [B, 3, H, W], before any training.

    ||f - f0|| / ||f0|| over the pooled features; exactly 0 for methods that start at the backbone.
    """
    plain, tuned = (vit.forward_head(vit.forward_features(x), pre_logits=True) for vit in (model.backbone, model.vit))
    return ((tuned - plain).norm() / plain.norm()).item()
