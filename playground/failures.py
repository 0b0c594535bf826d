"""Why jobs fail: the codes that are kept with them, and what people read."""

from playground.models import Job

# Failures after which the upstream may go on all the same.
GIVEN_UP = ("timed_out", "outcome_unknown", "given_up")
EXPLAINED = {
    "moderated": "The model's safety filter refused this prompt or its picture.",
    "rejected": "The upstream did not accept this request.",
    "upstream_failed": "The upstream could not make this picture.",
    "upstream_unavailable": "The upstream is not available at the moment.",
    "no_picture": "The upstream said it was done, but had no picture to give.",
    "bad_picture": "What the upstream sent was not a whole picture.",
    "timed_out": "It took too long, so we stopped waiting.",
    "outcome_unknown": "The connection broke while it was being sent, and the upstream never answered.",
    "limit_reached": "The house's limit for this upstream is used up for today. It starts afresh at midnight UTC.",
    "input_gone": "An input picture of this run has been removed, so it cannot be made.",
    "input_unreachable": "An input picture could not be fetched from its address.",
    "input_refused": "What lies at an input picture's address cannot be used.",
    "given_up": "The operator ended this job.",
}


def why(job: Job) -> str:
    """Why a failed job failed, in plain words."""
    return EXPLAINED.get(job.failure, "It failed for a reason that we do not know.")
