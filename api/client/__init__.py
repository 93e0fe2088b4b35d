"""The client of a server: plan there, submit jobs and follow them, look after devices.

from api.client import Client

with Client("http://127.0.0.1:8000") as client:
    plan = client.plan(Path("model.pte"), profile="bytes")
    print(client.report(plan.id).total.ratio)
"""

from api.client import documents
from api.client.client import AsyncClient, Client
from api.client.difference import Change, Comparison, compare_jobs
from api.client.errors import AwayError, RefusedError
from api.client.manifest import Submission, read_submission
from api.client.operations import ServerPlan

__all__ = [
    "AsyncClient",
    "AwayError",
    "Change",
    "Client",
    "Comparison",
    "RefusedError",
    "ServerPlan",
    "Submission",
    "compare_jobs",
    "documents",
    "read_submission",
]
