curl -s {{ base }}/api/v1/jobs/createTask \
  -H "Authorization: Bearer {{ key }}" \
  -H "Content-Type: application/json" \
  -H "Idempotency-Key: $(date +%s)-$RANDOM" \
  -d '{"model": "flux-2/pro-text-to-image",
       "input": {"prompt": "A red fox in the snow", "aspect_ratio": "16:9"}}'
