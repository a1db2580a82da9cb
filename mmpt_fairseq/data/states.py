"""Description of stored hidden states: which frozen encoder they come from.

``python -m manifests.states`` writes folders of such states; stage 3 trains on them instead of
audio.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from manifests.errors import InputError

DESCRIPTION = "states.json"


@dataclass(frozen=True)
class StoredStates:
    """The encoder whose states the manifests of a folder point to.

    Attributes:
        checkpoint: path that the encoder was loaded from.
        encoder: its :func:`~mmpt_fairseq.checkpoint.encoder_digest`.
    """

    checkpoint: str
    encoder: str

    @classmethod
    def describing(cls, folder: Path) -> "StoredStates | None":
        """Read the description in a folder of manifests; None if they are of audio or filterbanks.

        Raises:
            InputError: the description is invalid.
        """
        path = folder / DESCRIPTION
        if not path.is_file():
            return None
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            raise InputError(
                f"{path} was not written by python -m manifests.states; write the folder again"
            ) from None

    def write(self, path: Path) -> None:
        """Write the description as :meth:`describing` reads it."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    def check_frozen(self, frozen: bool) -> None:
        """Raise InputError unless the encoder is frozen in training."""
        if not frozen:
            raise InputError(
                f"the data folder holds states of the encoder in {self.checkpoint}, which cannot "
                "be trained on them; set model.freeze_encoder=true, or train on the audio "
                "manifests"
            )

    def check_resumed(self, encoder: str | None, path: str) -> None:
        """Raise InputError unless checkpoint ``path`` was trained on states of this encoder."""
        if encoder != self.encoder:
            raise InputError(
                f"{path} was not trained on the data folder's states; resume with the data that it "
                "was trained on, or set another checkpoint.save_dir"
            )

    def check(self, encoder: str) -> None:
        """Raise InputError unless the states come from the encoder with this digest."""
        if encoder != self.encoder:
            raise InputError(
                f"the data folder holds states of the encoder in {self.checkpoint}, but this "
                "model has another encoder; use that one, store this one's states with python -m "
                "manifests.states, or use the audio manifests"
            )
