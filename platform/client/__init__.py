"""The Python client of the HTTP API. Needs httpx, and nothing of what serves the API."""

from jobplatform.client.calls import Client
from jobplatform.client.jobs import FINAL, Event, Job, JobError, Progress

__all__ = ["FINAL", "Client", "Event", "Job", "JobError", "Progress"]
