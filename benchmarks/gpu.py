"""Whether kdgen does on a GPU what it does on a CPU, and how fast: the command of the package `gpu` beside it.

python benchmarks/gpu.py --help
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # kdgen need not be installed

from gpu.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
