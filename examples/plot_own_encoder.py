"""
Your own encoder and augmentation
=================================

An encoder is any module that maps a batch to rows of features, an augmentation any callable that
maps a batch to a batch. Here both are made for 8 x 8 digits.
"""

# %%
# The encoder: a function that returns the module, so that its weights are drawn within
# ``random_state``. The mean over a 2 x 2 grid keeps some of the place.

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn

from deepcluster_sk import ContrastiveClustering
from deepcluster_sk.augmentations import ColorJitter, Compose, RandomAffine, RandomResizedCrop
from deepcluster_sk.display import ClusterGalleryDisplay
from deepcluster_sk.metrics import clustering_accuracy_score


def block(n_in, n_out):
    return [nn.Conv2d(n_in, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()]


def encoder():
    layers = [*block(1, 32), nn.MaxPool2d(2), *block(32, 64), nn.AdaptiveAvgPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten())


# %%
# The augmentation, composed of steps: the geometric ones cost one sampling together.

augmentation = Compose(
    [
        RandomResizedCrop(scale=(0.7, 1.0)),
        RandomAffine(degrees=10, shear=10),
        ColorJitter(brightness=0.4, contrast=0.4),
    ]
)

# %%
# What it makes of four digits, the originals in the upper row. Are these pairs the same thing?

digits = load_digits()
x = torch.as_tensor(digits.images[:4, None] / 16, dtype=torch.float32)
views = augmentation(x, torch.Generator().manual_seed(0))
figure, axes = plt.subplots(2, 4, figsize=(5, 2.6))
for ax, image in zip(axes.flat, torch.cat([x, views]), strict=True):
    ax.imshow(image[0], cmap="gray_r", vmin=0, vmax=1)
    ax.set_axis_off()

# %%
# In diagrams of scikit-learn, our estimators have their documentation behind each parameter.

model = ContrastiveClustering(
    10, encoder=encoder, augmentation=augmentation, n_heads=3, max_epochs=30, random_state=0
)
model.fit(digits.images)

# %%
# After thirty epochs:

print(f"accuracy {clustering_accuracy_score(digits.target, model.labels_):.3f}")
ClusterGalleryDisplay.from_estimator(model, digits.images, cmap="gray_r")
plt.show()
