"""Check that a tensor holds exactly as many numbers as its dimensions and its type declare.

Its bytes, or the numbers in the field of its type, are counted before anybody reads them: ONNX's own checker lets a
tensor pass that holds more than its dimensions say, and each of its readers fails in a way of its own. Knows ONNX's
TensorProto (the comments of onnx.proto3 say which field holds which type, and how); knows nothing of files.
"""

from __future__ import annotations

import math

from onnx import TensorProto

BITS: dict[int, int] = {  # of one element; complex numbers are two
    **dict.fromkeys((TensorProto.INT2, TensorProto.UINT2), 2),
    **dict.fromkeys((TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT4E2M1), 4),
    **dict.fromkeys((TensorProto.INT8, TensorProto.UINT8, TensorProto.BOOL), 8),
    **dict.fromkeys((TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E4M3FNUZ, TensorProto.FLOAT8E5M2), 8),
    **dict.fromkeys((TensorProto.FLOAT8E5M2FNUZ, TensorProto.FLOAT8E8M0), 8),
    **dict.fromkeys((TensorProto.INT16, TensorProto.UINT16, TensorProto.FLOAT16, TensorProto.BFLOAT16), 16),
    **dict.fromkeys((TensorProto.INT32, TensorProto.UINT32, TensorProto.FLOAT), 32),
    **dict.fromkeys((TensorProto.INT64, TensorProto.UINT64, TensorProto.DOUBLE, TensorProto.COMPLEX64), 64),
    TensorProto.COMPLEX128: 128,
}
FIELDS: dict[int, str] = {  # where numbers stand that are not in raw_data; types that are not here: int32_data
    TensorProto.FLOAT: "float_data",
    TensorProto.COMPLEX64: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.COMPLEX128: "double_data",
    TensorProto.INT64: "int64_data",
    TensorProto.UINT32: "uint64_data",
    TensorProto.UINT64: "uint64_data",
    TensorProto.STRING: "string_data",
}
ALL_FIELDS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")
BYTE = 8


def element_count(tensor: TensorProto) -> int:
    """Elements that its dimensions declare, however many that are."""
    return math.prod(int(extent) for extent in tensor.dims)


def declared_bytes(tensor: TensorProto) -> int:
    """Bytes that its dimensions and type declare; a string counts as one."""
    return -(-element_count(tensor) * BITS.get(tensor.data_type, BYTE) // BYTE)


def check_content(tensor: TensorProto) -> None:
    """Check how many numbers a tensor holds inside the file.

    Raises:
        ValueError: it holds more or less than it declares, in another type's field, or text that is not UTF-8.
    """
    if tensor.data_location == TensorProto.EXTERNAL:
        return
    kind = tensor.data_type
    if kind != TensorProto.STRING and kind not in BITS:
        raise ValueError(f"{_called(tensor)} is of type {_type_name(kind)}, which cannot be read")
    elements = element_count(tensor)
    counts = {name: len(getattr(tensor, name)) for name in ALL_FIELDS}
    field = FIELDS.get(kind, "int32_data")
    if tensor.HasField("raw_data") and (tensor.raw_data or not counts[field]):
        if kind == TensorProto.STRING:
            raise ValueError(f"{_called(tensor)} holds text as raw bytes; the file is damaged")
        _check_count(tensor, declared_bytes(tensor), len(tensor.raw_data), "bytes")
        return  # numbers said a second time are nobody's: ONNX Runtime reads the raw ones (rewrites.irregular)
    _check_count(tensor, _entries(kind, elements), counts.pop(field), "numbers")
    if any(counts.values()):
        raise ValueError(f"{_called(tensor)} holds numbers in more than one place; the file is damaged")
    if kind == TensorProto.STRING:
        for text in tensor.string_data:
            _check_text(tensor, text)


def _entries(kind: int, elements: int) -> int:
    """Entries of the typed field: two for a complex number; small types are packed into bytes, one byte an entry."""
    if kind in (TensorProto.COMPLEX64, TensorProto.COMPLEX128):
        return 2 * elements
    bits = BITS.get(kind, BYTE)
    return -(-elements * bits // BYTE) if bits < BYTE else elements


def _check_count(tensor: TensorProto, declared: int, actual: int, unit: str) -> None:
    if declared != actual:
        raise ValueError(
            f"{_called(tensor)} declares {list(tensor.dims)[:8]} of {_type_name(tensor.data_type)}, {declared} {unit}, "
            f"and holds {actual}; the file is damaged"
        )


def _check_text(tensor: TensorProto, text: bytes) -> None:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{_called(tensor)} holds text that is not UTF-8; the file is damaged") from error


def _called(tensor: TensorProto) -> str:
    return f"tensor {tensor.name[:60]!r}"


def _type_name(kind: int) -> str:
    try:
        return str(TensorProto.DataType.Name(kind))
    except ValueError:
        return f"number {kind}"
