"""One settings file. Every choice an operator has is an environment variable; the table is in README.md."""

from pathlib import Path

from playground import environment as env

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = env.folder("DATA_DIR", BASE_DIR / "var")

# --- Security -----------------------------------------------------------------------------------------
DEBUG = env.yes("DEBUG")
SECRET_KEY = env.secret("SECRET_KEY", DATA_DIR / "secret_key")
_base = env.origin("BASE_URL")
BASE_URL = _base.geturl()  # where the world reaches us; empty while we are on loopback only
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS") or [
    "localhost",
    "127.0.0.1",
    "[::1]",
    *([_base.hostname] if _base.hostname else []),
]
_is_https = _base.scheme == "https"
CSRF_TRUSTED_ORIGINS = [f"{_base.scheme}://{_base.netloc}"] if _base.netloc else []
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if _is_https else None
SECURE_HSTS_SECONDS = 31_536_000 if _is_https else 0
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _is_https
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
_csp_self = "'self'"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": [_csp_self],
        "style-src": [_csp_self],
        "img-src": [_csp_self, "data:", "blob:"],
        "font-src": [_csp_self],
        "connect-src": [_csp_self],
        "manifest-src": [_csp_self],
        "form-action": [_csp_self],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
    }
}

SILENCED_SYSTEM_CHECKS = [
    # HSTS for sub-domains and preloading would lock visitors out of the operator's other sites for a year.
    "security.W005",
    "security.W021",
    # The proxy that ends TLS redirects http: from here it would loop wherever that proxy says nothing of the scheme.
    "security.W008",
    # Without a public https address secure cookies would not come back.
    *([] if _is_https else ["security.W004", "security.W012", "security.W016"]),
]

# --- Applications -------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "playground",
    "accounts",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django.forms",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "csp",
    "django_htmx",
    "template_partials",
    "django_q",
]
MIDDLEWARE = [
    "playground.turnstile.turnstile",
    "playground.api.middleware.api",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "playground.api.middleware.straight",  # the API gets no further: what follows is for pages
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "accounts.zones.middleware",
    "allauth.account.middleware.AccountMiddleware",
    "accounts.visits.middleware",
    "django_htmx.middleware.HtmxMiddleware",
]
ROOT_URLCONF = "playground.urls"
WSGI_APPLICATION = "playground.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "playground.http.site",
            ],
        },
    }
]
FORM_RENDERER = "django.forms.renderers.TemplatesSetting"

# --- Storage ------------------------------------------------------------------------------------------
# What is erased is overwritten, or a deleted account's words could be read from the file for months.
SQLITE_PRAGMAS = (
    "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-32000; PRAGMA temp_store=MEMORY; "
    "PRAGMA secure_delete=ON;"
)
DATABASES = {"default": env.database("DATABASE_URL", DATA_DIR / "db.sqlite3")}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["OPTIONS"] = {
        "timeout": 20,
        "transaction_mode": "IMMEDIATE",
        "init_command": SQLITE_PRAGMAS,
    }
else:
    DATABASES["default"] |= {"CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True}
    DATABASES["default"].setdefault("OPTIONS", {}).setdefault("connect_timeout", 10)
    if env.is_web_server():
        # Its threads come and go, so they share connections. Nowhere else: a pool does not survive the queue's forks.
        DATABASES["default"]["CONN_MAX_AGE"] = 0
        DATABASES["default"]["OPTIONS"]["pool"] = {"min_size": 1, "max_size": 12, "timeout": 15}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
REDIS_URL = env.redis_url("REDIS_URL")
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}
    if REDIS_URL
    else {
        "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
        "LOCATION": DATA_DIR / "cache",
        "OPTIONS": {
            "MAX_ENTRIES": 20_000
        },  # a full cache drops entries, and with them the counts of log-in attempts
    }
}
MEDIA_ROOT = DATA_DIR / "pictures"
MEDIA_URL = "/pictures-are-served-by-a-view/"
FILE_UPLOAD_TEMP_DIR = None
# Nothing that is sent to us touches the disk before it has been looked at. More than this is read and forgotten; the
# one view that takes files says no before that.
FILE_UPLOAD_HANDLERS = ["django.core.files.uploadhandler.MemoryFileUploadHandler"]
FILE_UPLOAD_MAX_MEMORY_SIZE = 10_500_000
UPLOADS_PER_ACCOUNT = env.whole("UPLOADS_PER_ACCOUNT", 1000, least=1)
UPLOADS_BYTES_PER_ACCOUNT = env.whole("UPLOADS_MB_PER_ACCOUNT", 500, least=1) * 1_000_000
MIN_FREE_BYTES = env.whole("MIN_FREE_MB", 500) * 1_000_000
STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}

# --- Language and time --------------------------------------------------------------------------------
LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False
USE_THOUSAND_SEPARATOR = False

# --- Accounts -----------------------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
EMAIL_URL = env.text("EMAIL_URL")
HAS_MAIL = bool(EMAIL_URL)
_mail = env.mail("EMAIL_URL")
EMAIL_BACKEND = _mail["EMAIL_BACKEND"]
EMAIL_HOST, EMAIL_PORT = _mail.get("EMAIL_HOST") or "", _mail.get("EMAIL_PORT") or 25
EMAIL_HOST_USER = _mail.get("EMAIL_HOST_USER") or ""
EMAIL_HOST_PASSWORD = _mail.get("EMAIL_HOST_PASSWORD") or ""
EMAIL_USE_TLS, EMAIL_USE_SSL = _mail.get("EMAIL_USE_TLS", False), _mail.get("EMAIL_USE_SSL", False)
EMAIL_FILE_PATH = _mail.get("EMAIL_FILE_PATH") or None
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env.text(
    "EMAIL_FROM", f"Flux Playground <no-reply@{_base.hostname or 'localhost'}>"
)
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "playground"
ACCOUNT_ADAPTER = "accounts.adapter.AccountAdapter"
ACCOUNT_FORMS = {
    "signup": "accounts.forms.SignupForm",
    "login": "accounts.forms.LoginForm",
    "add_email": "accounts.forms.AddEmailForm",
}
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_RATE_LIMITS = {"report": "10/h/ip"}  # beside allauth's own
ADMIN_REQUIRES_2FA = env.yes("ADMIN_REQUIRES_2FA")
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "mandatory" if HAS_MAIL else "none"
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_DEFAULT_HTTP_PROTOCOL = "https" if _is_https else "http"
ACCOUNT_LOGIN_ON_EMAIL_CONFIRMATION = True
ACCOUNT_LOGIN_ON_PASSWORD_RESET = True
ACCOUNT_LOGOUT_REDIRECT_URL = "playground"
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_EMAIL_NOTIFICATIONS = True
MFA_ADAPTER = "accounts.mfa.MFAAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_TOTP_ISSUER = "Flux Playground"
MFA_TOTP_TOLERANCE = 1  # half a minute early or late: phones' clocks
MFA_ALLOW_UNVERIFIED_EMAIL = not HAS_MAIL  # without a mail server no address is ever proven
ALLAUTH_TRUSTED_PROXY_COUNT = env.whole(
    "TRUSTED_PROXIES", 0
)  # or one visitor's log-in attempts would be everybody's

# --- Money (all whole micro-dollars; windows are UTC) -------------------------------------------------
SIGNUP_GRANT_MICROS = env.usd("SIGNUP_GRANT_USD", "10")
SIGNUP_BUDGET_MICROS_PER_DAY = env.usd("SIGNUP_BUDGET_USD_PER_DAY", "500")
PREVIEWS_PER_DAY = env.whole("PREVIEWS_PER_DAY", 20)
PREVIEW_BUDGET_MICROS_PER_DAY = env.usd("PREVIEW_BUDGET_USD_PER_DAY", "25")
STRIPE_SECRET_KEY = env.extra_key("STRIPE_SECRET_KEY", "stripe")
STRIPE_WEBHOOK_SECRET = env.key("STRIPE_WEBHOOK_SECRET")
STRIPE_API_BASE = env.http_url("STRIPE_API_BASE", "https://api.stripe.com")
TOPUP_CENTS = env.cents("TOPUP_USD", "5,10,25,50,100")
OPERATOR_NAME = env.text("OPERATOR_NAME", "Flux Playground")  # as receipts name the seller
OPERATOR_EMAIL = env.address("OPERATOR_EMAIL")

# --- Upstreams and the engine -------------------------------------------------------------------------
AIGENERATE_API_KEY = env.key("AIGENERATE_API_KEY")
AIGENERATE_BASE_URL = env.http_url("AIGENERATE_BASE_URL", "https://aimarcusimage.eu/api/v1")
UPSTREAM_KEYS_SECRETS = env.passphrases("UPSTREAM_KEYS_SECRET")
KIE_API_KEY = env.key("KIE_API_KEY")
KIE_BASE_URL = env.http_url("KIE_BASE_URL", "https://api.kie.ai/api/v1")
KIE_UPLOAD_URL = env.http_url("KIE_UPLOAD_URL", "https://kieai.redpandaai.co")
BFL_API_KEY = env.key("BFL_API_KEY")
BFL_BASE_URL = env.http_url("BFL_BASE_URL", "https://api.bfl.ai")
OPENAI_API_KEY = env.key("OPENAI_API_KEY")
OPENAI_BASE_URL = env.http_url("OPENAI_BASE_URL", "https://api.openai.com/v1")
SANDBOX_DELAY_S = float(env.seconds("SANDBOX_DELAY_S", "3"))
NET_ALLOWED_HOSTS = env.host_ports("NET_ALLOWED_HOSTS")
JOB_DEADLINE_S = env.whole("JOB_DEADLINE_S", 900, least=5)
ENGINE_IN_FLIGHT = env.whole("ENGINE_IN_FLIGHT", 400, least=1)
ENGINE_WORKERS = env.whole("ENGINE_WORKERS", 1, least=1)
# Several web processes count calls as one only in Redis; playground.E002 refuses them without it.
WEB_PROCESSES = env.whole("WEB_PROCESSES", 2 if REDIS_URL else 1, least=1)
WEB_THREADS = env.whole("WEB_THREADS", 2 if REDIS_URL else 4, least=1)

# --- The API ------------------------------------------------------------------------------------------
API_RATE_LIMIT = env.rate("API_RATE_LIMIT", (20, 10))
API_RATE_LIMIT_ACCOUNT = env.rate("API_RATE_LIMIT_ACCOUNT", (60, 10))
# Calls that may wait for a picture at the same time, in each web process; each has a thread that sleeps.
API_WAITING = env.whole("API_WAITING", 150, least=1)
API_WAIT_S = env.whole("API_WAIT_S", 570, least=1)  # a little less than OpenAI's clients wait
API_RATE_LIMIT_ANONYMOUS = env.rate("API_RATE_LIMIT_ANONYMOUS", (60, 60))

Q_CLUSTER = {
    "name": "flux",
    "label": "Queue",
    "orm": "default",
    # One more than there are drives: the spare takes over while the one before it finishes its last calls.
    "workers": ENGINE_WORKERS + 1,
    "timeout": 300,  # a drive lives for 130 s and waits up to 125 s for its last answers
    "retry": 900,
    "max_attempts": 1,
    "ack_failures": True,
    "queue_limit": 1,
    "poll": 0.1,
    "save_limit": -1,
    "guard_cycle": 0.5,
    "catch_up": False,
    "log_level": "WARNING",
}

# --- Logs ---------------------------------------------------------------------------------------------
LOG_LEVEL = env.choice("LOG_LEVEL", "INFO", ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"])
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        "django.request": {"level": "ERROR"},
        "django-q": {"level": "WARNING"},
        "stripe": {"level": "WARNING"},  # below that it repeats keys that were refused, and who buys
    },
}
