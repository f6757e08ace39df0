"""The gateway's log: lines of JSON, with the id of the request that each came of."""

from workflows.log_lines import logging_of

LOGGING = logging_of(**{"gateway": "INFO", "uvicorn.error": "INFO"})
