"""A pod's container as a process of this machine: the image's files in a root file system that is read-only, the pod's
volumes, user and environment, a network and process ids of its own. What the kubelet does, without a cluster."""

import ctypes
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import psutil

from gateway.keys import KEYS_FILE
from tests.deploy import containerfile
from tests.deploy.pod import ROOT, Pod

ADDRESS = "192.0.2.1"
"""The pod's (RFC 5737): what the kubelet's probes and Services reach, other than the loopback."""
CLONE_NEWNET = 0x40000000
"""Of Linux's <sched.h>."""
INSTALLED = Path(containerfile.words_of("WORKDIR")[-1])
SYSTEM = ("bin", "lib", "lib64", "sbin", "usr")
PASSWD = "root:x:0:0::/root:/bin/sh\ncxr:x:{0}:{0}::/tmp:/bin/sh\n"
MOUNTS = """
set -eu
mount --make-rprivate /
mount --bind "$root" "$root"
while IFS='|' read -r how from to; do mount -o "$how" "$from" "$root$to"; done <<< "$mounts"
mount --rbind /dev "$root/dev"
mount -t tmpfs shm "$root/dev/shm"
mount -t proc proc "$root/proc"
mount -o remount,bind,ro "$root"
ip link set lo up
ip address add $address/32 dev lo
exec chroot "$root" setpriv --reuid $user --regid $group --groups $groups --no-new-privs --bounding-set=-all \
    env --ignore-environment --chdir "$directory" "$@"
"""

Answer = TypeVar("Answer")


def lacks() -> str:
    """What this machine lacks for it, in words; "" where that is nothing."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a root file system of its own wants Linux, and root"
    missing = [name for name in ("unshare", "mount", "chroot", "setpriv", "ip") if not shutil.which(name)]
    if missing:
        return f"not installed: {', '.join(missing)}"
    tried = subprocess.run(["unshare", "--mount", "--pid", "--net", "--fork", "true"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else f"no namespaces here: {tried.stderr.decode().strip()}"


def _folders_of_python() -> list[Path]:
    """Where this Python is installed, and where the links lie that lead to it from its environment."""
    link, found = Path(sys.executable), [Path(sys.base_prefix)]
    while link.is_symlink():
        link = link.parent / link.readlink()
        if not any(link.is_relative_to(one) for one in (*found, sys.prefix)):
            found.append(link.parent)
    return found


class PodProcess:
    """Started; ``stop`` or the context's end ends it.

    Args:
        pod: whose container it is.
        folder: for its files and volumes; empty.
        models: what the image has in ``/models``.
        keys: the folder whose ``keys.json`` is the Secret.

    Attributes:
        volumes: by name, their folders here.
        log: what it says.
    """

    def __init__(self, pod: Pod, folder: Path, models: Path, keys: Path) -> None:
        self._pod, self._root, self.volumes = pod, folder / "root", {}
        self.log = folder / "log"
        context = pod.spec["securityContext"]
        user, group = context["runAsUser"], context["runAsGroup"]
        mounts = [*self._files(user), ("bind,ro", str(models), "/models")]
        mounts += [self._volume(mount, folder / "volumes", keys) for mount in pod.container["volumeMounts"]]
        for _, _, to in mounts:
            (self._root / to[1:]).mkdir(parents=True, exist_ok=True)
        told = {"PATH": "/usr/local/bin:/usr/bin:/bin", **containerfile.environment(), **pod.environment()}
        command = containerfile.command()
        if not Path(command[0]).exists():  # tini, which is Debian's; the gateway is the first process then
            command = command[command.index("--") + 1 :]
        script = {
            "root": str(self._root),
            "mounts": "\n".join("|".join(one) for one in mounts),
            "address": ADDRESS,
            "user": str(user),
            "group": str(group),
            "groups": str(context["fsGroup"]),
            "directory": str(INSTALLED),
        }
        alone = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "bash", "-c", MOUNTS, "pod"]
        with self.log.open("wb") as log:
            self._unshare = subprocess.Popen(
                [*alone, *(f"{name}={value}" for name, value in told.items()), *command],
                # Within the new root, programs are where Debian has them, whatever this environment says.
                env={**os.environ, **script, "PATH": f"{os.environ['PATH']}:/usr/sbin:/usr/bin:/sbin:/bin"},
                stdout=log,
                stderr=log,
            )
        self._first = self._the_first()
        self._inside = ThreadPoolExecutor(1, "pod", self._enter)

    def __enter__(self) -> "PodProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self._inside.shutdown()
        self._unshare.kill()
        self._unshare.wait()

    def call(self, function: Callable[..., Answer], *arguments: object, **named: object) -> Answer:
        """What a function returns that is called within the pod's network."""
        assert self._unshare.poll() is None, self.log.read_text()
        return self._inside.submit(function, *arguments, **named).result()

    def processes(self) -> list[psutil.Process]:
        """All of the container's."""
        return [self._first, *self._first.children(recursive=True)]

    def writable(self) -> set[str]:
        """Where it may write, but for devices and the kernel's own files."""
        lines = [line.split() for line in Path(f"/proc/{self._first.pid}/mountinfo").read_text().splitlines()]
        places = {place for _, _, _, _, place, options, *_ in lines if "ro" not in options.split(",")}
        return {place for place in places if not place.startswith(("/dev", "/proc", "/sys"))}

    def stop(self, seconds: float) -> int:
        """SIGTERM to the first process, as the kubelet sends it, and the container's exit code."""
        self._first.terminate()
        return self._unshare.wait(seconds)

    def _files(self, user: int) -> list[tuple[str, str, str]]:
        """The image's, as its Containerfile puts them together; the environment is this one's."""
        (self._root / "etc").mkdir(parents=True)
        for name in ("dev", "proc"):
            (self._root / name).mkdir()
        (self._root / "etc" / "passwd").write_text(PASSWD.format(user))
        shutil.copy("/etc/ld.so.cache", self._root / "etc")
        (self._root / "etc" / "hosts").write_text("127.0.0.1 localhost\n")
        for source, to in containerfile.copied():
            place = self._root / str(INSTALLED / to)[1:]
            if source != "model_store" and (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
            elif source != "model_store":
                place = place / Path(source).name if to.endswith("/") else place
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, place)
        mounts = [(str(Path(sys.prefix).resolve()), str(INSTALLED / ".venv")), ("/sys", "/sys")]
        mounts += [(str(one), str(one)) for one in _folders_of_python() if not one.is_relative_to("/usr")]
        for name in SYSTEM:
            if (here := Path("/", name)).is_symlink():
                (self._root / name).symlink_to(here.readlink())
            elif here.is_dir():
                mounts.append((str(here), str(here)))
        return [("bind,ro", source, to) for source, to in mounts]

    def _volume(self, mount: dict[str, str], volumes: Path, keys: Path) -> tuple[str, str, str]:
        """A folder as the kubelet would lay it out: of the group that may write, where any may."""
        volume = self._pod.volume(mount["mountPath"])
        folder = self.volumes[mount["name"]] = volumes / mount["name"]
        folder.mkdir(parents=True)
        group = self._pod.spec["securityContext"]["fsGroup"]
        os.chown(folder, 0, group)
        if "configMap" in volume:
            shutil.copy(ROOT / "config.properties", folder)
        elif "secret" in volume:
            shutil.copy(keys / KEYS_FILE, folder)
            os.chown(folder / KEYS_FILE, 0, group)
            (folder / KEYS_FILE).chmod(volume["secret"]["defaultMode"])
        else:
            folder.chmod(0o2777 if "emptyDir" in volume else 0o2775)
        return "bind,ro" if mount.get("readOnly") else "bind", str(folder), mount["mountPath"]

    def _the_first(self) -> psutil.Process:
        unshare = psutil.Process(self._unshare.pid)
        while not (children := unshare.children()):
            assert self._unshare.poll() is None, self.log.read_text()
            time.sleep(0.01)
        return children[0]

    def _enter(self) -> None:
        """Moves the calling thread into the pod's network."""
        with open(f"/proc/{self._first.pid}/ns/net") as network:
            if ctypes.CDLL(None, use_errno=True).setns(network.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
