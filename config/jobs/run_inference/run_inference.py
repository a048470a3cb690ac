"""Answer one request: read in/<RUN_ID>.json from S3, and write out/<RUN_ID>.json."""

import json
import os

import boto3

BUCKET = "my-bucket"


def run_model(payload: dict) -> dict:
    """Return an example result, in place of work on the GPU."""
    numbers = payload["numbers"]
    return {"sum": sum(numbers), "largest": max(numbers)}


run_id = os.environ["RUN_ID"]
s3 = boto3.client("s3")
print(f"reading s3://{BUCKET}/in/{run_id}.json", flush=True)
payload = json.loads(s3.get_object(Bucket=BUCKET, Key=f"in/{run_id}.json")["Body"].read())
result = run_model(payload)
s3.put_object(Bucket=BUCKET, Key=f"out/{run_id}.json", Body=json.dumps(result))
print(f"wrote s3://{BUCKET}/out/{run_id}.json: {result}", flush=True)
