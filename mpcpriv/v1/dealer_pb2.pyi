from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Deal(_message.Message):
    __slots__ = ("first", "requests")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    first: int
    requests: _containers.RepeatedCompositeFieldContainer[Request]
    def __init__(self, first: _Optional[int] = ..., requests: _Optional[_Iterable[_Union[Request, _Mapping]]] = ...) -> None: ...

class Request(_message.Message):
    __slots__ = ("triple", "square", "truncation", "threshold", "dabit", "shuffle")
    TRIPLE_FIELD_NUMBER: _ClassVar[int]
    SQUARE_FIELD_NUMBER: _ClassVar[int]
    TRUNCATION_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    DABIT_FIELD_NUMBER: _ClassVar[int]
    SHUFFLE_FIELD_NUMBER: _ClassVar[int]
    triple: Triple
    square: SquarePair
    truncation: TruncationMask
    threshold: ThresholdMask
    dabit: DaBit
    shuffle: Shuffle
    def __init__(self, triple: _Optional[_Union[Triple, _Mapping]] = ..., square: _Optional[_Union[SquarePair, _Mapping]] = ..., truncation: _Optional[_Union[TruncationMask, _Mapping]] = ..., threshold: _Optional[_Union[ThresholdMask, _Mapping]] = ..., dabit: _Optional[_Union[DaBit, _Mapping]] = ..., shuffle: _Optional[_Union[Shuffle, _Mapping]] = ...) -> None: ...

class Shape(_message.Message):
    __slots__ = ("dims",)
    DIMS_FIELD_NUMBER: _ClassVar[int]
    dims: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, dims: _Optional[_Iterable[int]] = ...) -> None: ...

class Triple(_message.Message):
    __slots__ = ("map", "x", "y", "x_mask", "y_mask")
    MAP_FIELD_NUMBER: _ClassVar[int]
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    X_MASK_FIELD_NUMBER: _ClassVar[int]
    Y_MASK_FIELD_NUMBER: _ClassVar[int]
    map: Bilinear
    x: Shape
    y: Shape
    x_mask: Mask
    y_mask: Mask
    def __init__(self, map: _Optional[_Union[Bilinear, _Mapping]] = ..., x: _Optional[_Union[Shape, _Mapping]] = ..., y: _Optional[_Union[Shape, _Mapping]] = ..., x_mask: _Optional[_Union[Mask, _Mapping]] = ..., y_mask: _Optional[_Union[Mask, _Mapping]] = ...) -> None: ...

class Mask(_message.Message):
    __slots__ = ("order", "words")
    ORDER_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    order: _containers.RepeatedScalarFieldContainer[int]
    words: Words
    def __init__(self, order: _Optional[_Iterable[int]] = ..., words: _Optional[_Union[Words, _Mapping]] = ...) -> None: ...

class Words(_message.Message):
    __slots__ = ("index", "start")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    index: int
    start: int
    def __init__(self, index: _Optional[int] = ..., start: _Optional[int] = ...) -> None: ...

class Bilinear(_message.Message):
    __slots__ = ("name", "stride", "padding", "output_padding", "dilation", "groups")
    class Name(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        NAME_UNSPECIFIED: _ClassVar[Bilinear.Name]
        MUL: _ClassVar[Bilinear.Name]
        MATMUL: _ClassVar[Bilinear.Name]
        CONV1D: _ClassVar[Bilinear.Name]
        CONV2D: _ClassVar[Bilinear.Name]
        CONV_TRANSPOSE1D: _ClassVar[Bilinear.Name]
        CONV_TRANSPOSE2D: _ClassVar[Bilinear.Name]
    NAME_UNSPECIFIED: Bilinear.Name
    MUL: Bilinear.Name
    MATMUL: Bilinear.Name
    CONV1D: Bilinear.Name
    CONV2D: Bilinear.Name
    CONV_TRANSPOSE1D: Bilinear.Name
    CONV_TRANSPOSE2D: Bilinear.Name
    NAME_FIELD_NUMBER: _ClassVar[int]
    STRIDE_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_PADDING_FIELD_NUMBER: _ClassVar[int]
    DILATION_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    name: Bilinear.Name
    stride: _containers.RepeatedScalarFieldContainer[int]
    padding: _containers.RepeatedScalarFieldContainer[int]
    output_padding: _containers.RepeatedScalarFieldContainer[int]
    dilation: _containers.RepeatedScalarFieldContainer[int]
    groups: int
    def __init__(self, name: _Optional[_Union[Bilinear.Name, str]] = ..., stride: _Optional[_Iterable[int]] = ..., padding: _Optional[_Iterable[int]] = ..., output_padding: _Optional[_Iterable[int]] = ..., dilation: _Optional[_Iterable[int]] = ..., groups: _Optional[int] = ...) -> None: ...

class SquarePair(_message.Message):
    __slots__ = ("shape",)
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    shape: Shape
    def __init__(self, shape: _Optional[_Union[Shape, _Mapping]] = ...) -> None: ...

class TruncationMask(_message.Message):
    __slots__ = ("shape", "bits")
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    BITS_FIELD_NUMBER: _ClassVar[int]
    shape: Shape
    bits: int
    def __init__(self, shape: _Optional[_Union[Shape, _Mapping]] = ..., bits: _Optional[int] = ...) -> None: ...

class ThresholdMask(_message.Message):
    __slots__ = ("elements", "thresholds", "degree", "shift")
    ELEMENTS_FIELD_NUMBER: _ClassVar[int]
    THRESHOLDS_FIELD_NUMBER: _ClassVar[int]
    DEGREE_FIELD_NUMBER: _ClassVar[int]
    SHIFT_FIELD_NUMBER: _ClassVar[int]
    elements: int
    thresholds: int
    degree: int
    shift: int
    def __init__(self, elements: _Optional[int] = ..., thresholds: _Optional[int] = ..., degree: _Optional[int] = ..., shift: _Optional[int] = ...) -> None: ...

class DaBit(_message.Message):
    __slots__ = ("shape",)
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    shape: Shape
    def __init__(self, shape: _Optional[_Union[Shape, _Mapping]] = ...) -> None: ...

class Shuffle(_message.Message):
    __slots__ = ("lines", "length", "columns")
    LINES_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    lines: int
    length: int
    columns: int
    def __init__(self, lines: _Optional[int] = ..., length: _Optional[int] = ..., columns: _Optional[int] = ...) -> None: ...
