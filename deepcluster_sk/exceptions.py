"""The errors that are raised by this package alone."""

__all__ = [
    "AugmentationError",
    "DeepClusterError",
    "DeviceError",
    "DivergenceError",
    "EncoderError",
    "ImageFileError",
    "OnnxExportError",
    "ResumeError",
    "SavedModelError",
]


class DeepClusterError(Exception):
    """Base class of the errors below."""


class AugmentationError(DeepClusterError, ValueError):
    """The augmentation does not fit the samples, or does not map a batch to one like it."""


class DeviceError(DeepClusterError, ValueError):
    """The requested device is not present on this machine."""


class EncoderError(DeepClusterError, ValueError):
    """The encoder is unknown or cannot be copied, or maps a batch to no finite rows of features."""


class DivergenceError(DeepClusterError, FloatingPointError):
    """The training loss became NaN or infinite."""


class ImageFileError(DeepClusterError, ValueError):
    """Image files are missing, empty or damaged, are not images, or a folder has no image files."""


class OnnxExportError(DeepClusterError, RuntimeError):
    """The networks have no counterpart in ONNX."""


class ResumeError(DeepClusterError, ValueError):
    """A checkpoint belongs to another fit, is damaged, or is not a checkpoint."""


class SavedModelError(DeepClusterError, ValueError):
    """A file is not a saved estimator, is damaged, or cannot be opened by this version."""
