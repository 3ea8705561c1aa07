"""Every error llorch can end with, in one tree.

    LlorchError                       code                      HTTP  exit
    ├─ UsageError                     USAGE                      400   2
    ├─ InvalidRequest                 INVALID_REQUEST            400   2
    │  └─ ContextLengthExceeded       context_length_exceeded    400   1
    ├─ Unauthorised                   UNAUTHORISED               401   4
    │  └─ Forbidden                   FORBIDDEN                  403   4
    ├─ NotFound                       NOT_FOUND                  404   1
    │  ├─ ModelNotFound               model_not_found            404   1
    │  ├─ TaskNotFound                TASK_NOT_FOUND             404   1
    │  └─ WorkerNotFound              WORKER_NOT_FOUND           404   1
    ├─ MethodNotAllowed               METHOD_NOT_ALLOWED         405   1
    ├─ RequestTimeout                 REQUEST_TIMEOUT            408   1
    ├─ Conflict                       CONFLICT                   409   1
    │  └─ IdempotencyConflict         IDEMPOTENCY_CONFLICT       409   1
    ├─ OffsetLost                     OFFSET_LOST                410   1
    ├─ BodyTooLarge                   BODY_TOO_LARGE             413   2
    ├─ HeadersTooLarge                HEADERS_TOO_LARGE          431   2
    ├─ Refused                        REFUSED                    503   5
    │  ├─ AdmissionReject             ADMISSION_REJECT           429   5
    │  ├─ WorkerBusy                  WORKER_BUSY                503   5
    │  ├─ PoolUnavailable             POOL_UNAVAILABLE           503   5
    │  ├─ ModelLoading                MODEL_LOADING              503   5
    │  └─ ShuttingDown                SHUTTING_DOWN              503   5
    ├─ DeadlineExceeded               DEADLINE_EXCEEDED          504   6
    ├─ Cancelled                      CANCELLED                  499   1
    ├─ WorkerLost                     WORKER_LOST                502   1
    ├─ EngineFailed                   ENGINE_FAILED              500   1
    │  └─ EngineUnavailable           ENGINE_UNAVAILABLE         500   1
    ├─ ModelFileInvalid               MODEL_FILE_INVALID         422   1
    │  └─ ModelTooBig                 MODEL_TOO_BIG              422   1
    ├─ DownloadFailed                 DOWNLOAD_FAILED            502   1
    │  └─ ChecksumMismatch            CHECKSUM_MISMATCH          502   1
    ├─ StoreFailed                    STORE_FAILED               500   1
    │  └─ NoSpace                     NO_SPACE                   507   1
    ├─ BindFailed                     BIND_FAILED                500   1
    └─ Unreachable                    UNREACHABLE                502   3

A class knows everything but its message: the stable code, the HTTP status and the kind that an
OpenAI client expects in `type`, the exit code of a command, whether trying again can help, and a
default hint ("Try: ..."). Foreign exceptions are translated into one of these where they enter.
Two ways of ending are no errors and have exit codes of their own: 130 interrupted, 141 pipe closed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Fault:
    """One faulty field of a request: its path, the rule it breaks, and a sentence."""

    field: str
    constraint: str
    message: str


class LlorchError(Exception):
    """Something went wrong inside llorch."""

    code: ClassVar[str] = "INTERNAL"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    kind: ClassVar[str] = "server_error"
    retriable: ClassVar[bool] = False
    default_hint: ClassVar[str] = ""

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        faults: Sequence[Fault] = (),
        retry_after_ms: int | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.default_hint
        self.faults = tuple(faults)
        self.retry_after_ms = retry_after_ms
        self.extra = dict(extra or {})

    def as_dict(self) -> dict[str, Any]:
        """The value of `error` in an answer body: the shape of the API's error contract."""
        body: dict[str, Any] = {
            "code": self.code,
            "message": self.message,
            "type": self.kind,
            "param": self.faults[0].field if self.faults else None,
            "retriable": self.retriable,
        }
        if self.hint:
            body["hint"] = self.hint
        if self.retry_after_ms is not None:
            body["retry_after_ms"] = self.retry_after_ms
        if self.faults:
            body["details"] = [
                {"field": f.field, "constraint": f.constraint, "message": f.message}
                for f in self.faults
            ]
        return body | self.extra


class UsageError(LlorchError):
    """The command line asks for something that does not exist or contradicts itself."""

    code, status, exit_code, kind = "USAGE", 400, 2, "invalid_request_error"


class InvalidRequest(LlorchError):
    """The request is malformed; every faulty field is in `faults`."""

    code, status, exit_code, kind = "INVALID_REQUEST", 400, 2, "invalid_request_error"


class ContextLengthExceeded(InvalidRequest):
    """The prompt has more tokens than a slot has context for."""

    code, exit_code = "context_length_exceeded", 1
    default_hint = "shorten the prompt, or start the worker with a larger --ctx"

    @classmethod
    def of(cls, prompt_tokens: int, context_tokens: int) -> ContextLengthExceeded:
        """The error with both numbers, in words and in fields."""
        return cls(
            f"the prompt has {prompt_tokens} tokens, but the context holds {context_tokens}",
            extra={"n_prompt_tokens": prompt_tokens, "n_ctx": context_tokens},
        )


class Unauthorised(LlorchError):
    """No API key was sent, or one that is not known."""

    code, status, exit_code, kind = "UNAUTHORISED", 401, 4, "authentication_error"


class Forbidden(Unauthorised):
    """The API key is known but may not do this, or a web page asked that may not."""

    code, status, kind = "FORBIDDEN", 403, "permission_error"


class NotFound(LlorchError):
    """There is nothing at this address."""

    code, status, kind = "NOT_FOUND", 404, "not_found_error"


class ModelNotFound(NotFound):
    """No catalog, file or worker has a model of this name."""

    code = "model_not_found"


class TaskNotFound(NotFound):
    """The task was never accepted here, or its retention has ended."""

    code = "TASK_NOT_FOUND"


class WorkerNotFound(NotFound):
    """No worker of this id is known."""

    code = "WORKER_NOT_FOUND"


class MethodNotAllowed(LlorchError):
    """The address exists but does not take this method."""

    code, status, kind = "METHOD_NOT_ALLOWED", 405, "invalid_request_error"


class RequestTimeout(LlorchError):
    """The client took too long to send its request."""

    code, status, kind = "REQUEST_TIMEOUT", 408, "invalid_request_error"


class Conflict(LlorchError):
    """The request contradicts what is there."""

    code, status, kind = "CONFLICT", 409, "invalid_request_error"


class IdempotencyConflict(Conflict):
    """The same idempotency key was used with another body."""

    code = "IDEMPOTENCY_CONFLICT"


class OffsetLost(LlorchError):
    """The stream cannot be resumed from the given event id."""

    code, status, kind = "OFFSET_LOST", 410, "invalid_request_error"


class BodyTooLarge(LlorchError):
    """The request body is over the limit."""

    code, status, exit_code, kind = "BODY_TOO_LARGE", 413, 2, "invalid_request_error"


class HeadersTooLarge(LlorchError):
    """The request line and headers are over the limit."""

    code, status, exit_code, kind = "HEADERS_TOO_LARGE", 431, 2, "invalid_request_error"


class Refused(LlorchError):
    """Nothing is wrong with the request, but it cannot be taken now."""

    code, status, exit_code, kind = "REFUSED", 503, 5, "unavailable_error"
    retriable = True


class AdmissionReject(Refused):
    """The queue of the orchestrator is full."""

    code, status, kind = "ADMISSION_REJECT", 429, "rate_limit_error"


class WorkerBusy(Refused):
    """Every slot of the worker is taken and its waiting line is full."""

    code = "WORKER_BUSY"


class PoolUnavailable(Refused):
    """No live worker can take the task."""

    code = "POOL_UNAVAILABLE"


class ModelLoading(Refused):
    """The worker is still loading its model."""

    code = "MODEL_LOADING"


class ShuttingDown(Refused):
    """The daemon is draining and takes nothing new."""

    code = "SHUTTING_DOWN"


class DeadlineExceeded(LlorchError):
    """The deadline passed before the task could be answered."""

    code, status, exit_code, kind = "DEADLINE_EXCEEDED", 504, 6, "timeout_error"


class Cancelled(LlorchError):
    """The task was cancelled before its answer began."""

    code, status, kind = "CANCELLED", 499, "invalid_request_error"


class WorkerLost(LlorchError):
    """The worker died or was cut off while it ran the task."""

    code, status, retriable = "WORKER_LOST", 502, True


class EngineFailed(LlorchError):
    """The engine could not load the model or stopped while generating."""

    code = "ENGINE_FAILED"


class EngineUnavailable(EngineFailed):
    """This machine cannot run the engine or backend that was asked for."""

    code = "ENGINE_UNAVAILABLE"


class ModelFileInvalid(LlorchError):
    """The model file is absent, broken, truncated or of a kind no engine here loads."""

    code, status, kind = "MODEL_FILE_INVALID", 422, "invalid_request_error"


class ModelTooBig(ModelFileInvalid):
    """The model needs more memory than the device has free."""

    code = "MODEL_TOO_BIG"


class DownloadFailed(LlorchError):
    """A model file could not be fetched."""

    code, status, retriable = "DOWNLOAD_FAILED", 502, True


class ChecksumMismatch(DownloadFailed):
    """A file's SHA-256 is not the one that the catalog promises."""

    code, retriable = "CHECKSUM_MISMATCH", False


class StoreFailed(LlorchError):
    """A file of llorch's own could not be read or written."""

    code = "STORE_FAILED"


class NoSpace(StoreFailed):
    """The disk is full."""

    code, status = "NO_SPACE", 507


class BindFailed(LlorchError):
    """The address to listen on is taken, not ours, or not allowed."""

    code = "BIND_FAILED"


class Unreachable(LlorchError):
    """No answer from the address that a command or daemon was told to talk to."""

    code, status, exit_code, retriable = "UNREACHABLE", 502, 3, True
