"""How a call is refused: our errors become gRPC's status, whatever else fails is logged once."""

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc import aio

from cluster.errors import ClusterError, InternalError
from cluster.status import code_of, details_of

log = logging.getLogger(__name__)


@asynccontextmanager
async def refusals(context: "aio.ServicerContext[Any, Any]") -> AsyncGenerator[None, None]:
    """Let errors of the block end the call as ``cluster.status`` says."""
    try:
        yield
    except InternalError as error:
        log.exception("a call failed")
        await context.abort(grpc.StatusCode.INTERNAL, details_of(error))
    except ClusterError as error:
        await context.abort(code_of(error), details_of(error))
    except aio.AbortError:
        raise
    except Exception as error:
        log.exception("a call failed")
        text = f"the manager failed with {type(error).__name__}: its log says more"
        await context.abort(grpc.StatusCode.INTERNAL, text)
