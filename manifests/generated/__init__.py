"""A corpus of talking faces that needs nothing from outside: `python -m manifests.generated`."""
