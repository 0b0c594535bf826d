import uuid

from openai import OpenAI

client = OpenAI(base_url="{{ base }}/v1", api_key="{{ key }}")

made = client.images.generate(
    model="flux-2/pro-text-to-image",
    prompt="A red fox in the snow",
    size="1536x1024",
    extra_headers={"Idempotency-Key": str(uuid.uuid4())},
    extra_body={"seed": 7},
)
print(made.data[0].url)
