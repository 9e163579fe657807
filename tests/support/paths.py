"""Where things lie: the repository, its files for tests, and the real models and images beside it."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = Path(__file__).parent
HOSTILE = SUPPORT.parent / "cases" / "hostile"
DATA = ROOT.parent / "shared" / "data"  # real models and images; its README.md says whose
