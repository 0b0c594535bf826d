"""The site as a process of the web server has it: whoever waits for a picture is answered before the process ends."""

from playground import wsgi
from playground.api import waiting

application = wsgi.application
waiting.end_with_process()
