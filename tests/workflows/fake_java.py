"""A Java that is a script: it says a version, and is TorchServe as far as starting, answering and ending go.

In the folder that it is started in, ``behaviour`` says what it does instead of answering, in Python.
"""

import sys
from pathlib import Path

JVM = """
import json, os, re, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        asked = self.headers.get("Authorization")
        with open("asked", "a") as log:
            log.write(f"{self.command} {self.path} {asked}\\n")
        right = asked == "Bearer right"
        refusal = {"code": 400, "type": "InvalidKeyException", "message": "Token Authorization failed."}
        body = json.dumps({"status": "Healthy"} if right else refusal).encode()
        self.send_response(200 if right else 400)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_):
        pass

def server_at(setting):
    port = re.search(setting + "=http://[^:]+:([0-9]+)", Path("config.properties").read_text())[1]
    return ThreadingHTTPServer(("127.0.0.1", int(port)), Answer)

def listen():
    management = server_at("management_address")
    threading.Thread(target=management.serve_forever, daemon=True).start()
    keys = {kind: {"key": "right"} for kind in ("inference", "management", "API")}
    Path("key_file.json").write_text(json.dumps(keys))
    return server_at("inference_address")

if Path("behaviour").exists():
    exec(Path("behaviour").read_text())
listen().serve_forever()
"""


def make_java(home: Path, version: str = '"17.0.9" 2023-10-17', code: int = 0) -> Path:
    """A ``JAVA_HOME``."""
    java = home / "bin" / "java"
    java.parent.mkdir(parents=True)
    (home / "jvm.py").write_text(JVM)
    java.write_text(
        f"#!/bin/sh\n"
        f"[ \"$1\" = -version ] && {{ echo 'openjdk version {version}' >&2; exit {code}; }}\n"
        f'exec "{sys.executable}" "{home}/jvm.py" "$@"\n'
    )
    java.chmod(0o755)
    return home
