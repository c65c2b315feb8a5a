"""Where the service's process writes its log: to stderr, one line per event, for people or for machines."""

from __future__ import annotations

import logging
import os
import sys
from typing import Literal

import structlog
from structlog.typing import Processor

from asyncmem.logs import add_permit

__all__ = ["configure_logging", "quieten_libraries"]


def configure_logging(log_format: Literal["console", "json"]) -> None:
    """Send structlog's events, and what libraries log through the standard library, to stderr in one format.

    Changes the whole process, so only a command may call it.

    Args:
        log_format: ``console`` for people, ``json`` for machines.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        add_permit,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    final: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if log_format == "json":
        final += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        colors = sys.stderr.isatty() and "NO_COLOR" not in os.environ
        plain = structlog.dev.plain_traceback  # rich's would print the values of local variables, texts among them
        final.append(structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=final))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for ours in ("asyncmem", "asyncmem_services"):
        logging.getLogger(ours).setLevel(logging.INFO)
    logging.captureWarnings(capture=True)


def quieten_libraries() -> None:
    """Keep progress bars and hints of the model's libraries out of the log; what the caller has set stays.

    Has to run before they are imported, and changes the process's environment, so only a command may call it.
    """
    for name, value in {
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",  # one tokenizer thread beside the inference thread is what there is to be
        "TRANSFORMERS_VERBOSITY": "error",
        "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    }.items():
        os.environ.setdefault(name, value)
