"""Expressions of symbolic sizes in a PyTorch program: the small grammar that may reach sympy, which evaluates them.

    expression  number, symbol, Symbol('s0', positive=True, integer=True), Integer(2), Float('0.5', precision=53),
                expression (+ - * / // % and one comparison) expression, -expression, expression ** small,
                a function of FUNCTIONS of expressions
    small       an integer from -1 to 8

So it calls nothing but arithmetic, and its value is no longer than the text allows. Knows Python's own parser, which
only reads; does not import sympy.
"""

from __future__ import annotations

import ast
import re
import warnings

LENGTH = 10_000  # characters; the sizes of a U-Net at a free height and width take 3,000
DEPTH = 60  # of calls in calls; each strided layer adds three
BITS = 4_096  # of the value if every symbol had 64; a product of six sizes has 400
SYMBOL = re.compile(r"[a-z]{1,4}\d{1,5}(_\d{1,5})?|true|false", re.ASCII)  # torch counts up to a symbol's number
NUMBER = re.compile(r"-?\d{1,30}(\.\d{0,30})?(e[+-]?\d{1,2})?", re.ASCII)
POWERS = range(-1, 9)
FUNCTIONS = frozenset(
    """
    Add And CeilDiv CeilToInt CleanDiv Eq Equality FloatTrueDiv FloorDiv FloorToInt Ge GreaterThan Gt Identity
    IntTrueDiv Le LessThan Lt Max Min Mod ModularIndexing Mul Ne Not Or PythonMod Rational RoundToInt StrictGreaterThan
    StrictLessThan ToFloat TruncToFloat TruncToInt Unequality ceiling floor
    """.split()  # noqa: SIM905 - a list of strings would be four times as long
)
OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod)
COMPARISONS = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)


class _NoSizeError(Exception):
    """The expression is none of the grammar's."""


def is_size(expression: str) -> bool:
    """Whether an expression can only be a size, and a value of bounded length."""
    if len(expression) > LENGTH or not expression.isascii():
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(expression.strip(), mode="eval")
        return _bits(tree.body, 0) <= BITS
    except (SyntaxError, ValueError, MemoryError, RecursionError, _NoSizeError):
        return False


def _bits(node: ast.expr, depth: int) -> int:
    """How many binary digits the value of an expression may have."""
    if depth > DEPTH:
        raise _NoSizeError
    match node:
        case ast.Constant(value=bool()):
            return 1
        case ast.Constant(value=int() as value):
            return value.bit_length()
        case ast.Constant(value=float()):
            return 64
        case ast.Name(id=name) if SYMBOL.fullmatch(name):
            return 64
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            return _bits(operand, depth + 1)
        case ast.BinOp(left=base, op=ast.Pow(), right=power):
            return _power(base, power, depth)
        case ast.BinOp(left=left, op=operator, right=right) if isinstance(operator, OPERATORS):
            return _bits(left, depth + 1) + _bits(right, depth + 1) + 1
        case ast.Compare(left=left, ops=[comparison], comparators=[right]) if isinstance(comparison, COMPARISONS):
            return _bits(left, depth + 1) + _bits(right, depth + 1)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=keywords):
            return _call(name, arguments, keywords, depth)
    raise _NoSizeError


def _call(name: str, arguments: list[ast.expr], keywords: list[ast.keyword], depth: int) -> int:
    values = [each.value for each in arguments if isinstance(each, ast.Constant)]
    flags = {each.arg: each.value.value for each in keywords if isinstance(each.value, ast.Constant)}
    if len(flags) != len(keywords):
        raise _NoSizeError
    if name == "Symbol" and len(arguments) == 1 and values and isinstance(values[0], str):
        if SYMBOL.fullmatch(values[0]) and all(isinstance(value, bool) for value in flags.values()):
            return 64
    elif name == "Float" and len(arguments) == 1 and values and isinstance(values[0], str):
        if NUMBER.fullmatch(values[0]) and set(flags) <= {"precision"} and all(v == 53 for v in flags.values()):
            return 400  # of 1e99 made an integer
    elif not flags and name == "Integer" and len(arguments) == 1:
        return _bits(arguments[0], depth + 1)
    elif not flags and name in ("Pow", "PowByNatural") and len(arguments) == 2:
        return _power(arguments[0], arguments[1], depth)
    elif not flags and name in FUNCTIONS:
        return sum(_bits(each, depth + 1) + 1 for each in arguments)
    raise _NoSizeError


def _power(base: ast.expr, power: ast.expr, depth: int) -> int:
    match power:
        case ast.Call(func=ast.Name(id="Integer"), args=[inner], keywords=[]):
            power = inner
    match power:
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as exponent)):
            exponent = -exponent
        case ast.Constant(value=int() as exponent):
            pass
        case _:
            raise _NoSizeError
    if exponent not in POWERS:
        raise _NoSizeError
    return (_bits(base, depth + 1) + 1) * max(1, abs(exponent))
