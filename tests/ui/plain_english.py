"""English where another language should be: in what is shown, and in what a module tells people without a key."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

MISTAKES = ("UserError", "WorldError", "TooLarge", "NoLayer", "Waiting", "Error", "warn")
"""What is called with the words of a mistake or a warning: ``UserError`` and its like, Gradio's, and Python's."""

WORDS = re.compile(r"\b[A-Za-z]+ [A-Za-z]+\b")
SENTENCE = re.compile(r"(?:\b[A-Za-z]+[a-z']*[,;:]? ){2,}[A-Za-z]+")

Function = ast.FunctionDef | ast.AsyncFunctionDef
Assigned = ast.Assign | ast.AnnAssign | ast.NamedExpr


def english_in(shown: str) -> list[str]:
    """What reads like an English sentence: three words in a row."""
    return SENTENCE.findall(re.sub(r"<[^>]*>", "\n", shown))


def plain_english(path: Path) -> list[str]:
    """Words of mistakes and warnings in a module, and of what stands in them, that are made without ``text``."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    found = {words: call.lineno for call, within in _told(module, (module,))
             for words in _Reader(module, within).words(call.args[0])}  # fmt: skip
    return [f"{path.name}:{line}: {words}" for words, line in found.items()]


def _told(node: ast.AST, within: tuple[ast.AST, ...]) -> Iterator[tuple[ast.Call, tuple[ast.AST, ...]]]:
    """Calls that make a mistake or a warning, with the module and the functions that they stand in."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call) and child.args and _is_made(child.func):
            yield child, within
        yield from _told(child, (*within, child) if isinstance(child, Function) else within)


def _is_made(function: ast.expr) -> bool:
    """Whether a call makes one, by its name or as ``type(error)("...")``."""
    return _name(function) in MISTAKES or (isinstance(function, ast.Call) and _name(function.func) == "type")


def _is_code(words: str) -> bool:
    try:
        ast.parse(words, mode="eval")
    except SyntaxError:
        return False
    return True


def _name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


class _Reader:
    """Follows names and functions of a module to the English that an expression is made of."""

    def __init__(self, module: ast.Module, within: tuple[ast.AST, ...]) -> None:
        self.within, self.seen = within, set[ast.AST]()
        self.functions = {each.name: each for each in ast.walk(module) if isinstance(each, Function)}

    def words(self, node: ast.AST) -> Iterator[str]:
        """The literals in an expression that read like English."""
        if node in self.seen:
            return
        self.seen.add(node)
        parts: list[ast.AST] = []
        match node:
            case ast.Constant(value=str(value)):
                if WORDS.search(value) and not _is_code(value):
                    yield value
            case ast.Call(func=ast.Name(id="text"), keywords=figures):
                parts = [figure.value for figure in figures]
            case ast.Call(func=function, args=arguments):
                own = _name(function) in self.functions
                parts = [function, *(arguments if own or _name(function) in ("get", "join", "list") else ())]
            case ast.IfExp(body=body, orelse=orelse):
                parts = [body, orelse]
            case ast.Compare() | ast.Lambda():
                pass
            case _:
                yield from self._named(_name(node))
                parts = list(ast.iter_child_nodes(node))
        for part in parts:
            yield from self.words(part)

    def _named(self, name: str) -> Iterator[str]:
        """The same of what a name of the module stands for: what a function returns, what was assigned."""
        if name in self.functions:
            outer, self.within = self.within, (self.within[0], self.functions[name])
            for each in ast.walk(self.functions[name]):
                if isinstance(each, ast.Return) and each.value is not None:
                    yield from self.words(each.value)
            self.within = outer
            return
        for scope in reversed(self.within):
            nodes = scope.body if isinstance(scope, ast.Module) else ast.walk(scope)
            values = [each.value for each in nodes if isinstance(each, Assigned) and name in _targets(each)]
            for value in filter(None, values):
                yield from self.words(value)
            if values:
                return


def _targets(node: Assigned) -> set[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return {each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)}
