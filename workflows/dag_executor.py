"""Compiles ``DagExecutor.groovy``, which takes the place of TorchServe's own class, into a server's folder.

TorchServe's class path begins with its working directory, and its jar holds the Groovy compiler. So a class that lies
there is loaded instead of the jar's, without a JDK, and nothing of TorchServe's is changed.
"""

import hashlib
import shutil
import subprocess
from pathlib import Path

import ts  # type: ignore[import-untyped,unused-ignore]

from workflows.files.atomic import scratch_folder, written_folder
from workflows.java import home
from workflows.server import ServerError

SOURCE = Path(__file__).with_name("DagExecutor.groovy")
JAR = Path(ts.__path__[0]) / "frontend" / "model-server.jar"
CLASSES = Path("org", "pytorch", "serve", "ensemble")
STAMP = "source.sha256"
COMPILE_LIMIT = 300.0
"""Seconds; it takes three."""


def install(folder: Path) -> None:
    """Puts the class where the TorchServe that has ``folder`` as its working directory finds it, unless it is there.

    The JVM loads it when the first workflow is registered, so it may run already.

    Raises:
        ServerError: it cannot be compiled.
    """
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()
    stamp = folder / CLASSES / STAMP
    if stamp.exists() and stamp.read_text() == digest:
        return
    with scratch_folder(folder / "classes") as scratch, written_folder(folder / CLASSES) as new:
        _compile(scratch)
        shutil.copytree(scratch / CLASSES, new, dirs_exist_ok=True)
        (new / STAMP).write_text(digest)


def _compile(out: Path) -> None:
    java = home() / "bin" / "java"
    compiler = "org.codehaus.groovy.tools.FileSystemCompiler"
    command = [str(java), "-cp", str(JAR), compiler, "-d", str(out), str(SOURCE)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMPILE_LIMIT)
    except OSError as fault:
        said = f"{java} does not start ({fault.strerror}): unset JAVA_HOME to use the Java of 'make setup'"
        raise ServerError(said) from None
    if done.returncode:
        raise ServerError(f"{SOURCE.name} does not compile: {(done.stderr or done.stdout).strip()[:500]}")
