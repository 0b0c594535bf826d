const base = "{{ base }}/api/v1";
const headers = { Authorization: "Bearer {{ key }}", "Content-Type": "application/json" };

const created = await fetch(`${base}/jobs/createTask`, {
  method: "POST",
  headers: { ...headers, "Idempotency-Key": crypto.randomUUID() },
  body: JSON.stringify({
    model: "flux-2/pro-text-to-image",
    input: { prompt: "A red fox in the snow" },
  }),
});
const reply = await created.json();
if (!created.ok) throw new Error(reply.msg);

let task;
do {
  await new Promise((wake) => setTimeout(wake, 2000));
  const asked = await fetch(`${base}/jobs/recordInfo?taskId=${reply.data.taskId}`, { headers });
  task = (await asked.json()).data;
} while (task.state !== "success" && task.state !== "fail");

if (task.state === "fail") throw new Error(task.failMsg);
console.log(JSON.parse(task.resultJson).resultUrls[0]);
