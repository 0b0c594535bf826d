curl -s {{ base }}/v1/images/edits \
  -H "Authorization: Bearer {{ key }}" \
  -F image=@fox.jpg \
  -F prompt="Make it autumn" \
  -F model=flux-2/pro-image-to-image
