"""A synthetic corpus of talking faces without external data: `python -m manifests.generated`."""
