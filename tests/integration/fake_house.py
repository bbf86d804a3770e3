"""`main.py` with other services, for `test_main.py`: `python -m tests.integration.fake_house drain stuck`."""

import sys

import main
from main import Part

if __name__ == "__main__":
    services = [
        Part(f"part{at}", ("-m", "tests.integration.fake_service", does)) for at, does in enumerate(sys.argv[1:])
    ]
    main.main([], services)
