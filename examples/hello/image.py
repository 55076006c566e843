"""The image of this example, declared beside the code that runs in it."""

from imagesmith import ImageSpec

image = ImageSpec(
    name="hello",
    python_version="3.11",
    packages=["humanize>=4.9", "tomli>=2; python_version < '3.11'"],
    apt_packages=["hello"],
    source_root=".",
    env={
        "GREETING": 'it\'s "quoted", costs $5, and\nhas two lines 🚀',
        "EMPTY": "",
        "PATH": "/workspace/bin:$PATH",
    },
    commands=['echo built by "$(whoami)" | tee built.txt'],
    entrypoint=["python", "app.py"],
)
