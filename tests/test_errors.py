"""Errors are built in one place per folder, and a test matches the words of each."""

import ast
import textwrap
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import deepcluster_sk

PACKAGE = Path(deepcluster_sk.__file__).parent
TESTS = next(folder for folder in Path(__file__).parents if folder.name == "tests")

PLACES = ("errors", "_errors")  # names of a folder's module; a module of no folder has its own
LISTED = {  # exceptions that are built elsewhere, and why
    ("__init__", "AttributeError"): "what Python expects of a module's __getattr__",
    ("_cli.csv_files", "_fault"): "the function of errors for the first fault of a table",
    ("_runtime.distributed", "outcome[1]"): "the error of rank 0, raised again in the other ranks",
    ("_training.interrupts", "KeyboardInterrupt"): "Ctrl-C that waited for the end of an epoch",
    ("_training.objective", "AttributeError"): "what Python expects of a read-only attribute",
    ("_training.row_map", "self._diverged"): "errors.features_diverged, with its arguments",
}
LEAST = 12  # characters of a message that a test has to repeat in one piece


class Error(NamedTuple):
    """An error that the package can raise."""

    place: str
    """Module, and function or class of the exception."""
    words: str
    """Its constant text; a NUL stands for what is filled in."""


class Raise(NamedTuple):
    """A ``raise`` statement."""

    module: str
    line: int
    what: ast.expr


# ---- what the package raises


def module_name(path, folder):
    return ".".join(path.relative_to(folder).with_suffix("").parts)


def raises(tree, module):
    return [
        Raise(module, node.lineno, node.exc)
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise) and node.exc is not None
    ]


def is_from_the_place(what):
    """Whether an exception is built by a function of the folder's own module of errors."""
    return (
        isinstance(what, ast.Call)
        and isinstance(what.func, ast.Attribute)
        and isinstance(what.func.value, ast.Name)
        and what.func.value.id == "errors"
    )


def is_listed(found):
    built = found.what.func if isinstance(found.what, ast.Call) else found.what
    return (found.module, ast.unparse(built)) in LISTED


def misplaced(tree, module):
    """Raises that build their exception in a folder, but not in its module of errors."""
    if module.count(".") == 0 and module != "__init__":
        return []
    return [f for f in raises(tree, module) if not is_from_the_place(f.what) and not is_listed(f)]


def errors_of(tree, module):
    """The errors of a module of errors, or of a module that is its own place."""
    if module.rpartition(".")[2] in PLACES:
        tree = with_constants_in_place(tree)
        return [
            Error(f"{module}.{function.name}", words(function))
            for function in tree.body
            if isinstance(function, ast.FunctionDef) and not function.name.startswith("_")
        ]
    if module.count(".") or module == "__init__":
        return []
    return [
        Error(f"{module}:{found.line} {ast.unparse(found.what.func)}", words(found.what))
        for found in raises(tree, module)
        if isinstance(found.what, ast.Call)
        and not is_from_the_place(found.what)
        and not is_listed(found)
    ]


def with_constants_in_place(tree):
    """The tree of a module with its constant texts in place of their names."""
    known = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        if isinstance(node.value, ast.Constant)
    }

    class InPlace(ast.NodeTransformer):
        def visit_Name(self, node):
            return known.get(node.id, node)

    return InPlace().visit(tree)


def words(node):
    """The constant texts below a node but its docstring; NULs between and in place of values."""
    body = node.body if isinstance(node, ast.FunctionDef) else [node]
    if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) is not None:
        body = body[1:]
    return "\0".join(text for part in body for text in texts(part))


def texts(node):
    """Literal texts below a node, each f-string as one."""
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    if isinstance(node, ast.JoinedStr):
        values = [
            getattr(p, "value", p) if isinstance(p, ast.FormattedValue) else p for p in node.values
        ]
        parts = [v.value if isinstance(v, ast.Constant) else "\0" for v in values]
        inside = [t for v in values if not isinstance(v, ast.Constant) for t in texts(v)]
        return ["".join(map(str, parts)), *inside]
    return [text for child in ast.iter_child_nodes(node) for text in texts(child)]


# ---- what the tests match


def matched_words(tree):
    """Texts that tests pass to ``pytest.raises`` as ``match=``, or look for by ``in``."""
    found = []
    for function in [tree, *(n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef))]:
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and name_of(node.func).endswith("raises"):
                for keyword in node.keywords:
                    if keyword.arg == "match":
                        found += patterns(keyword.value, function)
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In):
                found += [text for text, is_regex in constants(node.left, function) if not is_regex]
    return sorted(set(found))


def name_of(function):
    """The name by which a function is called, without its module."""
    return getattr(function, "attr", getattr(function, "id", ""))


def patterns(node, function):
    return [literal(t) if is_regex else t for t, is_regex in constants(node, function, regex=True)]


def constants(node, function, *, regex=False):
    """Texts that an expression of a test may stand for, each with whether it is a regex."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "re.escape":
        return constants(node.args[0], function)
    if isinstance(node, ast.Name):
        return [
            pair
            for value in values_of(node.id, function)
            for pair in constants(value, function, regex=regex)
        ]
    return [(text, regex) for text in texts(node)]


def values_of(name, function):
    """What a name stands for in a test: the values that it is parametrized with."""
    found = []
    for decorator in getattr(function, "decorator_list", []):
        if not (isinstance(decorator, ast.Call) and len(decorator.args) > 1):
            continue
        names = [text.strip() for t in texts(decorator.args[0]) for text in t.split(",")]
        cases = getattr(decorator.args[1], "elts", [])
        if name in names and len(names) == 1:
            found += cases
        elif name in names:
            place = names.index(name)
            found += [case.elts[place] for case in cases if len(getattr(case, "elts", ())) > place]
    return found


def literal(pattern):
    """A regex with a NUL in place of everything in it that is not taken literally."""
    text, escaped = "", False
    for char in pattern:
        if escaped:
            text += "\0" if char.isalnum() else char
            escaped = False
        elif char == "\\":
            escaped = True
        else:
            text += "\0" if char in ".^$*+?{}[]()|" else char
    return text


# ---- both together


def untested(errors, tested):
    """Errors whose words no text of a test repeats better than those of all other errors."""
    seen = set()
    for text in tested:
        scores = {error: overlap(error.words, text) for error in errors}
        best = max(scores.values(), default=0)
        winners = [error for error, score in scores.items() if score == best]
        if best and len(winners) == 1:
            seen.add(winners[0])
    return [error for error in errors if error not in seen]


@cache
def pieces(text):
    """All pieces of the least length that contain nothing filled in."""
    found = {text[i : i + LEAST] for i in range(len(text) - LEAST + 1)}
    return {piece for piece in found if "\0" not in piece}


def overlap(message, text):
    """Characters that both have in common, in pieces; 0 if no piece is long enough."""
    if pieces(message).isdisjoint(pieces(text)):
        return 0
    blocks = SequenceMatcher(None, message, text, autojunk=False).get_matching_blocks()
    return sum(len(message[b.a : b.a + b.size].replace("\0", "")) for b in blocks if b.size > 3)


FILES = {module_name(path, PACKAGE): path for path in PACKAGE.rglob("*.py")}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in FILES.items()}
ERRORS = [error for name in sorted(TREES) for error in errors_of(TREES[name], name)]


def all_matched_words():
    """All texts that the other files match, in order."""
    paths = [path for path in TESTS.rglob("test_*.py") if path != Path(__file__)]
    trees = [ast.parse(path.read_text("utf-8")) for path in paths]
    return sorted({text for tree in trees for text in matched_words(tree)})


@pytest.mark.parametrize("module", sorted(TREES))
def test_exceptions_are_built_in_one_place(module):
    found = [f"line {f.line}: {ast.unparse(f.what)}" for f in misplaced(TREES[module], module)]
    assert not found, f"build these in the errors module of {module}'s folder: {found}"


def test_the_listed_exceptions_exist():
    found = {
        (f.module, ast.unparse(f.what.func if isinstance(f.what, ast.Call) else f.what))
        for name in sorted(TREES)
        for f in raises(TREES[name], name)
    }
    assert {pair for pair in LISTED if pair[0] in sorted(TREES)} <= found


def test_every_error_has_a_test_that_matches_its_words():
    missing = [f"{e.place}: {e.words!r}" for e in untested(ERRORS, all_matched_words())]
    assert not missing, "no test repeats the words of\n" + "\n".join(missing)


def test_every_error_is_raised():
    for name in sorted(TREES):
        if name.rpartition(".")[2] in PLACES:
            folder = name.partition(".")[0]
            text = "".join(p.read_text("utf-8") for p in (PACKAGE / folder).rglob("*.py"))
            unused = [
                e.place
                for e in errors_of(TREES[name], name)
                if f"errors.{e.place.rpartition('.')[2]}(" not in text
            ]
            assert not unused


# ---- the checks themselves, on made-up modules


def parsed(code):
    return ast.parse(textwrap.dedent(code))


MADE_UP = parsed(
    '''
    def negative(name, value):
        """Return the error for a number that is negative."""
        return ValueError(f"{name}={value}, expected a number from 0 on.")

    WAY_OUT = "Pass another one."

    def missing(path, others):
        more = f", nor {others} more" if others else ""
        return FileNotFoundError(f"There is no file {path!r}{more}. {WAY_OUT}")

    def _helper():
        return "no error"
    '''
)
MADE_UP_TESTS = [
    """
    @pytest.mark.parametrize(("value", "message"), [(-1, r"x=-1, expected a number from"), (2, 3)])
    def test_number(value, message):
        with pytest.raises(ValueError, match=message):
            f(value)
    """,
    """
    def test_file(capsys):
        with pytest.raises(FileNotFoundError, match=r"no file 'a\\.png'\\. Pass another one"):
            f()
    """,
]


def missing_in(tests):
    errors = errors_of(MADE_UP, "folder.errors")
    tested = {text for test in tests for text in matched_words(parsed(test))}
    return [error.place for error in untested(errors, sorted(tested))]


def test_made_up_errors_need_all_of_their_tests():
    assert missing_in(MADE_UP_TESTS) == []
    assert missing_in(MADE_UP_TESTS[1:]) == ["folder.errors.negative"]
    assert missing_in(MADE_UP_TESTS[:1]) == ["folder.errors.missing"]
    assert missing_in([]) == ["folder.errors.negative", "folder.errors.missing"]


@pytest.mark.parametrize(
    "pattern", ["expected a", r"expected .* number .* from .* 0", "x=-1", "is negative", ""]
)
def test_few_words_are_no_test_of_an_error(pattern):
    test = f"def test(): pytest.raises(ValueError, match={pattern!r})"
    assert missing_in([test, MADE_UP_TESTS[1]]) == ["folder.errors.negative"]


@pytest.mark.parametrize(
    "test",
    [
        'def test(): pytest.raises(ValueError, match="expected a number from 0 on")',
        'def test(): pytest.raises(ValueError, match=re.escape("x=[1], expected a number from"))',
        'def test(): pytest.raises(ValueError, match=f"{x}=-1, expected a number")',
        'def test(): assert "x=-1, expected a number" in str(error)',
    ],
)
def test_words_of_an_error_can_be_matched_in_several_ways(test):
    assert missing_in([test, MADE_UP_TESTS[1]]) == []


def test_two_errors_of_the_same_words_are_not_told_apart():
    twice = [
        Error("a", "\0, expected a number from 0 on."),
        Error("b", "\0, expected a number from 0 on."),
    ]
    assert untested(twice, ["x=-1, expected a number from 0 on"]) == twice


@pytest.mark.parametrize(
    ("code", "n_misplaced"),
    [
        ("raise errors.negative('x', 1)", 0),
        ("raise errors.negative('x', 1) from error", 0),
        ("raise", 0),
        ("raise ValueError('x is negative')", 1),
        ("raise ValueError", 1),
        ("raise error", 1),
        ("raise self._error('x')", 1),
    ],
)
def test_made_up_raises_are_judged(code, n_misplaced):
    assert len(misplaced(parsed(code), "folder.module")) == n_misplaced
    assert len(misplaced(parsed(code), "module")) == 0


def test_raises_of_a_module_of_no_folder_are_errors():
    code = "raise ValueError(f'{x} is too large, expected less')\nraise\nraise error"
    assert [error.words for error in errors_of(parsed(code), "module")] == [
        "\0 is too large, expected less"
    ]
