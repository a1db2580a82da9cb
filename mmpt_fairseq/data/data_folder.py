"""What lies beside the manifests of stages 2 and 3: fairseq's data config, dictionary and model."""

from pathlib import Path

import yaml

from manifests.errors import InputError

DATA_CONFIG, DICTIONARY, SENTENCEPIECE = "config.yaml", "dict.txt", "spm.model"


def read_config(folder: Path) -> dict | None:
    """fairseq's S2T data config as it stands in a folder; None where there is none.

    Raises:
        InputError: it is no YAML of keys.
    """
    path = folder / DATA_CONFIG
    if not path.is_file():
        return None
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict | None):
            raise TypeError(f"it is a {type(config).__name__}, not keys with values")
        return config or {}
    except (yaml.YAMLError, UnicodeError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} cannot be read ({reason}); mend or remove it") from None


def audio_root(folder: Path) -> str | None:
    """What paths in the manifests are relative to, where the config says it."""
    return (read_config(folder) or {}).get("audio_root") or None
