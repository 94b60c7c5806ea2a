from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Packet(_message.Message):
    __slots__ = ("hello", "frame")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    frame: Frame
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., frame: _Optional[_Union[Frame, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("wire", "software", "job", "nonce", "facts")
    WIRE_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    wire: int
    software: str
    job: bytes
    nonce: bytes
    facts: _containers.RepeatedCompositeFieldContainer[Fact]
    def __init__(self, wire: _Optional[int] = ..., software: _Optional[str] = ..., job: _Optional[bytes] = ..., nonce: _Optional[bytes] = ..., facts: _Optional[_Iterable[_Union[Fact, _Mapping]]] = ...) -> None: ...

class Fact(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class Frame(_message.Message):
    __slots__ = ("kind", "sequence", "sender", "job", "epoch", "length", "payload", "culprit", "reason")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Frame.Kind]
        DATA: _ClassVar[Frame.Kind]
        FINISH: _ClassVar[Frame.Kind]
        ABORT: _ClassVar[Frame.Kind]
    KIND_UNSPECIFIED: Frame.Kind
    DATA: Frame.Kind
    FINISH: Frame.Kind
    ABORT: Frame.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    CULPRIT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    kind: Frame.Kind
    sequence: int
    sender: int
    job: bytes
    epoch: bytes
    length: int
    payload: bytes
    culprit: str
    reason: str
    def __init__(self, kind: _Optional[_Union[Frame.Kind, str]] = ..., sequence: _Optional[int] = ..., sender: _Optional[int] = ..., job: _Optional[bytes] = ..., epoch: _Optional[bytes] = ..., length: _Optional[int] = ..., payload: _Optional[bytes] = ..., culprit: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...
