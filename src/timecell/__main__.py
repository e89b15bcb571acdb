"""``python -m timecell`` is the command ``timecell``."""

import sys

from timecell.cli import main

sys.exit(main())
