"""AI Generate, kie.ai and every host of their shape: a task is started by one call, and another says where it is.

`provider` is the client, `endpoints` the two ways to order a picture, `answers` what the envelopes mean, and
`inputs` how input pictures get there.
"""

from playground.providers.aigenerate.provider import AIGenerate

__all__ = ["AIGenerate"]
