from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATE_UNSPECIFIED: _ClassVar[State]
    PROPOSED: _ClassVar[State]
    RUNNING: _ClassVar[State]
    FINISHED: _ClassVar[State]
    REFUSED: _ClassVar[State]
    FAILED: _ClassVar[State]
STATE_UNSPECIFIED: State
PROPOSED: State
RUNNING: State
FINISHED: State
REFUSED: State
FAILED: State

class Everything(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SignedRecord(_message.Message):
    __slots__ = ("record", "signature")
    RECORD_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    record: bytes
    signature: str
    def __init__(self, record: _Optional[bytes] = ..., signature: _Optional[str] = ...) -> None: ...

class Delivered(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AgreementDocument(_message.Message):
    __slots__ = ("document",)
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    document: bytes
    def __init__(self, document: _Optional[bytes] = ...) -> None: ...

class AgreementSummary(_message.Message):
    __slots__ = ("id", "version", "digest", "title", "members", "valid_until", "newest")
    ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    VALID_UNTIL_FIELD_NUMBER: _ClassVar[int]
    NEWEST_FIELD_NUMBER: _ClassVar[int]
    id: str
    version: int
    digest: str
    title: str
    members: _containers.RepeatedScalarFieldContainer[str]
    valid_until: str
    newest: bool
    def __init__(self, id: _Optional[str] = ..., version: _Optional[int] = ..., digest: _Optional[str] = ..., title: _Optional[str] = ..., members: _Optional[_Iterable[str]] = ..., valid_until: _Optional[str] = ..., newest: bool = ...) -> None: ...

class AgreementList(_message.Message):
    __slots__ = ("agreements",)
    AGREEMENTS_FIELD_NUMBER: _ClassVar[int]
    agreements: _containers.RepeatedCompositeFieldContainer[AgreementSummary]
    def __init__(self, agreements: _Optional[_Iterable[_Union[AgreementSummary, _Mapping]]] = ...) -> None: ...

class JobDocument(_message.Message):
    __slots__ = ("document",)
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    document: bytes
    def __init__(self, document: _Optional[bytes] = ...) -> None: ...

class JobName(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: str
    def __init__(self, job: _Optional[str] = ...) -> None: ...

class JobFilter(_message.Message):
    __slots__ = ("pending", "state", "agreement", "limit")
    PENDING_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    pending: bool
    state: _containers.RepeatedScalarFieldContainer[State]
    agreement: str
    limit: int
    def __init__(self, pending: bool = ..., state: _Optional[_Iterable[_Union[State, str]]] = ..., agreement: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class JobList(_message.Message):
    __slots__ = ("jobs",)
    JOBS_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[JobView]
    def __init__(self, jobs: _Optional[_Iterable[_Union[JobView, _Mapping]]] = ...) -> None: ...

class JobView(_message.Message):
    __slots__ = ("job", "document", "agreement", "version", "state", "pending", "started", "result", "members", "progress", "created")
    JOB_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    job: str
    document: bytes
    agreement: str
    version: int
    state: State
    pending: bool
    started: bool
    result: bool
    members: _containers.RepeatedCompositeFieldContainer[MemberView]
    progress: _containers.RepeatedCompositeFieldContainer[Loop]
    created: str
    def __init__(self, job: _Optional[str] = ..., document: _Optional[bytes] = ..., agreement: _Optional[str] = ..., version: _Optional[int] = ..., state: _Optional[_Union[State, str]] = ..., pending: bool = ..., started: bool = ..., result: bool = ..., members: _Optional[_Iterable[_Union[MemberView, _Mapping]]] = ..., progress: _Optional[_Iterable[_Union[Loop, _Mapping]]] = ..., created: _Optional[str] = ...) -> None: ...

class MemberView(_message.Message):
    __slots__ = ("member", "decision", "reasons", "ready", "outcome", "failure")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    member: str
    decision: str
    reasons: _containers.RepeatedScalarFieldContainer[str]
    ready: bool
    outcome: str
    failure: str
    def __init__(self, member: _Optional[str] = ..., decision: _Optional[str] = ..., reasons: _Optional[_Iterable[str]] = ..., ready: bool = ..., outcome: _Optional[str] = ..., failure: _Optional[str] = ...) -> None: ...

class Loop(_message.Message):
    __slots__ = ("name", "done", "turns")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    TURNS_FIELD_NUMBER: _ClassVar[int]
    name: str
    done: int
    turns: int
    def __init__(self, name: _Optional[str] = ..., done: _Optional[int] = ..., turns: _Optional[int] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("job", "approve", "why")
    JOB_FIELD_NUMBER: _ClassVar[int]
    APPROVE_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    job: str
    approve: bool
    why: str
    def __init__(self, job: _Optional[str] = ..., approve: bool = ..., why: _Optional[str] = ...) -> None: ...

class Cancellation(_message.Message):
    __slots__ = ("job", "why")
    JOB_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    job: str
    why: str
    def __init__(self, job: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class ResultDocument(_message.Message):
    __slots__ = ("result", "digest", "budgets")
    RESULT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    BUDGETS_FIELD_NUMBER: _ClassVar[int]
    result: bytes
    digest: str
    budgets: _containers.RepeatedCompositeFieldContainer[Budget]
    def __init__(self, result: _Optional[bytes] = ..., digest: _Optional[str] = ..., budgets: _Optional[_Iterable[_Union[Budget, _Mapping]]] = ...) -> None: ...

class Budget(_message.Message):
    __slots__ = ("dataset", "epsilon", "delta", "left", "until")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    EPSILON_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    dataset: str
    epsilon: float
    delta: float
    left: float
    until: str
    def __init__(self, dataset: _Optional[str] = ..., epsilon: _Optional[float] = ..., delta: _Optional[float] = ..., left: _Optional[float] = ..., until: _Optional[str] = ...) -> None: ...

class Head(_message.Message):
    __slots__ = ("member", "sequence", "digest", "signature")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    member: str
    sequence: int
    digest: str
    signature: str
    def __init__(self, member: _Optional[str] = ..., sequence: _Optional[int] = ..., digest: _Optional[str] = ..., signature: _Optional[str] = ...) -> None: ...
