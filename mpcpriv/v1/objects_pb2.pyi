from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Object(_message.Message):
    __slots__ = ("nothing", "boolean", "integer", "real", "text", "raw", "list", "tuple", "mapping", "tensor", "ndarray", "size")
    NOTHING_FIELD_NUMBER: _ClassVar[int]
    BOOLEAN_FIELD_NUMBER: _ClassVar[int]
    INTEGER_FIELD_NUMBER: _ClassVar[int]
    REAL_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    LIST_FIELD_NUMBER: _ClassVar[int]
    TUPLE_FIELD_NUMBER: _ClassVar[int]
    MAPPING_FIELD_NUMBER: _ClassVar[int]
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    NDARRAY_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    nothing: Nothing
    boolean: bool
    integer: int
    real: float
    text: str
    raw: bytes
    list: Sequence
    tuple: Sequence
    mapping: Mapping
    tensor: Array
    ndarray: Array
    size: Sequence
    def __init__(self, nothing: _Optional[_Union[Nothing, _Mapping]] = ..., boolean: bool = ..., integer: _Optional[int] = ..., real: _Optional[float] = ..., text: _Optional[str] = ..., raw: _Optional[bytes] = ..., list: _Optional[_Union[Sequence, _Mapping]] = ..., tuple: _Optional[_Union[Sequence, _Mapping]] = ..., mapping: _Optional[_Union[Mapping, _Mapping]] = ..., tensor: _Optional[_Union[Array, _Mapping]] = ..., ndarray: _Optional[_Union[Array, _Mapping]] = ..., size: _Optional[_Union[Sequence, _Mapping]] = ...) -> None: ...

class Nothing(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Sequence(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[Object]
    def __init__(self, items: _Optional[_Iterable[_Union[Object, _Mapping]]] = ...) -> None: ...

class Mapping(_message.Message):
    __slots__ = ("keys", "values")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[Object]
    values: _containers.RepeatedCompositeFieldContainer[Object]
    def __init__(self, keys: _Optional[_Iterable[_Union[Object, _Mapping]]] = ..., values: _Optional[_Iterable[_Union[Object, _Mapping]]] = ...) -> None: ...

class Array(_message.Message):
    __slots__ = ("type", "dims", "data")
    class Type(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        TYPE_UNSPECIFIED: _ClassVar[Array.Type]
        BOOL: _ClassVar[Array.Type]
        UINT8: _ClassVar[Array.Type]
        INT8: _ClassVar[Array.Type]
        INT16: _ClassVar[Array.Type]
        INT32: _ClassVar[Array.Type]
        INT64: _ClassVar[Array.Type]
        FLOAT32: _ClassVar[Array.Type]
        FLOAT64: _ClassVar[Array.Type]
    TYPE_UNSPECIFIED: Array.Type
    BOOL: Array.Type
    UINT8: Array.Type
    INT8: Array.Type
    INT16: Array.Type
    INT32: Array.Type
    INT64: Array.Type
    FLOAT32: Array.Type
    FLOAT64: Array.Type
    TYPE_FIELD_NUMBER: _ClassVar[int]
    DIMS_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    type: Array.Type
    dims: _containers.RepeatedScalarFieldContainer[int]
    data: bytes
    def __init__(self, type: _Optional[_Union[Array.Type, str]] = ..., dims: _Optional[_Iterable[int]] = ..., data: _Optional[bytes] = ...) -> None: ...
