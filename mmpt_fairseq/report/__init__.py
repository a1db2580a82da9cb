"""From decoded text and logs to scores and to a page: ``mmpt-report RUN...``."""

import logging

# Importing fairseq leaves the root logger at DEBUG, where matplotlib tells of every font it finds.
logging.getLogger("matplotlib").setLevel(logging.WARNING)
