"""The client of a server: submit a job, follow it, read its results, compare two.

from api.client import Client, read_submission

client = Client("http://127.0.0.1:8000")
job_id = client.submit(read_submission(Path("models"), {"profiles": ["bytes"]}))
"""

from api.client.difference import Change, Comparison, compare_jobs
from api.client.errors import AwayError
from api.client.jobs import Client
from api.client.manifest import Submission, read_submission

__all__ = [
    "AwayError",
    "Change",
    "Client",
    "Comparison",
    "Submission",
    "compare_jobs",
    "read_submission",
]
