from standardwebhooks import Webhook  # pip install standardwebhooks


def is_ours(body: bytes, headers: dict[str, str], secret: str) -> bool:
    """`body` is the raw body; `secret` begins with whsec_ and stands under Settings, Webhooks."""
    try:
        Webhook(secret).verify(body, headers)
    except Exception:
        return False
    return True
