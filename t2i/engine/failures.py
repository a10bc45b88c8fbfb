"""What a client is told of a request that failed: one sentence, and whether it may succeed another time."""

from __future__ import annotations

import logging

from t2i.api import CheckpointError, EngineError, Failed, InvalidRequest
from t2i.engine.runner import OUT_OF_MEMORY

logger = logging.getLogger(__name__)


def failure(request_id: str, error: Exception) -> Failed:
    """The event that tells of `error`; what no one foresaw goes to the log and gets a plain sentence."""
    match error:
        case InvalidRequest():
            return Failed(request_id=request_id, code="invalid", message=str(error))
        case CheckpointError():
            return Failed(request_id=request_id, code="checkpoint", message=str(error))
        case _ if isinstance(error, OUT_OF_MEMORY):
            message = "There was not enough memory for this request: ask for fewer or smaller images."
            return Failed(request_id=request_id, code="memory", message=message, retryable=True)
        case EngineError(code="memory" | "numerics" as code):
            return Failed(request_id=request_id, code=code, message=str(error), retryable=error.retryable)
        case EngineError():
            return Failed(request_id=request_id, code="engine", message=str(error), retryable=error.retryable)
    logger.error("request %s failed", request_id, exc_info=error)
    message = "The image engine could not draw this: try again, and tell the operator when it happens twice."
    return Failed(request_id=request_id, code="engine", message=message)
