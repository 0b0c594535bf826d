import json
import time
import uuid

import httpx

api = httpx.Client(
    base_url="{{ base }}/api/v1",
    headers={"Authorization": "Bearer {{ key }}"},
    timeout=30,
)

# One key for each picture that you want: a repeat of this call cannot order it twice.
created = api.post(
    "/jobs/createTask",
    headers={"Idempotency-Key": str(uuid.uuid4())},
    json={"model": "flux-2/pro-text-to-image", "input": {"prompt": "A red fox in the snow"}},
)
created.raise_for_status()
task_id = created.json()["data"]["taskId"]

while True:
    task = api.get("/jobs/recordInfo", params={"taskId": task_id}).json()["data"]
    if task["state"] in ("success", "fail"):
        break
    time.sleep(2)

if task["state"] == "fail":
    raise SystemExit(task["failMsg"])
[url] = json.loads(task["resultJson"])["resultUrls"]
with open("fox.jpg", "wb") as file:
    file.write(httpx.get(url, follow_redirects=True).content)
print(task["creditsCharged"], "credits charged")
