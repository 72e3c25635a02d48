"""Encoders: modules that map a batch to rows of features."""

import copy
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.nn.parameter import is_lazy

from ._pretrained import PretrainedEncoder, build_pretrained, drop_classifier, parsed_name
from ._runtime.device import inference_switches, lacks
from ._runtime.random import Seeds, may_draw
from .exceptions import EncoderError

__all__ = ["MLP", "OrientedGradients", "SmallCNN", "make_encoder", "resnet"]

_HOG_CELLS = (8, 4)  # per side: small cells, and larger ones, which weigh twice
_HOG_BINS = 9
_HOG_LARGEST = 0.2  # of a block of unit length: a single strong edge must not outweigh the rest
_HOG_FAINT = 1e-4  # energy of a block below which it is noise
_SMALL_CNN_PIXELS = 32  # "auto": longest side up to which SmallCNN is used
_SMALL_CNN_INPUT = 20  # side that grey images are resized to for "cnn"
_SMALL_CNN_DEEP_PIXELS = 16  # shortest side from which "cnn" halves its maps three times
# times kernel**4: with more pairs of pixels, most products would be with 0; those in bfloat16 cost
# less beside its convolutions
_PAIRS_PER_TAPS, _PAIRS_BFLOAT16 = 2, 4
_SMALL_STEM_PIXELS = 96  # longest side up to which a ResNet gets the small-image stem
_FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)  # what features may be
_TOLERANCE = 1e-4  # of the largest feature: what features may change with the rest of the batch
# classifiers with auxiliary outputs in training mode; their own initialisation, without a warning
_WITH_AUXILIARIES = ("googlenet", "inception_v3", "quantized_googlenet", "quantized_inception_v3")


class MLP(nn.Module):
    """Fully connected layers with batch norm, for rows of features.

    Parameters
    ----------
    in_features : int
        Number of columns.
    widths : tuple of int, default=(512, 512)
        Width of each layer; the last one is the number of features.
    """

    def __init__(self, in_features: int, widths: tuple[int, ...] = (512, 512)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise((in_features, *widths)):
            layers += [nn.Linear(n_in, n_out, bias=False), nn.BatchNorm1d(n_out), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map rows (n, d) to features (n, widths[-1])."""
        features: Tensor = self.layers(x)
        return features


class SmallCNN(nn.Module):
    """Convolutions with batch norm, for small images.

    The final map is averaged over a small grid and flattened, not averaged as a whole: where in the
    image a stroke or an edge lies stays visible to the heads.

    Parameters
    ----------
    in_channels : int
        Number of channels of the images.
    widths : tuple of int, default=(24, 48, 96)
        Channels of each convolution.
    strides : tuple of int, default=(2, 2, 2)
        Stride of each convolution. The first one is 5x5 if its stride is above 1; all others are
        3x3.
    grid : int, default=3
        The final map is averaged to ``grid x grid``; the number of features is
        ``grid ** 2 * widths[-1]``.
    input_size : tuple of 2 ints or None, default=None
        Height and width that images are resized to first; None keeps theirs.
    """

    def __init__(
        self,
        in_channels: int,
        widths: tuple[int, ...] = (24, 48, 96),
        strides: tuple[int, ...] = (2, 2, 2),
        grid: int = 3,
        input_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.layers = _convolutions((in_channels, *widths), strides)
        self.grid = grid

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, C, H, W) to features (n, grid ** 2 * widths[-1])."""
        if self.input_size is not None and x.shape[2:] != self.input_size:
            x = F.interpolate(x, size=self.input_size, mode="bilinear")
        # this layout is two to ten times faster for strided convolutions on the CPU
        x = self.layers(x.contiguous(memory_format=torch.channels_last))
        if x.shape[2:] != (self.grid, self.grid):
            x = _averaged(x, self.grid)
        return x.flatten(1)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *rest: Any, **kwargs: Any
    ) -> None:
        # files of version 0.1.0 have a second convolution after each of three
        own = [layer for layer in self.layers if isinstance(layer, nn.Conv2d)]
        if len(own) == 3 and f"{prefix}layers.15.weight" in state_dict:
            widths = [layer.out_channels for layer in own for _ in range(2)]
            strides = [stride for layer in own for stride in (layer.stride[0], 1)]
            with torch.device("meta"):  # the file's weights take the place of its own
                self.layers = _convolutions((own[0].in_channels, *widths), tuple(strides))
        super()._load_from_state_dict(state_dict, prefix, *rest, **kwargs)


class OrientedGradients(nn.Module):
    """Histograms of oriented gradients (Dalal and Triggs, CVPR 2005); nothing is trained.

    The gradient of each pixel is that of its strongest channel. Histograms of 9 directions, without
    sign and weighted by the length of the gradient, are averaged over 8 x 8 cells of the image,
    and over 4 x 4 larger ones. Each cell is scaled by the energy of the four blocks of 2 x 2 cells
    that it lies in, and clipped at 0.2. Shapes count, and colours do not.
    """

    def __init__(self) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, C, H, W) to features (n, 2880)."""
        x = F.pad(x, (1, 1, 1, 1), mode="replicate")
        across = x[:, :, 1:-1, 2:] - x[:, :, 1:-1, :-2]
        down = x[:, :, 2:, 1:-1] - x[:, :, :-2, 1:-1]
        length, strongest = (across.square() + down.square()).sqrt().max(dim=1, keepdim=True)
        direction = torch.atan2(down.gather(1, strongest), across.gather(1, strongest))
        bins = direction.remainder(math.pi) / math.pi * _HOG_BINS - 0.5
        lower = bins.floor()
        share = bins - lower  # of the upper one of the two nearest bins
        lower = lower.long() % _HOG_BINS
        maps = x.new_zeros(len(x), _HOG_BINS, *length.shape[2:])
        maps.scatter_(1, lower, length * (1 - share))
        maps.scatter_add_(1, (lower + 1) % _HOG_BINS, length * share)
        small, large = _HOG_CELLS
        return torch.cat([_blocks(maps, small), 2 * _blocks(maps, large)], dim=1)


def _blocks(maps: Tensor, n_cells: int) -> Tensor:
    """Average maps (n, bins, H, W) over cells; scale each by the four blocks around it."""
    cells = _averaged(maps, n_cells)
    energy = F.pad(cells.square().sum(dim=1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    energy = 4 * F.avg_pool2d(energy, 2, stride=1)
    corners = [(y, x) for y in (0, 1) for x in (0, 1)]
    scaled = [
        cells * (energy[:, :, y : y + n_cells, x : x + n_cells] + _HOG_FAINT).rsqrt()
        for y, x in corners
    ]
    return torch.cat(scaled, dim=1).clamp(max=_HOG_LARGEST).flatten(1)


def _averaged(x: Tensor, grid: int) -> Tensor:
    """Average maps (n, C, H, W) to (n, C, grid, grid) by windows that may overlap by a pixel."""
    if not lacks(x.device, "uneven pooling"):
        return F.adaptive_avg_pool2d(x, grid)
    rows, columns = (_windows(side, grid, x) for side in x.shape[2:])
    return rows @ x @ columns.mT


def _windows(side: int, grid: int, like: Tensor) -> Tensor:
    """Return the weights of pixels in the windows of adaptive averages, shape (grid, side)."""
    number = torch.arange(grid, device=like.device)[:, None]
    start, stop = number * side // grid, -(-(number + 1) * side // grid)
    pixel = torch.arange(side, device=like.device)
    inside = (pixel >= start) & (pixel < stop)
    return (inside / inside.sum(dim=1, keepdim=True)).to(like.dtype)


class _Convolution(nn.Conv2d):
    """A square convolution; in training on small maps, the product with a matrix of pixel pairs.

    CPUs multiply matrices so much faster than they convolve small maps that this pays although the
    kernel joins only a part of the pairs.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in_channels, H, W) to (n, out_channels, H', W')."""
        height, width = ((size - 1) // self.stride[0] + 1 for size in x.shape[2:])
        n_pairs = x.shape[2] * x.shape[3] * height * width
        if not self.training or n_pairs > _most_pairs(x.device) * self.kernel_size[0] ** 4:
            return super().forward(x)
        taps = _taps(*x.shape[2:], height, width, self.kernel_size[0], self.stride[0])
        taps = taps.to(self.weight)  # float64 in a float64 network
        weights = self.weight.permute(2, 3, 1, 0).reshape(taps.shape[1], -1)
        pairs = (taps @ weights).view(-1, height * width, self.in_channels, self.out_channels)
        matrix = pairs.transpose(1, 2).reshape(-1, height * width * self.out_channels)
        result = x.permute(0, 2, 3, 1).flatten(1) @ matrix
        return result.view(-1, height, width, self.out_channels).permute(0, 3, 1, 2)


def _most_pairs(device: torch.device) -> int:
    """Return up to how many pairs of pixels a product pays, by the square of the taps."""
    if device.type != "cpu" or torch.compiler.is_compiling():
        return 0
    half = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return _PAIRS_BFLOAT16 if half else _PAIRS_PER_TAPS


@lru_cache
def _taps(
    height: int, width: int, out_height: int, out_width: int, kernel: int, stride: int
) -> Tensor:
    """Tell which weight of a kernel joins two pixels, if any: (pairs, kernel ** 2) of 0 and 1.

    The first pixel of a pair is one of the map, the second one of the result of a convolution that
    is padded by half of the kernel.
    """

    def along(size: int, out_size: int) -> Tensor:
        offset = torch.arange(size)[:, None] - stride * torch.arange(out_size) + kernel // 2
        return (offset[:, :, None] == torch.arange(kernel)).float()  # (size, out_size, kernel)

    rows, columns = along(height, out_height), along(width, out_width)
    taps = torch.einsum("ioa,jpb->ijopab", rows, columns)
    return taps.reshape(-1, kernel**2)


def _convolutions(channels: tuple[int, ...], strides: tuple[int, ...]) -> nn.Sequential:
    """Build the layers between so many channels."""
    layers: list[nn.Module] = []
    for (n_in, n_out), stride in zip(pairwise(channels), strides, strict=True):
        kernel = 5 if not layers and stride > 1 else 3
        layers += _convolution(n_in, n_out, kernel=kernel, stride=stride)
    return nn.Sequential(*layers)


def _convolution(n_in: int, n_out: int, *, kernel: int, stride: int) -> list[nn.Module]:
    return [
        _Convolution(n_in, n_out, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(n_out),
        nn.ReLU(inplace=True),
    ]


def resnet(name: str, in_channels: int, *, small_stem: bool) -> nn.Module:
    """Build a torchvision ResNet without its classifier.

    Parameters
    ----------
    name : str
        ``"resnet18"``, ``"resnet34"``, ``"resnet50"``, ...
    in_channels : int
        Number of channels of the images.
    small_stem : bool
        A 3x3 convolution of stride 1 and no max-pooling at the entry, as is usual for images of
        32 pixels; otherwise the 7x7 stem for ImageNet.

    Returns
    -------
    network : Module
        Untrained; maps images (n, in_channels, H, W) to features (n, d).
    """
    network = _torchvision_model(name, in_channels)
    if small_stem:
        stem = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
        _replace(network, "conv1", stem)
        _replace(network, "maxpool", nn.Identity())
    return network


def make_encoder(
    spec: str | nn.Module | Callable[[], nn.Module],
    sample_shape: tuple[int, ...],
    *,
    frozen: bool = False,
    image_size: tuple[int, int] | None = None,
) -> tuple[nn.Module, int]:
    """Turn the ``encoder`` parameter into a new module and its number of features.

    Parameters
    ----------
    spec : str, Module or callable
        A name, a module, or a callable without arguments that returns a module. A module is
        copied, also one from a callable.
    sample_shape : tuple of int
        ``(d,)`` or ``(C, H, W)``: what the encoder will see, as float32.
    frozen : bool, default=False
        Whether the encoder is used in evaluation mode only.
    image_size : (int, int) or None, default=None
        Height and width that a pretrained encoder by name sees; None for those that its library
        names.

    Returns
    -------
    encoder : Module
        Shares nothing with `spec`. Its convolutions are in the memory format ``channels_last``
        if it works in it, and features of another floating dtype are converted to float32.
    feature_dim : int
        Number of features per sample.

    Raises
    ------
    EncoderError
        If the name is unknown or does not fit the data, the callable returns no module, the
        module cannot be copied, weights cannot be loaded, or the output, in evaluation or in
        training mode, is not a finite tensor of shape (n, d) whose rows do not depend on each other
        in evaluation mode. Encoders by name are tried in evaluation mode only.
    ImportError
        If the library of a pretrained encoder is not installed.
    """
    encoder = build_encoder(spec, sample_shape, image_size=image_size)
    known = isinstance(spec, str)
    return encoder, _probe(encoder, sample_shape, frozen=frozen, known=known)


def is_kept_contiguous(encoder: nn.Module) -> bool:
    """Tell whether a module did not work in channels last."""
    return _contiguous_inputs in encoder._forward_pre_hooks.values()


def is_kept_float32(encoder: nn.Module) -> bool:
    """Tell whether a module returned features of another floating dtype."""
    return _float32_output in encoder._forward_hooks.values()


def build_encoder(
    spec: str | nn.Module | Callable[[], nn.Module],
    sample_shape: tuple[int, ...],
    *,
    weights: bool = True,
    image_size: tuple[int, int] | None = None,
) -> nn.Module:
    """Return the module of :func:`make_encoder` without trying it out.

    Without `weights`, the parameters of an encoder by name are on torch's meta device, so that a
    name and a shape from a file cannot make it take memory.
    """
    if isinstance(spec, str):
        with nullcontext() if weights else _without_weights():
            return _named_encoder(spec, sample_shape, image_size, weights=weights)
    encoder = spec if isinstance(spec, nn.Module) else spec()
    if not isinstance(encoder, nn.Module):
        raise EncoderError(
            f"The callable encoder={spec!r} returned {type(encoder).__name__}, expected a "
            "torch.nn.Module. Return the module that maps a batch to features of shape (n, d)."
        )
    return _copied(encoder)


def _copied(encoder: nn.Module) -> nn.Module:
    """Copy a module of the user, also a new one: it is copied again for momentum and monitors."""
    name = type(encoder).__name__
    try:
        copied = copy.deepcopy(encoder)
    except Exception as error:
        raise EncoderError(
            f"The encoder {name} cannot be copied: {error}. Every fit trains a copy, so expected a "
            "module that copy.deepcopy accepts. Make locks, open files and results of computations "
            "in its forward method and not in its constructor, and use "
            "torch.nn.utils.parametrizations in place of torch.nn.utils.weight_norm and "
            "spectral_norm."
        ) from error
    if any(not is_lazy(parameter) and not parameter.is_leaf for parameter in copied.parameters()):
        raise EncoderError(
            f"The encoder {name} cannot be trained as a copy: in the copy, its parameters are "
            "results of computations, as they are in all copies of a ScriptModule. Pass the "
            "torch.nn.Module that it was scripted or traced from."
        )
    return copied


@contextmanager
def _without_weights() -> Iterator[None]:
    """Let parameters be moved to the meta device as soon as a module has them.

    With ``torch.device("meta")``, constructors that compute with other tensors would fail.
    """
    own_thread = threading.get_ident()

    def to_meta(module: nn.Module, name: str, parameter: nn.Parameter) -> nn.Parameter:
        if threading.get_ident() != own_thread:  # the hook is called in all of them
            return parameter
        return nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)

    hook = register_module_parameter_registration_hook(to_meta)  # type: ignore[arg-type]
    try:
        yield
    finally:
        hook.remove()


def input_size(encoder: nn.Module) -> tuple[int, int] | None:
    """Return the height and width that a SmallCNN resizes its images to; None for all others."""
    return encoder.input_size if isinstance(encoder, SmallCNN) else None


def _named_encoder(
    name: str, sample_shape: tuple[int, ...], image_size: tuple[int, int] | None, *, weights: bool
) -> nn.Module:
    is_rows = len(sample_shape) == 1
    longest = max(sample_shape[1:], default=0)
    if name == "auto":
        name = "mlp" if is_rows else "cnn" if longest <= _SMALL_CNN_PIXELS else "resnet18"
    if name == "identity":
        return nn.Flatten()
    if name == "mlp":
        return nn.Sequential(nn.Flatten(), MLP(torch.Size(sample_shape).numel()))
    if is_rows:
        raise EncoderError(
            f"encoder={name!r} needs images, but X holds rows of {sample_shape[0]} features. Pass "
            "encoder='mlp', or image_shape=(H, W, C) if the rows are flattened images."
        )
    pretrained = parsed_name(name)
    if pretrained is not None:
        if sample_shape[0] not in (1, 3):
            raise EncoderError(
                f"encoder={name!r} takes images of 1 or 3 channels, but those in X have "
                f"{sample_shape[0]}. Leave out or merge channels, such as an alpha channel."
            )
        return build_pretrained(pretrained, image_size, weights=weights)
    if name == "cnn":
        return _small_cnn(sample_shape)
    if name == "hog":
        return OrientedGradients()
    if name.startswith("resnet"):
        return resnet(name, sample_shape[0], small_stem=longest <= _SMALL_STEM_PIXELS)
    return _torchvision_model(name, sample_shape[0])


def _small_cnn(sample_shape: tuple[int, ...]) -> SmallCNN:
    """Choose depth and input size: below 16 pixels there is room for two halvings only."""
    channels, *sides = sample_shape
    if min(sides) < _SMALL_CNN_DEEP_PIXELS:
        return SmallCNN(channels, widths=(32, 32, 64, 64), strides=(2, 1, 2, 1), grid=2)
    size = (_SMALL_CNN_INPUT, _SMALL_CNN_INPUT) if channels == 1 else None
    return SmallCNN(channels, input_size=size)


def _torchvision_model(name: str, in_channels: int) -> nn.Module:
    """Build an untrained torchvision classifier, without its last layer."""
    import torchvision

    # models of other tasks, such as detection, are not encoders, and some download a backbone
    models = torchvision.models
    classifiers = models.list_models(models) + models.list_models(models.quantization)
    if name.lower() not in classifiers:
        raise EncoderError(
            f"encoder={name!r} is unknown. Expected 'auto', 'mlp', 'cnn', 'hog', 'identity', "
            "'timm/NAME' or 'torchvision/NAME' for trained weights, a name from "
            "torchvision.models.list_models(torchvision.models) for untrained ones, a "
            "torch.nn.Module or a callable that returns one."
        )
    options: dict[str, Any] = {}
    if name.lower() in _WITH_AUXILIARIES:
        options = {"aux_logits": False, "init_weights": True}
    network: nn.Module = models.get_model(name, weights=None, **options)
    first = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d)][:1]
    for path, convolution in first:
        if convolution.in_channels != in_channels:
            _replace(network, path, _with_channels(convolution, in_channels))
    drop_classifier(network)
    return network


def _with_channels(conv: nn.Conv2d, in_channels: int) -> nn.Conv2d:
    """Return a new convolution like `conv` for another number of input channels."""
    return nn.Conv2d(
        in_channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        bias=conv.bias is not None,
    )


def _replace(network: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, module)


def keep_contiguous(encoder: nn.Module) -> None:
    """Keep a module that does not work in channels last, as it uses ``view``, from ever seeing it.

    Images that are stored with their channels last arrive as permuted views.
    """
    encoder.to(memory_format=torch.contiguous_format)
    encoder.register_forward_pre_hook(_contiguous_inputs)


def _contiguous_inputs(encoder: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x.contiguous() for x in inputs)


def keep_float32(encoder: nn.Module) -> None:
    """Let a module that returns features of another floating dtype return float32."""
    encoder.register_forward_hook(_float32_output)


def _float32_output(encoder: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return output.float()


def _probe(encoder: nn.Module, sample_shape: tuple[int, ...], *, frozen: bool, known: bool) -> int:
    """Try an encoder out in the memory format that is fastest for it; return its features' number.

    Bring its convolutions into that format, in place.
    """
    if len(sample_shape) == 3:
        try:
            encoder.to(memory_format=torch.channels_last)
            return _try(encoder, sample_shape, torch.channels_last, frozen=frozen, known=known)
        except Exception:
            keep_contiguous(encoder)
    return _try(encoder, sample_shape, torch.contiguous_format, frozen=frozen, known=known)


def _try(
    encoder: nn.Module,
    sample_shape: tuple[int, ...],
    memory_format: torch.memory_format,
    *,
    frozen: bool,
    known: bool,
) -> int:
    """Run small batches through an encoder and return the number of features.

    One batch is enough where it is known that rows are treated alike: for an encoder by name.
    """
    parameter = next(encoder.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    x = _random_samples(sample_shape).to(device).contiguous(memory_format=memory_format)
    with torch.no_grad(), inference_switches(device):
        if known:
            return _evaluated(encoder, x).shape[1]
        if any(map(is_lazy, encoder.parameters())):
            _evaluated(encoder, x)  # lazy modules draw within the random states of the caller
        # training changes statistics, and dropout draws: in a copy, and from generators of its own
        trial = copy.deepcopy(encoder)
        with _own_draws(trial, device):
            features = [_features(trial, batch, training=False) for batch in (x, x[1:])]
            if not frozen:
                features.append(_features(trial, x[1:], training=True))
    widths = [batch.shape[1] for batch in features]
    if len(set(widths)) > 1:
        raise EncoderError(
            f"The encoder returned {widths[0]} features per sample for a batch of 3, and others "
            f"{widths[1:]} for batches of 2, expected one number for all batches. Pool over the "
            "axes whose length varies."
        )
    _check_rows_are_independent(*features[:2])
    if any(batch.dtype != x.dtype for batch in features):
        keep_float32(encoder)
    return widths[0]


def _own_draws(trial: nn.Module, device: torch.device) -> AbstractContextManager[None]:
    """Return a context in which a network draws without a trace."""
    foreign = may_draw(trial) or device.type != "cpu"
    return Seeds(0).drawing("init", foreign=foreign, device=device)


def _random_samples(sample_shape: tuple[int, ...]) -> Tensor:
    """Return three samples like those that encoders see: images in [0, 1], standardised rows."""
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn if len(sample_shape) == 1 else torch.rand
    return draw(3, *sample_shape, generator=generator, device="cpu")


def _evaluated(encoder: nn.Module, x: Tensor) -> Tensor:
    """Run a batch through an encoder in evaluation mode, and leave it in its own mode."""
    was_training = encoder.training
    try:
        return _features(encoder, x, training=False)
    finally:
        encoder.train(was_training)


def _features(encoder: nn.Module, x: Tensor, *, training: bool) -> Tensor:
    """Run a batch through an encoder in one of its modes; anything but features is refused."""
    shape, n, mode = tuple(x.shape), len(x), "training" if training else "evaluation"
    encoder.train(training)
    try:
        features: Tensor = encoder(x)
    except Exception as error:
        raise EncoderError(
            f"The encoder failed on a float32 batch of shape {shape} in {mode} mode, expected "
            f"features of shape ({n}, d): {error}{_hints(encoder)}"
        ) from error
    mend = _mend(features, n)
    if mend is not None:
        raise EncoderError(
            f"The encoder returned {_description(features)} for a float32 batch of shape {shape} "
            f"in {mode} mode, expected a dense tensor of floating point numbers of shape ({n}, d). "
            f"{mend}"
        )
    if not features.isfinite().all():
        raise EncoderError(
            f"The encoder returned NaN or infinity for random numbers of shape {shape} in {mode} "
            "mode, expected finite features. Check its weights."
        )
    return features


def _hints(encoder: nn.Module) -> str:
    """Return sentences about what may be wrong with a network that fails."""
    hints = ""
    if isinstance(encoder, PretrainedEncoder):
        height, width = encoder.size
        hints += (
            f". It sees images of {height} x {width} pixels: pass another image_size, or 'auto'"
        )
    dtypes = {p.dtype for p in encoder.parameters() if p.is_floating_point()} - {torch.float32}
    names = " and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
    return hints + (f". Its weights are {names}: call .float() on it" if names else "")


def _mend(features: Any, n: int) -> str | None:
    """Return what to do about an output that is no matrix of n rows of features, or None."""
    if not isinstance(features, Tensor):
        return "Wrap the encoder in a module that returns the features alone."
    if features.layout != torch.strided:
        return "Call .to_dense() on the output."
    if features.dtype not in _FLOATS:
        return "Convert the output to real numbers of float32."
    if features.ndim != 2 or len(features) != n or features.shape[1] == 0:
        return "Append a global pooling or nn.Flatten(), and keep a row for each sample."
    return None


def _description(output: Any) -> str:
    """Return words for an output: its type, and the dtype and shape of a tensor."""
    if not isinstance(output, Tensor):
        return type(output).__name__
    names = [str(part).removeprefix("torch.") for part in (output.layout, output.dtype)]
    kind = names[1] if output.layout == torch.strided else " ".join(names)
    return f"{kind} of shape {tuple(output.shape)}"


def _check_rows_are_independent(of_three: Tensor, of_two: Tensor) -> None:
    """Compare two samples in a batch of three with the same in a batch of their own."""
    tolerance = max(_TOLERANCE, 4 * torch.finfo(of_three.dtype).eps)
    difference = (of_three[1:] - of_two).abs().max()
    if difference > tolerance * of_three.abs().max():
        raise EncoderError(
            f"In evaluation mode, the features of a sample changed by up to {difference:.2g} with "
            "the rest of its batch, or from call to call, expected the same ones in every batch. "
            "Use batch norm with running statistics, and let dropout depend on self.training."
        )
