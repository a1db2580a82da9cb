"""A frozen encoder's output in place of sound: which encoder's it is, and where that is recorded.

``python -m manifests.states`` writes folders of such states; stage 3 trains on them as on sound.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from manifests.errors import InputError

DESCRIPTION = "states.json"


@dataclass(frozen=True)
class StoredStates:
    """What the manifests of a folder point to.

    Attributes:
        checkpoint: where the encoder was taken from.
        encoder: its :func:`~mmpt_fairseq.checkpoint.encoder_digest`.
    """

    checkpoint: str
    encoder: str

    @classmethod
    def describing(cls, folder: Path) -> "StoredStates | None":
        """Of a folder of manifests; None where they are of sound or filterbanks.

        Raises:
            InputError: the description is none.
        """
        path = folder / DESCRIPTION
        if not path.is_file():
            return None
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            raise InputError(
                f"{path} was not written by python -m manifests.states; write the folder anew"
            ) from None

    def write(self, path: Path) -> None:
        """As :meth:`describing` reads it."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    def check_frozen(self, frozen: bool) -> None:
        """Raise InputError unless the encoder of a training is to stay as it is."""
        if not frozen:
            raise InputError(
                f"the data folder holds states of the encoder in {self.checkpoint}, which cannot "
                "learn from them; set model.freeze_encoder=true, or train on the manifests of the "
                "sound"
            )

    def check_resumed(self, encoder: str | None, path: str) -> None:
        """Raise InputError unless the training in ``path`` was on states of this ``encoder``."""
        if encoder != self.encoder:
            raise InputError(
                f"{path} was not trained on the data folder's states; go on with the data that it "
                "was trained on, or start in another checkpoint.save_dir"
            )

    def check(self, encoder: str) -> None:
        """Raise InputError unless the states are of the encoder with this digest."""
        if encoder != self.encoder:
            raise InputError(
                f"the data folder holds states of the encoder in {self.checkpoint}, and this "
                "model's is another; take that one, store this one's with python -m "
                "manifests.states, or give the manifests of the sound"
            )
