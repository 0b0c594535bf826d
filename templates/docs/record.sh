curl -s "{{ base }}/api/v1/jobs/recordInfo?taskId=$TASK_ID" \
  -H "Authorization: Bearer {{ key }}"
