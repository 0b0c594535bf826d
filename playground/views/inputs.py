"""Input pictures as pages show them, beside what was made from them."""

from dataclasses import dataclass

from django.urls import reverse

from playground.models import Run, RunInput, Upload


@dataclass(frozen=True)
class Input:
    """One input of a run. Its owner may have removed it since; then there is only its place."""

    upload: Upload
    number: int

    @property
    def is_removed(self) -> bool:
        return not self.upload.key

    @property
    def thumb(self) -> str:
        return reverse("upload_image", args=[self.upload.pk, "thumb"])

    @property
    def largest(self) -> str:
        """The largest there is to see: of what was made from a locked preview only the thumbnail, which needs no mark."""
        return reverse(
            "upload_image", args=[self.upload.pk, "thumb" if self.upload.is_preview else "preview"]
        )

    @property
    def width(self) -> int:
        return self.upload.width

    @property
    def height(self) -> int:
        return self.upload.height


def inputs_of(run: Run) -> list[Input]:
    """In order; one query."""
    rows = RunInput.objects.filter(run=run).select_related("upload").order_by("position")
    return [Input(row.upload, number) for number, row in enumerate(rows, 1)]


def first_there(shown: list[Input]) -> Input | None:
    """What a result is laid over to compare: the first input, while it is there."""
    return shown[0] if shown and not shown[0].is_removed else None
