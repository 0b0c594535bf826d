"""What staff did by a form of the desk, so that a form that is sent twice does it once."""

from django.db import models
from django.utils import timezone


class Deed(models.Model):
    """`name` is the form's own id with what it was to do, and to whom. Written in the transaction of the deed."""

    name = models.CharField(max_length=64, primary_key=True)
    at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.name
