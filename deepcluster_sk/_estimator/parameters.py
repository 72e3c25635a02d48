"""How an estimator class declares its parameters, and what follows from the declaration.

A parameter is an annotated field: its name, its kind (type and constraint) and its default stand in
one line, and its description in the docstring of the class. :func:`with_parameters` makes the
constructor, the constraints that scikit-learn checks, and the finished docstring. The constructor
is explicit for ``help``, for :func:`inspect.signature`, which scikit-learn reads, and for type
checkers, which know fields from dataclasses.
"""

from dataclasses import dataclass, field, fields
from inspect import Parameter, Signature
from typing import Any, TypeVar, dataclass_transform, get_type_hints

from .._training.objective import Settings
from .documentation import finished_docstring

T = TypeVar("T")


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(field,))
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
    """
    described = cls.__doc__  # a dataclass makes up a docstring where there is none
    cls = dataclass(kw_only=True, eq=False, repr=False, match_args=False)(cls)
    names = parameter_names(cls)
    for name in names:
        if name in vars(cls):  # a default is not an attribute of the class
            delattr(cls, name)
    hints = get_type_hints(cls, include_extras=True)
    constraints = {name: list(hints[name].__metadata__) for name in names}
    cls._parameter_constraints = constraints  # type: ignore[attr-defined]
    shared = getattr(cls, "_shared_parameters", tuple(names))
    cls._shared_parameters = shared  # type: ignore[attr-defined]
    own = [name for name in names if name not in shared]
    order = [*shared[:1], *own, *shared[1:]]
    cls.__init__.__signature__ = _signature(cls, order, hints)  # type: ignore[attr-defined]
    cls.__doc__ = finished_docstring(described, cls.__name__, order) if own else described
    return cls


def parameter_names(cls: type) -> list[str]:
    """Return the names of all parameters of an estimator class."""
    return [f.name for f in fields(cls)]


def parameters_of(estimator: Any) -> Settings:
    """Return all parameters of an estimator, also those that a subclass hides from users."""
    return Settings(**{name: getattr(estimator, name) for name in parameter_names(type(estimator))})


def own_parameters(cls: type) -> list[str]:
    """Return the names of the parameters that a class does not share with all others."""
    shared = cls._shared_parameters  # type: ignore[attr-defined]
    return [name for name in parameter_names(cls) if name not in shared]


def _signature(cls: type, order: list[str], hints: dict[str, Any]) -> Signature:
    """Return the signature of the constructor, with plain types."""
    by_name = {f.name: f for f in fields(cls)}
    parameters = [Parameter("self", Parameter.POSITIONAL_OR_KEYWORD)]
    for name in order:
        kind = Parameter.KEYWORD_ONLY if by_name[name].kw_only else Parameter.POSITIONAL_OR_KEYWORD
        plain = hints[name].__origin__
        parameters.append(Parameter(name, kind, default=by_name[name].default, annotation=plain))
    return Signature(parameters, return_annotation=None)
