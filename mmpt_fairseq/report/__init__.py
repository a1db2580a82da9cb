"""From decoded text and logs to scores."""
