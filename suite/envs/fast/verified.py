"""What the fast engine was verified against, and the check that it is what is installed."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

PINS = {"mujoco": "3.3.0", "metaworld": "3.1.1"}
# Of the sources whose functions the fast engine replaces or rebuilds: `metaworld_fingerprint()`.
FINGERPRINT = "67cf12078bd30921"


def installed(package: str) -> str:
    """The installed version of `package`, or "none"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def metaworld_fingerprint() -> str:
    """A digest of Meta-World's base env, reward utilities and tasks, as they are on disk."""
    spec = find_spec("metaworld")
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent
    files = [root / "sawyer_xyz_env.py", root / "utils" / "reward_utils.py"]
    files += sorted((root / "envs").glob("*.py"))
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


@cache
def reason_to_refuse() -> str | None:
    """Why the fast engine may not be exact here, in one line; None if it is as verified."""
    wanted = " ".join(f"{package}=={pin}" for package, pin in PINS.items())
    advice = f"install {wanted}, or choose --engine metaworld"
    found = {package: installed(package) for package in PINS}
    if found != PINS:
        names = " ".join(f"{package}=={number}" for package, number in found.items())
        return f"the fast engine is verified for {wanted} only, found {names}: {advice}"
    if metaworld_fingerprint() != FINGERPRINT:
        return (
            f"Meta-World's source was changed, and the fast engine is exact for {wanted}: {advice}"
        )
    # SciPy and NumPy are not pinned: their arithmetic is tried instead.
    from suite.envs.fast.scalar import arithmetic_difference

    difference = arithmetic_difference()
    if difference:
        return (
            f"the fast engine's {difference} differs from NumPy {installed('numpy')}'s or SciPy "
            f"{installed('scipy')}'s, which it repeats: choose --engine metaworld"
        )
    return None
