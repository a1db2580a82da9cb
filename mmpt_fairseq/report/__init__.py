"""From decoded text and logs to scores and to a page: ``mmpt-report RUN...``."""
