"""How an estimator class declares its parameters, and what follows from the declaration.

A parameter is an annotated field: its name, its kind (type and constraint) and its default stand in
one line, and its description in the docstring of the class. :func:`with_parameters` makes the
constructor, the constraints that scikit-learn checks, and the finished docstring. The signature of
the constructor is explicit for ``help`` and for :func:`inspect.signature`, which scikit-learn
reads. Type checkers read the fields as those of a dataclass.
"""

import inspect
from collections.abc import Callable
from inspect import Parameter, Signature
from typing import (
    Annotated,
    Any,
    ClassVar,
    TypeVar,
    dataclass_transform,
    get_origin,
    get_type_hints,
)

from .._training.objective import Settings
from . import errors
from .documentation import finished_docstring

T = TypeVar("T")

# shares of the training behind "auto": features are good enough to start from after so many steps,
# and in a longer training everything starts after as many
_STARTS = {"cluster_start": 0.3, "neighbor_start": 0.6}
_STARTED_STEPS = 560


def positional(*, default: Any, kw_only: bool) -> Any:
    """Return the default of a field that type checkers are to accept by position."""
    del kw_only
    return default


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(positional,))
def with_parameters(cls: type[T]) -> type[T]:
    """Make the constructor, the constraints and the docstring of an estimator class.

    Parameters
    ----------
    cls : type
        Its annotated fields are its parameters, in addition to those of the class that it derives
        from. A constraint is the metadata of ``Annotated``. Of its docstring, what the shared
        documentation has may be left out.

    Returns
    -------
    cls : type
        The same class. The constructor takes `n_clusters` by position and all others by keyword,
        the class's own ones first, and only stores them.

    Raises
    ------
    TypeError
        If a field has no kind or no default, or a parameter has no description.
    """
    estimator: Any = cls
    parent = next((base for base in cls.__mro__[1:] if "_parameter_fields" in vars(base)), None)
    inherited: dict[str, Parameter] = {} if parent is None else parent._parameter_fields  # type: ignore[attr-defined]
    hints = get_type_hints(cls, include_extras=True)
    own = {name: _take_field(cls, name, hints[name]) for name in _annotated(cls, hints)}
    estimator._parameter_fields = {**inherited, **own}
    estimator._shared_parameters = getattr(cls, "_shared_parameters", tuple(own))
    shared = estimator._shared_parameters
    order = [*shared[:1], *own_parameters(cls), *shared[1:]]
    estimator._parameter_constraints = {name: list(hints[name].__metadata__) for name in order}
    estimator.__init__ = _constructor(cls, order)
    if parent is not None:
        cls.__doc__ = finished_docstring(
            cls, parent, {name: estimator._parameter_fields[name].default for name in order}
        )
    return cls


def resolved(estimator: Any, n_clusters: int, *, join: bool, n_steps: int = 0) -> Settings:
    """Return all parameters of an estimator, also those that a subclass hides from users.

    Shares of the training are numbers, whatever the estimator has.

    Parameters
    ----------
    estimator : object
    n_clusters : int
        How many clusters are trained.
    join : bool
        Whether some of them may be joined in the end.
    n_steps : int, default=0
        Of the whole training; 0 if it is not known.
    """
    values = {name: getattr(estimator, name) for name in estimator._parameter_fields}
    starts = {
        name: share * min(1.0, _STARTED_STEPS / max(n_steps, 1))
        for name, share in _STARTS.items()
        if values[name] == "auto"
    }
    return Settings(**{**values, **starts, "n_clusters": n_clusters, "join": join})


def own_parameters(cls: Any) -> list[str]:
    """Return the names of the parameters that a class does not share with all others."""
    return [name for name in cls._parameter_fields if name not in cls._shared_parameters]


def _annotated(cls: type, hints: dict[str, Any]) -> list[str]:
    """Return the names of the fields that a class itself declares."""
    return [
        n for n in inspect.get_annotations(cls) if ClassVar not in (hints[n], get_origin(hints[n]))
    ]


def _take_field(cls: type, name: str, hint: Any) -> Parameter:
    """Return what a field declares; its default does not stay as an attribute of the class."""
    if get_origin(hint) is not Annotated:
        raise errors.field_without_kind(cls.__name__, name)
    if name not in vars(cls):
        raise errors.field_without_default(cls.__name__, name)
    default = vars(cls)[name]
    delattr(cls, name)
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=hint.__origin__)


def _constructor(cls: Any, order: list[str]) -> Callable[..., None]:
    """Return an ``__init__`` that only stores its arguments."""
    first, *others = (cls._parameter_fields[name] for name in order)
    by_position = [
        Parameter("self", Parameter.POSITIONAL_OR_KEYWORD),
        first.replace(kind=Parameter.POSITIONAL_OR_KEYWORD),
    ]
    signature = Signature([*by_position, *others], return_annotation=None)

    def construct(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            bound = signature.bind(self, *args, **kwargs)
        except TypeError as error:
            raise errors.unfit_arguments(cls.__name__, error) from None
        bound.apply_defaults()
        vars(self).update(list(bound.arguments.items())[1:])

    construct.__name__ = "__init__"
    construct.__qualname__ = f"{cls.__qualname__}.__init__"
    construct.__module__ = cls.__module__
    construct.__signature__ = signature  # type: ignore[attr-defined]
    return construct
