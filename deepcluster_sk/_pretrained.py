"""Pretrained encoders by name: networks of timm and torchvision with trained weights.

A name is ``"timm/NAME"`` or ``"torchvision/NAME"``, or the same with ``:PATH`` for a file of
weights. Normalisation, input size, the middle part of an image that is seen, interpolation and the
layer of the features are those that the library names for the weights.
"""

import difflib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple, NoReturn

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from ._runtime.device import lacks
from .exceptions import EncoderError

Interpolation = Literal["nearest", "bilinear", "bicubic"]

_LIBRARIES = ("timm", "torchvision")
_NESTED = ("state_dict", "model")  # under which training scripts store weights
_SIMILARITY = 2 / 3  # of names that are suggested in place of an unknown one
_SAFE_TORCH = "2.6"  # in older ones, opening a pickled file can execute code
_LARGEST_WITHOUT_WEIGHTS = 1024  # pixels: a file could make position embeddings take all memory
# networks with auxiliary classifiers, which training alone needs
_WITH_AUXILIARIES = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}


class PretrainedName(NamedTuple):
    """The parts of ``"LIBRARY/MODEL:PATH"``."""

    package: str
    model: str
    path: str
    """File of the weights; empty for those of the library."""

    @property
    def without_path(self) -> str:
        """``"LIBRARY/MODEL"``."""
        return f"{self.package}/{self.model}"


class InputConfig(NamedTuple):
    """How a library feeds images to a network."""

    size: tuple[int, int]
    """Height and width."""
    interpolation: Interpolation
    mean: tuple[float, ...]
    """Per channel, of values in [0, 1]."""
    std: tuple[float, ...]
    crop: float = 1.0
    """The share of height and width, in the middle of an image, that the network sees."""
    keeps_aspect: bool = True
    """Whether that part has the aspect ratio of what the network sees."""

    def image_size(self, size: tuple[int, int] | None) -> tuple[int, int]:
        """Return the height and width of images whose middle part has a size, or its own one."""
        height, width = size or self.size
        return round(height / self.crop), round(width / self.crop)


class PretrainedEncoder(nn.Module):
    """A network of a library, which takes images in [0, 1] of any size.

    Parameters
    ----------
    network : torch.nn.Module
        Maps normalised images (n, 3, height, width) to features (n, d).
    config : InputConfig
        The middle part of an image is resized to its size, and grey ones are repeated in three
        channels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, config: InputConfig) -> None:
        super().__init__()
        self.network = network
        self.size = config.size
        self.interpolation = config.interpolation
        self.crop = config.crop
        self.keeps_aspect = config.keeps_aspect
        self.register_buffer("mean", torch.tensor(config.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(config.std)[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, C, H, W) of one or three channels to features (n, d)."""
        x = middle(x, self.crop, self.size if self.keeps_aspect else None)
        if x.shape[2:] != self.size:
            smooth = self.interpolation != "nearest" and not lacks(x.device, "antialiasing")
            x = F.interpolate(x, self.size, mode=self.interpolation, antialias=smooth)
            x = x.clamp(0, 1)  # bicubic interpolation overshoots
        features: Tensor = self.network((x.expand(-1, 3, -1, -1) - self.mean) / self.std)
        return features


def middle(x: Tensor, share: float, like: tuple[int, int] | None) -> Tensor:
    """Return the middle part of images.

    Parameters
    ----------
    x : Tensor of shape (n, C, H, W)
    share : float
        Of the height and width, in (0, 1].
    like : (int, int) or None
        Height and width of the aspect ratio that the part has, of which the share is taken then;
        None keeps that of the images.
    """
    sides: tuple[float, float] = (x.shape[2], x.shape[3])
    if like is not None:
        scale = min(sides[0] / like[0], sides[1] / like[1])
        sides = like[0] * scale, like[1] * scale
    height, width = (max(1, round(share * side)) for side in sides)
    top, left = round((x.shape[2] - height) / 2), round((x.shape[3] - width) / 2)
    return x[:, :, top : top + height, left : left + width]


def parsed_name(encoder: Any) -> PretrainedName | None:
    """Return the parts of the name of a pretrained encoder; None for every other encoder."""
    if not isinstance(encoder, str):
        return None
    library, slash, rest = encoder.partition("/")
    if not slash or library not in _LIBRARIES:
        return None
    model, _, path = rest.partition(":")
    return PretrainedName(library, model, path)


def is_used_as_it_is(encoder: Any) -> bool:
    """Tell whether ``encoder`` names a network that is not trained unless asked otherwise."""
    is_fixed = isinstance(encoder, str) and encoder in ("hog", "identity")
    return is_fixed or parsed_name(encoder) is not None


def is_identity(encoder: Any) -> bool:
    """Tell whether ``encoder`` names what leaves samples as they are."""
    return isinstance(encoder, str) and encoder == "identity"


def input_config(name: PretrainedName) -> InputConfig:
    """Return how the library feeds images to a network, without building it.

    Raises
    ------
    EncoderError
        If the library has no such network, or no weights for it.
    ImportError
        If the library is not installed.
    """
    return _timm_config(name) if name.package == "timm" else _torchvision_config(name)


def build_pretrained(
    name: PretrainedName, size: tuple[int, int] | None, *, weights: bool = True
) -> PretrainedEncoder:
    """Build a pretrained encoder.

    Parameters
    ----------
    name : PretrainedName
    size : (int, int) or None
        Height and width that the network sees; None for those that the library names.
    weights : bool, default=True
        False leaves the weights untrained: nothing is downloaded, and no file is opened.

    Raises
    ------
    EncoderError
        If the library has no such network, if weights cannot be found or do not fit, or if the
        network does not take images of this size.
    ImportError
        If the library is not installed.
    """
    config = input_config(name)
    if not weights and max(size or config.size) > max(_LARGEST_WITHOUT_WEIGHTS, *config.size):
        raise EncoderError(
            f"encoder={name.without_path!r} at {size} pixels is not built without weights, "
            f"expected at most {_LARGEST_WITHOUT_WEIGHTS}. Check where the file comes from."
        )
    config = config._replace(size=size or config.size)
    build = _timm_network if name.package == "timm" else _torchvision_network
    return PretrainedEncoder(build(name, config.size, weights=weights), config)


def _timm() -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise ImportError(
            "encoder='timm/...' needs the package timm, which is not installed. Install it with "
            "pip install 'deepcluster_sk[pretrained]'."
        ) from error
    module: ModuleType = timm
    return module


def _timm_config(name: PretrainedName) -> InputConfig:
    timm = _timm()
    # other names that timm takes, such as hf-hub:..., would fetch the architecture from the network
    architecture, _, tag = name.model.partition(".")
    if architecture not in timm.list_models():
        _refuse_unknown(name, timm.list_models(pretrained=True, include_tags=bool(tag)))
    tags = timm.list_pretrained(f"{architecture}.*")
    if "." in name.model and name.model not in tags:
        _refuse_unknown(name, tags)
    if not tags and not name.path:
        raise EncoderError(
            f"timm has no trained weights for encoder={name.without_path!r}. Pass a name from "
            "timm.list_pretrained(), or a file of weights as 'timm/NAME:PATH'."
        )
    settings = timm.get_pretrained_cfg(name.model)
    _, height, width = settings.input_size
    interpolation: Interpolation = "bicubic"
    if settings.interpolation in ("nearest", "bilinear"):
        interpolation = settings.interpolation
    return InputConfig(
        (height, width),
        interpolation,
        settings.mean,
        settings.std,
        float(settings.crop_pct),
        settings.crop_mode == "center",
    )


def _timm_network(name: PretrainedName, size: tuple[int, int], *, weights: bool) -> nn.Module:
    timm = _timm()
    settings = timm.get_pretrained_cfg(name.model)
    options: dict[str, Any] = {}
    if settings.fixed_input_size and size != settings.input_size[1:]:
        options["img_size"] = size  # position embeddings are interpolated
    if not weights:
        return _built(name, lambda: timm.create_model(name.model, num_classes=0, **options))
    if not name.path:
        return _fetched(
            name,
            lambda: timm.create_model(name.model, pretrained=True, num_classes=0, **options),
            "HF_HOME, and stays offline with HF_HUB_OFFLINE=1",
        )
    state = read_weights(name.path)
    first = settings.classifier  # distilled networks have two
    first = first[0] if isinstance(first, tuple) else first
    classifier = state.get(f"{first}.weight")
    n_classes = 0 if classifier is None else len(classifier)
    # with the number of classes of the file, timm refuses weights of another architecture
    overlay = {"state_dict": state, "num_classes": n_classes, "custom_load": False}
    network: nn.Module = _built(
        name,
        lambda: timm.create_model(
            name.model,
            pretrained=True,
            num_classes=n_classes,
            pretrained_cfg_overlay=overlay,
            **options,
        ),
    )
    if n_classes:
        network.reset_classifier(0)  # type: ignore[operator]
    for settings_of_network in (network.pretrained_cfg, network.default_cfg):
        settings_of_network.pop("state_dict", None)  # type: ignore[operator, union-attr]
    return network


def _torchvision_config(name: PretrainedName) -> InputConfig:
    import torchvision

    models = torchvision.models.list_models(torchvision.models)
    if name.model not in models:
        _refuse_unknown(name, models)
    transforms = torchvision.models.get_model_weights(name.model).DEFAULT.transforms()
    (side,) = transforms.crop_size
    (resized,) = transforms.resize_size
    return InputConfig(
        (side, side),
        transforms.interpolation.value,
        tuple(transforms.mean),
        tuple(transforms.std),
        min(1.0, side / resized),
    )


def _torchvision_network(
    name: PretrainedName, size: tuple[int, int], *, weights: bool
) -> nn.Module:
    import torchvision

    make = torchvision.models.get_model
    options: dict[str, Any] = {}  # what the library sets together with its weights
    if weights and not name.path:
        network: nn.Module = _fetched(
            name, lambda: make(name.model, weights="DEFAULT"), "TORCH_HOME"
        )
        for auxiliary in _WITH_AUXILIARIES.get(name.model, ()):
            setattr(network, auxiliary.removesuffix("."), None)
            network.aux_logits = False  # type: ignore[assignment]
    else:
        if name.model in _WITH_AUXILIARIES:
            options = {"aux_logits": False, "transform_input": True, "init_weights": False}
        elif name.model.startswith("vit_"):
            options = {"image_size": size[0]}
        network = _built(name, lambda: make(name.model, weights=None, **options))
        if weights:
            _load(network, name)
    drop_classifier(network)
    return network


def drop_classifier(network: nn.Module) -> None:
    """Let a classifier of torchvision return what its last layer sees."""
    if type(network).__name__ == "SqueezeNet":  # whose last layer is a convolution
        setattr(network.classifier, "1", nn.Identity())
        return
    last = [path for path, part in network.named_modules() if isinstance(part, nn.Linear)][-1:]
    for path in last:
        parent, _, own = path.rpartition(".")
        setattr(network.get_submodule(parent), own, nn.Identity())


def _load(network: nn.Module, name: PretrainedName) -> None:
    """Load the weights of a file."""
    left_out = _WITH_AUXILIARIES.get(name.model, ())
    state = read_weights(name.path)
    state = {key: x for key, x in state.items() if not key.startswith(tuple(left_out))}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        _refuse_weights(name, error)


def read_weights(path: str) -> dict[str, Tensor]:
    """Read a file of weights. Nothing in it is executed.

    Parameters
    ----------
    path : str
        A file in the safetensors format, or one that ``torch.save`` wrote.

    Raises
    ------
    EncoderError
        If there is no such file, or if it holds anything but tensors by name.
    """
    if not Path(path).is_file():
        raise EncoderError(
            f"There is no file of weights {path!r}. Pass encoder='LIBRARY/NAME:PATH' with the path "
            "of a file, or leave out ':PATH' for the weights of the library."
        )
    is_safe = path.lower().endswith(".safetensors")
    if not is_safe and torch.__version__ < _SAFE_TORCH:
        raise EncoderError(
            f"{path!r} is not in the safetensors format, and torch {torch.__version__} may execute "
            f"code in other files. Install torch >= {_SAFE_TORCH}, or write the weights with "
            "safetensors.torch.save_file."
        )
    try:
        if is_safe:
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files make torch raise errors of many kinds
        raise EncoderError(
            f"{path!r} is no file of weights: it is damaged, or holds more than tensors "
            f"({type(error).__name__}). Expected .safetensors, or what "
            "torch.save(network.state_dict(), PATH) writes."
        ) from error
    for key in _NESTED:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    is_state = isinstance(state, dict) and all(isinstance(x, Tensor) for x in state.values())
    if not is_state:
        raise EncoderError(
            f"The file of weights {path!r} holds {type(state).__name__}, expected tensors by name, "
            "as torch.save(network.state_dict(), PATH) writes them."
        )
    tensors: dict[str, Tensor] = state
    return tensors


def _built(name: PretrainedName, build: Callable[[], nn.Module]) -> nn.Module:
    """Build a network, with the weights of a file if the name has one."""
    try:
        return build()
    except (RuntimeError, KeyError, AssertionError, TypeError, ValueError) as error:
        _refuse_weights(name, error)


def _fetched(name: PretrainedName, build: Callable[[], nn.Module], cache: str) -> nn.Module:
    """Build a network with weights that the library downloads, or has in its cache."""
    try:
        return build()
    except Exception as error:  # errors of the network have many kinds
        first = str(error).strip().partition("\n")[0]
        raise EncoderError(
            f"The weights of encoder={name.without_path!r} cannot be loaded, neither from the "
            f"cache of {name.package} nor from the network: {type(error).__name__}: {first} "
            f"Download them where there is a network, and either copy the cache ({name.package} "
            f"finds it by {cache}), or pass the file itself as "
            f"encoder='{name.without_path}:PATH'."
        ) from error


def _refuse_weights(name: PretrainedName, error: Exception) -> NoReturn:
    """Say that weights do not fit."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = " ".join(lines[:2])
    said = said if len(said) < 300 else said[:300] + "..."
    raise EncoderError(
        f"The weights in {name.path!r} do not fit {name.without_path!r}: {said} "
        "Pass the name of the network that they were trained in, or another image_size."
    ) from error


def _refuse_unknown(name: PretrainedName, known: list[str]) -> NoReturn:
    """Say that a library has no such network, and name similar ones."""
    near = difflib.get_close_matches(name.model, known, n=3, cutoff=_SIMILARITY)
    similar = f" Similar: {', '.join(f'{name.package}/{model}' for model in near)}." if near else ""
    listing = (
        "timm.list_pretrained()"
        if name.package == "timm"
        else "torchvision.models.list_models(torchvision.models)"
    )
    raise EncoderError(
        f"encoder={name.without_path!r} is unknown: {name.package} has no network of this name."
        f"{similar} Expected '{name.package}/NAME' with a name from {listing}."
    )
