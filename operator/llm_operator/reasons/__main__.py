"""Write the tables of reasons into a page: `python -m llm_operator.reasons docs/status.md`."""

from __future__ import annotations

import sys
from pathlib import Path

from llm_operator.reasons.tables import with_tables

if __name__ == "__main__":
    for name in sys.argv[1:]:
        page = Path(name)
        page.write_text(with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")
