"""What starting costs, by what is imported: never timed here, see benchmarks/startup.py."""

import subprocess
import sys

HEAVY = ("accelerate", "diffusers", "gradio", "huggingface_hub", "matplotlib", "skimage", "torch")
"""Packages that take long to import, and that nobody needs before there is work."""


def loaded_by(code: str) -> set[str]:
    """Which of the heavy packages a process has loaded after some code."""
    script = f"{code}\nimport sys; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split()) if done.stdout.strip() else set()


def test_importing_kdgen_loads_nothing_heavy() -> None:
    assert loaded_by("import kdgen") == set()


def test_help_loads_nothing_heavy() -> None:
    help_of = "try:\n    main({!r})\nexcept SystemExit:\n    pass"
    code = "from kdgen.__main__ import main\n" + "\n".join(
        help_of.format(words) for words in (["--help"], ["export", "--help"], ["plan", "--help"])
    )
    assert loaded_by(code) == set()


def test_the_public_names_load_neither_gradio_nor_diffusers() -> None:
    assert not {"gradio", "diffusers"} & loaded_by("import kdgen\nfor name in kdgen.__all__: getattr(kdgen, name)")
