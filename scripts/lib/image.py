"""Images without a registry: a static busybox, a few files, and what Docker should run.

The result is the archive that ``docker load`` takes. It is a function of its arguments alone
(times and owners are fixed), so that loading it twice makes one image with one id.
"""

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from scripts.lib.steps import ScriptError, run_quietly

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "riscv64": "riscv64"}

PT_INTERP = 3
"""Type of the ELF program header that names a dynamic loader; see elf(5)."""

ELFCLASS64 = 2


@dataclass(frozen=True, slots=True)
class Image:
    """What to build. *files* maps absolute paths to texts; those under ``/bin`` may be run."""

    tag: str
    command: Sequence[str]
    files: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


def find_busybox() -> Path:
    """Return the path of a static busybox.

    Raises:
        ScriptError: there is none; it says which package has it.
    """
    for folder in ("/bin", "/usr/bin", "/usr/local/bin"):
        path = Path(folder, "busybox")
        if path.exists() and is_static(path):
            return path
    raise ScriptError("no static busybox was found: apt-get install busybox-static")


def is_static(path: Path) -> bool:
    """Tell whether an ELF file needs no dynamic loader, and so runs in an empty image."""
    data = path.read_bytes()
    if data[:4] != b"\x7fELF":
        return False
    order: Literal["little", "big"] = "little" if data[5] == 1 else "big"
    wide = data[4] == ELFCLASS64

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], order)

    table = number(32, 8) if wide else number(28, 4)
    size, count = (number(54, 2), number(56, 2)) if wide else (number(42, 2), number(44, 2))
    return all(number(table + i * size, 4) != PT_INTERP for i in range(count))


def archive(images: Sequence[Image], busybox: Path) -> bytes:
    """Return a tar for ``docker load`` that holds all *images*."""
    out = io.BytesIO()
    manifest = []
    added: set[str] = set()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for image in images:
            layer = _layer(image, busybox)
            digest = hashlib.sha256(layer).hexdigest()
            config = _config(image, digest)
            config_name = f"{hashlib.sha256(config).hexdigest()}.json"
            layer_name = f"{digest}/layer.tar"
            for name, content in ((layer_name, layer), (config_name, config)):
                if name not in added:
                    _add_file(tar, name, content)
                    added.add(name)
            manifest.append(
                {"Config": config_name, "RepoTags": [image.tag], "Layers": [layer_name]}
            )
        _add_file(tar, "manifest.json", json.dumps(manifest).encode())
    return out.getvalue()


def _config(image: Image, layer_digest: str) -> bytes:
    return json.dumps(
        {
            "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {
                "Cmd": list(image.command),
                "Env": [
                    "PATH=/bin",
                    *(f"{name}={value}" for name, value in image.environment.items()),
                ],
                "Labels": dict(image.labels),
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "shoal"}],
        }
    ).encode()


def _layer(image: Image, busybox: Path) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for folder in ("bin", "dev", "etc", "proc", "root", "sys", "tmp", "var"):
            _add_folder(tar, folder, 0o1777 if folder == "tmp" else 0o755)
        _add_file(tar, "bin/busybox", busybox.read_bytes(), mode=0o755)
        for applet in run_quietly([str(busybox), "--list"]).split():
            if applet == "busybox":
                continue
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        _add_file(tar, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:\n")
        _add_file(tar, "etc/group", b"root:x:0:\nnobody:x:65534:\n")
        known = {"bin", "etc", "tmp", "root", "var"}
        for path, text in image.files.items():
            name = path.lstrip("/")
            for parent in reversed(Path(name).parents[:-1]):
                if str(parent) not in known:
                    known.add(str(parent))
                    _add_folder(tar, str(parent), 0o755)
            _add_file(tar, name, text.encode(), mode=0o755 if name.startswith("bin/") else 0o644)
    return out.getvalue()


def _add_file(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), mode
    tar.addfile(info, io.BytesIO(content))


def _add_folder(tar: tarfile.TarFile, name: str, mode: int) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, mode
    tar.addfile(info)
