"""The documentation that all estimators share, and how it joins a class's own."""

import ast
import inspect
import re
from typing import Any

from . import errors

SHARED = """
Parameters
----------
n_clusters : int or "auto", default=8
    Number of clusters K, at least 1. ``"auto"`` trains ``min(30, n_samples // 40)`` clusters, and
    joins them at the end along the graph of the neighbours, as far as that raises a modularity of
    the graph: see :doc:`/choosing_n_clusters`. How many are left is `n_clusters_`.
encoder : str, torch.nn.Module or callable, default="auto"
    Maps a batch to features (n, feature_dim).

    - ``"auto"``: ``"mlp"`` for rows, ``"cnn"`` for images of up to 32 pixels a side,
      ``"resnet18"`` above.
    - ``"timm/NAME"``, ``"torchvision/NAME"``: a network with trained weights, such as
      ``"timm/vit_small_patch14_dinov2.lvd142m"`` or ``"torchvision/resnet50"``. Normalisation,
      input size, interpolation and the layer of the features are those that the library names, and
      so is the margin of the images that is left out, an eighth of height and width for many.
      It downloads the weights, or finds them in its cache; ``"timm/NAME:PATH"`` takes them from a
      file, without executing anything in it (other formats than safetensors need torch >= 2.6).
      Names of timm need the extra ``pretrained``.
    - ``"mlp"``: two layers of 512 with batch norm.
    - ``"cnn"``: three convolutions (four below 16 pixels); grey images of 16 pixels and more
      are resized to 20 x 20 first.
    - ``"hog"``: histograms of oriented gradients, which compare shapes and not colours; for small
      sets of photos without a pretrained network. Nothing is trained but the heads. For
      files, it sees the size that `image_size` says, by default at most 32 pixels per side; more
      of them show texture beside the shape.
    - ``"identity"``: the samples themselves, scaled rows or the pixels of images. Nothing is
      trained but the heads.
    - ``"resnet18"``, ``"resnet34"``, ... without the name of a library: untrained, without the
      classifier, with a 3x3 stem and no max-pooling for images of up to 96 pixels.
    - Any other classifier of ``torchvision.models``, by its name, untrained.
    - A module: copied, so that the one passed in is never trained; every fit starts from its
      weights.
    - A callable without arguments that returns a module: called within ``random_state``. What
      it returns is copied as well.

    Images arrive as float32 in [0, 1] of shape (n, C, H, W), rows standardised as (n, d).
    Features of other floating dtypes are converted to float32.
freeze_encoder : bool or "auto", default="auto"
    Whether to leave the encoder as it is and train the heads only; for encoders with trained
    weights. ``"auto"`` freezes those of timm and torchvision by name, ``"hog"`` and ``"identity"``,
    and trains all others.
    With ``augmentation="auto"``, ``"rows"`` or ``"none"`` the features of all samples are computed
    once, without augmentation, and then treated like rows: scaled, varied by the recipe ``"rows"``
    unless it is ``"none"``, with neighbours among them. With any other `augmentation` they are
    computed in every step, for views of the samples.
augmentation : str, callable or Augmentation, default="auto"
    Maps a batch to a random variation of the same shape.

    - ``"auto"``: ``"rows"`` for rows, ``"digits"`` for grey images, ``"images"`` for colour.
    - ``"images"``: the papers' recipe of crops, flips, colour jitter and grey.
    - ``"digits"``: gentle crops, rotations, shears and bending; no flips.
    - ``"rows"``: features swapped with those of other rows, and noise.
    - ``"none"``: samples stay as they are.
    - Anything from :mod:`deepcluster_sk.augmentations`, or a callable on a batch, which may
      draw from the global random states. Modules are copied. The height and width of images
      may change.
scale : {"auto", "columns", "global", "unit"} or None, default="auto"
    How rows are scaled, or the features of a frozen encoder. Images are always mapped to [0, 1].

    - ``"columns"``: each column is standardised, and drawn in to three standard deviations at the
      most; for columns of different units.
    - ``"global"``: columns are centred, and all are divided by one number; for columns of one unit.
    - ``"unit"``: columns are centred, and each row is scaled to one length; for embeddings.
    - ``"auto"``: ``"columns"`` if the largest standard deviation of a column is more than 20 times
      the median one; otherwise ``"unit"`` for 50 columns and more, and ``"global"`` for fewer.
    - None: rows stay as they are, as a pipeline has scaled them. The networks expect values whose
      mean square is near 1.
image_shape : tuple of int or None, default=None
    ``(H, W)``, ``(H, W, C)`` or ``(C, H, W)`` of flattened images in a 2-D X. None reads 2-D X
    as rows of features.
image_size : int, tuple of 2 ints or "auto", default="auto"
    Height and width, or both in one number, that image files are resized to in fit. ``"auto"``
    is the median height and the median width of the files, at most 32 pixels each, which keeps
    the network small. Pass more if clusters differ in details, best with a GPU. With a pretrained
    encoder by name, it is the size of the middle part that the network sees, for arrays as well,
    and files are read with the margin around it. Then ``"auto"`` is the size that the network was
    trained on; a smaller size takes less time.
on_error : {"raise", "skip"}, default="raise"
    What to do about image files that cannot be read: an error that names all of them, or a
    warning and the label -1.
outlier_fraction : float or None, default=None
    Share of the training samples that belong to no cluster, in (0, 1): those with the lowest
    ``score_samples``. They and new samples with a score below `offset_` get the label -1. None puts
    every sample into a cluster.
cluster_start : float or "auto", default="auto"
    Share of the epochs after which the clusters begin to be learned, in [0, 1). ``"auto"`` is .3,
    and 168 steps in a training of more than 560 steps without `max_time`.
n_neighbors : int or "auto", default="auto"
    Number of nearest neighbours, one of which the second view shows in the neighbour stage. Their
    graph also judges the clusters, and for rows decides on them. 0 leaves all of this out, as in
    the papers; ``"auto"`` is 15 among inputs and 10 among features. Among inputs they are at most
    half of the mean size of a cluster, among features a twelfth.
neighbor_start : float or "auto", default="auto"
    Share of the epochs after which neighbours are searched among the features, in [0, 1); they
    are searched again in the middle of the rest. ``"auto"`` is .6, and 336 steps in a training of
    more than 560 steps without `max_time`. Without meaning for neighbours among inputs.
neighbor_space : {"auto", "inputs", "features"}, default="auto"
    ``"features"``: the neighbour stage begins at `neighbor_start`. ``"inputs"``: it begins with
    the first step, with neighbours among the samples themselves, whose graph decides on the
    clusters. That of the features decides where they are small, of fewer than 120 samples in the
    mean, and judges them otherwise. ``"auto"`` is ``"inputs"`` for rows and ``"features"`` for
    images.
self_labeling : float, default=0.0
    Share of the epochs, the last ones, in [0, 1), in which the network learns its own labels in
    place of the method's loss: an augmented view of each sample is to get the label that the sample
    has without augmentation. Only the more confident half of each cluster is learned. Without
    effect where the graph of neighbours decides on the clusters, and in `partial_fit`.
max_epochs : int or "auto", default="auto"
    Number of passes over the data. ``"auto"`` is at least 12, and as many as make 560 steps of
    `batch_size` samples: 80 for 1,800 samples, 15 for 10,000, 12 from 13,000 on. With neighbours
    among the inputs, whose graph decides on the clusters, it is a quarter of that.
batch_size : int, default=256
    Samples per step, capped at the number of samples. An incomplete last batch is dropped.
optimizer : {"adam", "adamw", "sgd"}, default="adam"
    ``"sgd"`` has Nesterov momentum 0.9.
learning_rate : float, default=0.003
    The largest learning rate of the training.
weight_decay : float, default=0.0
    As the optimizer defines it.
schedule : {"constant", "cosine"}, default="cosine"
    Course of the learning rate after the warm-up.
warmup : float, default=0.05
    Share of the steps over which the learning rate rises linearly from 0, in [0, 1).
device : str or torch.device, default="auto"
    ``"auto"`` takes CUDA, then MPS, then the CPU; a named device that is missing is an error.
precision : {"auto", "float32", "bfloat16", "float16"}, default="auto"
    Number format of the training step, and of a frozen encoder. ``"auto"`` uses bfloat16 on GPUs
    that compute it natively, and on CPUs that do (AVX512-BF16, AMX) for images of 16 x 16 pixels
    and more; float32 elsewhere. Everything else of a prediction is computed in float32.
compile : bool, default=False
    Whether to compile loss and augmentation with ``torch.compile``, each as one graph. The
    encoder has to allow that; an augmentation that is a mere callable is not compiled.
max_time : float or None, default=None
    Seconds of training; None for no limit. As many epochs are run as fit, at least one and at
    most `max_epochs`, and the schedule and the starts that are shares of the training are
    those of so many epochs. What follows the last epoch is not counted.
tol : float or None, default=None
    The training ends early when at most this share of the samples, in [0, 1], has changed its
    cluster in each of `n_iter_no_change` epochs in a row; epochs before `cluster_start`,
    before the neighbour stage and before `self_labeling` do not count. None for no early end. Any
    other value costs one more pass over the data, without gradients, in each epoch that counts.
n_iter_no_change : int, default=5
    Number of epochs in a row, if `tol` is not None.
warm_start : bool, default=False
    Whether `fit` begins with the weights of the fitted estimator instead of new ones. The
    schedule starts again.
cache : path-like or None, default=None
    A folder that keeps the features of a frozen encoder, so that another fit or a prediction on the
    same images takes seconds. Features are found by the contents of the decoded images, their size
    and the encoder with its weights, so that one folder serves any number of data sets and
    encoders. It is created if it does not exist, and may be deleted at any time. Encoders of your
    own are told apart by settings and weights and not by code: after a change of it, pass another
    folder. Ignored if the encoder is trained, and by `fit` in jobs of several processes.
checkpoint : path-like or None, default=None
    A file that `fit` is written to, and goes on from when it is called again with the same
    parameters and data after an interruption. It serves one fit, and is kept in the end: the
    same fit then does not train again.
checkpoint_every : int or float, default=1
    Between two writings of the checkpoint: epochs if int, seconds if float. Ctrl-C and the end
    of the training write it in any case.
verbose : int, default=0
    1 shows a progress bar.
random_state : int, RandomState instance or None, default=None
    One value gives the same bits on the CPU; for large networks, with the same number of
    threads. None draws from the operating system, not from numpy's global state. Global states
    are left as they are; an encoder with dropout, or modules or callables of your own, may draw
    from them: then they are seeded for the time being, and restored.

Attributes
----------
labels_ : ndarray of shape (n_samples,), int64
    Clusters of the training samples, numbered by decreasing size; equal to ``predict`` of them.
    -1 for files that were skipped and, with `outlier_fraction`, for the least typical samples.
n_clusters_ : int
    Number of clusters.
cluster_sizes_ : ndarray of shape (n_clusters,), int64
    Training samples per cluster, decreasing; empty clusters come last.
linkage_ : ndarray of shape (n_clusters - 1, 4), float64
    Tree of the clusters in the format of :mod:`scipy.cluster.hierarchy`. In each step, the two are
    joined that lose least mutual information of the clusters of neighbours; the heights are the
    information lost so far, in nats. Computed when it is asked for, in seconds for hundreds of
    clusters; missing after `partial_fit` alone and with more than 500 clusters.
offset_ : float or None
    With `outlier_fraction`, the score below which samples belong to no cluster.
n_iter_ : int
    Number of epochs run.
loss_curve_ : list of float
    Mean loss of each epoch.
history_ : dict of str to list of float
    Mean of each loss term per epoch.
encoder_ : torch.nn.Module
    The trained encoder, on the CPU and in evaluation mode.
scale_ : {"columns", "global", "unit"} or None
    How rows are scaled; None for images, and for ``scale=None``.
input_shape_ : tuple of int
    Shape of one sample as given in fit.
device_ : str
    Device that the training ran on.
precision_ : str
    Precision that the training ran in.
skipped_ : list of str
    Image files that could not be read, with ``on_error="skip"``.
n_features_in_ : int
    Number of features, or of pixels times channels.
feature_names_in_ : ndarray of shape (n_features_in_,)
    Names of the columns, if X was a data frame with string names.

See Also
--------
ContrastiveClustering : Instance and cluster heads on one network; the most tested method.

Notes
-----
Image files are a folder, searched with its subfolders, or a list, array or Series of paths.
Files that are all grey give images without a channel axis, others RGB on a white background.
Memory maps, torch datasets, and files that do not fit into memory are read while training.

A 4-D X has its channels on the axis of length 1, 3 or 4, last or second; if both fit, the last
one is taken for numpy arrays and the second one for torch tensors. Float images are scaled to
[0, 1] by the smallest and largest value of the training set.

Examples
--------
>>> from sklearn.datasets import load_digits
>>> from deepcluster_sk import {{name}}
>>> images = load_digits().images
>>> model = {{name}}(n_clusters=10, max_epochs=5, random_state=0)
>>> labels = model.fit_predict(images)
>>> labels.shape, model.predict_proba(images[:3]).shape
((1797,), (3, 10))
"""

_TITLE = re.compile(r"^(?P<title>\w[\w ]*)\n-{3,}$", re.M)
_ENTRY = re.compile(r"^(?=\S)", re.M)
_ORDER = ("Parameters", "Attributes", "See Also", "Notes", "References", "Examples")


def finished_docstring(cls: type, parent: type, defaults: dict[str, Any]) -> str | None:
    """Join the docstring of a class with that of its parent and with the shared documentation.

    Parameters
    ----------
    cls : type
        Its docstring is None with ``python -OO``, and stays None.
    parent : type
        The class that it derives from: another method, or the base of all.
    defaults : dict of str to object
        Those of all parameters, in the order of the constructor. Of what is documented for a
        parameter elsewhere, only the default may differ.

    Returns
    -------
    docstring : str or None
        In numpydoc's format. An entry or section of the class takes the place of another one, but
        its notes follow the shared ones.

    Raises
    ------
    TypeError
        If a parameter has no description.
    """
    if cls.__doc__ is None:
        return None
    lead, mine = _sections(inspect.cleandoc(cls.__doc__))
    _, theirs = _sections(inspect.cleandoc(parent.__doc__ or ""))
    _, shared = _sections(SHARED.strip().replace("{{name}}", cls.__name__))
    parameter, attribute = (
        {name: entry for s in (shared, theirs, mine) for name, entry in _entries(s.get(title, ""))}
        for title in ("Parameters", "Attributes")
    )
    missing = [name for name in defaults if name not in parameter]
    if missing:
        raise errors.parameter_without_description(cls.__name__, missing[0])
    described = [_with_default(parameter[name], defaults[name]) for name in defaults]
    sections = {
        **shared,
        **mine,
        "Parameters": "\n".join(described),
        "Attributes": "\n".join(attribute.values()),
        "Notes": "\n\n".join(s["Notes"] for s in (shared, mine) if "Notes" in s),
    }
    order = [*_ORDER, *(title for title in mine if title not in _ORDER)]
    texts = [f"{s}\n{'-' * len(s)}\n{sections[s]}" for s in order if s in sections]
    return "\n\n".join([lead, *texts]) + "\n"


def _with_default(entry: str, default: Any) -> str:
    """Return the entry of a parameter with the default of a class."""
    head, *rest = entry.split("\n")
    shown = f'"{default}"' if isinstance(default, str) else repr(default)
    named = re.search("default=(.*)$", head)
    if named and not _is_equal(named[1], default):
        head = head[: named.start(1)] + shown
    return "\n".join([head, *rest])


def _is_equal(text: str, default: Any) -> bool:
    """Tell whether a text is a way of writing a value."""
    try:
        return bool(ast.literal_eval(text) == default)
    except (ValueError, SyntaxError):
        return text == repr(default)


def _sections(docstring: str) -> tuple[str, dict[str, str]]:
    """Return what precedes the first title, and the texts by title."""
    lead, *rest = _TITLE.split(docstring)
    titles, texts = rest[::2], rest[1::2]
    return lead.strip(), {t: text.strip("\n") for t, text in zip(titles, texts, strict=True)}


def _entries(section: str) -> list[tuple[str, str]]:
    """Return the entries of a section, such as parameters, with their names."""
    entries = [entry.rstrip() for entry in _ENTRY.split(section) if entry.strip()]
    return [(entry.partition(" ")[0], entry) for entry in entries]
