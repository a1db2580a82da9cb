"""Scores and HTML/Markdown reports from decoded text and training logs (``mmpt-report RUN...``)."""
