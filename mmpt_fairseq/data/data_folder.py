"""Files in the data folder of stages 2 and 3: fairseq's data config, dictionary and model."""

from pathlib import Path

import yaml

from manifests.errors import InputError

DATA_CONFIG, DICTIONARY, SENTENCEPIECE = "config.yaml", "dict.txt", "spm.model"


def read_config(folder: Path) -> dict | None:
    """Read fairseq's S2T data config from a folder; None if there is none.

    Raises:
        InputError: it is not a YAML mapping.
    """
    path = folder / DATA_CONFIG
    if not path.is_file():
        return None
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict | None):
            raise TypeError(f"it is a {type(config).__name__}, not a mapping")
        return config or {}
    except (yaml.YAMLError, UnicodeError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} cannot be read ({reason}); fix or remove it") from None


def audio_root(folder: Path) -> str | None:
    """The config's ``audio_root``, to which manifest paths are relative; None if it is not set."""
    return (read_config(folder) or {}).get("audio_root") or None
