"""JPEG 2000, JPEG-LS and lossless JPEG, decoded in a process of its own.

OpenJPEG and GDCM hold the interpreter's lock while they decode (a second for a JPEG 2000 film), cannot be interrupted,
and are C and C++ that hostile bytes may crash. Here they crash or are stopped alone. This file is both sides: the class
``CodecProcess``, and, run as a script, the process itself.

The process reads a line of JSON (``codec``, the frame's ``length``, ``seconds`` to take, and what GDCM must know), then
the frame, and answers with 8 bytes of length and the pixels in little endian; length 0 where it cannot be decoded.
"""

import contextlib
import json
import signal
import subprocess
import sys
from typing import IO, Any

SECONDS = 4.0
"""Processor time to decode one frame: a lossless JPEG 2000 film of some 25 million pixels."""
MAX_MEMORY = 4 * 2**30
"""Bytes of address space, of which a decoder of 40 million pixels needs about a third."""


class CodecTimeout(Exception):
    """The frame was not decoded in ``SECONDS``."""


class CodecFault(Exception):
    """The decoder did not survive the frame."""


class CodecProcess:
    """One decoder process. It decodes frame after frame, for one thread at a time, and ends with its owner."""

    def __init__(self) -> None:
        # -P: this file's folder stays off the path, where its neighbours could hide a library.
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # GDCM quotes what it cannot read
        )

    def decode(self, frame: bytes, request: dict[str, Any]) -> bytes:
        """The frame's pixels, row by row; empty where it cannot be decoded.

        Raises:
            CodecTimeout, CodecFault: the process did not survive it.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            line = json.dumps({**request, "length": len(frame), "seconds": SECONDS})
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.write(frame)
            self._process.stdin.flush()
            length = int.from_bytes(_exactly(self._process.stdout, 8), "little")
            return _exactly(self._process.stdout, length)
        except (OSError, EOFError) as fault:
            self.close()
            if self._process.returncode == -signal.SIGPROF:
                raise CodecTimeout from fault
            raise CodecFault from fault

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):  # what was still to be written has no reader
                pipe.close()
        self._process.wait()


def _exactly(stream: IO[bytes], length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return data


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """The process: frames in, pixels out, until its owner closes the pipe or dies."""
    while line := requests.readline():
        request = json.loads(line)
        frame = requests.read(request["length"])
        signal.setitimer(signal.ITIMER_PROF, request["seconds"])  # nobody handles SIGPROF, so it ends the process
        try:
            pixels = openjpeg_pixels(frame) if request["codec"] == "openjpeg" else gdcm_pixels(frame, request)
        except Exception:
            pixels = b""
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        answers.write(len(pixels).to_bytes(8, "little"))
        answers.write(pixels)
        answers.flush()


def openjpeg_pixels(frame: bytes) -> bytes:
    """A JPEG 2000 codestream's samples: 1 byte each up to 8 bit, 2 up to 16."""
    from openjpeg.utils import decode

    return decode(frame, 0, reshape=False).tobytes()


def gdcm_pixels(frame: bytes, header: dict[str, Any]) -> bytes:
    """A JPEG-LS or lossless JPEG frame's samples: 1 byte each up to 8 bit, 2 up to 16."""
    import gdcm  # type: ignore[import-untyped,unused-ignore]

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(frame)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((header["columns"], header["rows"], 1))
    image.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2")
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(header["syntax"])))
    bits = header["precision"]
    image.SetPixelFormat(gdcm.PixelFormat(1, 8 if bits <= 8 else 16, bits, bits - 1, 0))
    return image.GetBuffer().encode("utf-8", "surrogateescape")  # GDCM hands bytes out as a str


if __name__ == "__main__":
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold a patient's film
    except (ImportError, ValueError, OSError):  # a system without such limits
        pass
    serve(sys.stdin.buffer, sys.stdout.buffer)
