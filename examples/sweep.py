"""Submit a job to a server: every program of a folder, under two profiles and both objectives.

layout-planner serve
python examples/sweep.py models http://127.0.0.1:8000
"""

import sys
from pathlib import Path

from api.client import Client, read_submission

folder, server = sys.argv[1:]
client = Client(server)
submission = read_submission(
    Path(folder), {"profiles": ["bytes", "default"], "objectives": ["repack", "latency"]}
)
job_id = client.submit(submission)
for job in client.follow(job_id):
    print(f"{job['counts']['done']} of {job['total']} done")
for item in client.results(job_id):
    options, result = item["options"], item["result"]
    cost = f"{result['objective_cost']} {result['unit']}" if result else item["error"]
    print(item["input"], options["profile"], options["objective"], cost, sep=", ")
