"""Runs in the image, and outside of it."""

import os
import subprocess
from pathlib import Path

from image import image

with image.imports():
    import humanize  # only in the image

print(f"is_container(): {image.is_container()}")
if image.is_container():
    print(f"humanize says:  {humanize.intword(12_400_000)}")
    hello = subprocess.run(["hello"], capture_output=True, text=True, check=True)
    print(f"hello says:     {hello.stdout.strip()}")
    print(f"GREETING:       {os.environ['GREETING']!r}")
    print(f"built.txt:      {Path('built.txt').read_text().strip()}")
    print(f"PATH:           {os.environ['PATH']}")
