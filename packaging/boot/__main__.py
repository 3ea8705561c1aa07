"""The first lines that run when Python is given llorch.pyz.

Written in the grammar of Python 2.7, so that every Python reads it far enough to be told, in
words, that it is too old. All else is in modules that only a supported Python ever opens.
"""

import os
import sys

if sys.version_info < (3, 10):
    sys.stderr.write(
        "Error: llorch needs Python 3.10 to 3.13, this is Python %d.%d (%s)\n"
        "Try: python3.11 %s, or any of python3.10 to python3.13\n"
        % (sys.version_info[0], sys.version_info[1], sys.executable, sys.argv[0])
    )
    sys.exit(78)

import llorch_boot

llorch_boot.run(os.path.dirname(os.path.abspath(__file__)))
