"""eSpeak NG as a subprocess: requests on stdin, speech on stdout, both pickled.

eSpeak keeps state between calls, so the same sentence sounds different the second time. Each
utterance is therefore synthesised in a fork of this process, which has only initialised the
library; as it holds nothing else, a fork takes a millisecond. Run as a script, this file imports
only the standard library and espeakng_loader.
"""

import ctypes
import os
import pickle
import sys

# Constants of espeak-ng/speak_lib.h.
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_PHONEME_EVENTS = 1
_EVENT_LIST_TERMINATED, _EVENT_PHONEME = 0, 7
_RATE, _PITCH, _RANGE = 1, 3, 4
_CHARS_UTF8 = 1

Request = tuple[str, str, int, int, int]  # text, voice, rate, pitch, pitch range
# Sample rate, 16-bit samples, (start in seconds, phoneme mnemonic); or an error message.
Answer = tuple[int, bytes, list[tuple[float, str]]] | str


class _EventId(ctypes.Union):
    _fields_ = [
        ("number", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("string", ctypes.c_char * 8),
    ]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # milliseconds
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


def initialise(library_path: str, data_path: str) -> tuple[ctypes.CDLL, int]:
    """Load the library; return it and its sample rate, which is not positive without voices."""
    library = ctypes.CDLL(library_path)
    rate = library.espeak_Initialize(
        _AUDIO_OUTPUT_SYNCHRONOUS, 0, os.fsencode(data_path), _INITIALIZE_PHONEME_EVENTS
    )
    return library, rate


def synthesise(library: ctypes.CDLL, sample_rate: int, request: Request) -> Answer:
    """Synthesise one request; the library's state is not clean for another one afterwards."""
    text, voice, rate, pitch, pitch_range = request
    pcm, phonemes = bytearray(), []

    def receive(wave, count, events) -> int:
        if wave and count > 0:
            pcm.extend(ctypes.string_at(wave, 2 * count))
        index = 0
        while events[index].type != _EVENT_LIST_TERMINATED:
            if events[index].type == _EVENT_PHONEME:
                name = events[index].id.string.decode("utf-8", "replace")
                phonemes.append((events[index].audio_position / 1000, name))
            index += 1
        return 0

    callback = _Callback(receive)
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        return f"eSpeak NG has no voice {voice}."
    for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, pitch_range)):
        library.espeak_SetParameter(parameter, value, 0)
    data = text.encode()
    library.espeak_Synth(data, len(data) + 1, 0, 1, 0, _CHARS_UTF8, None, None)
    library.espeak_Synchronize()
    if not pcm:
        return f"eSpeak NG produced no audio for {text!r} with the voice {voice}."
    return sample_rate, bytes(pcm), phonemes


def serve() -> None:
    """Answer requests until stdin closes."""
    import espeakng_loader

    library, rate = initialise(espeakng_loader.get_library_path(), espeakng_loader.get_data_path())
    while True:
        try:
            request = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pid = os.fork()
        if pid == 0:
            _answer(synthesise(library, rate, request))
            os._exit(0)
        if os.waitpid(pid, 0)[1] != 0:
            _answer(f"eSpeak NG crashed on {request[0]!r} with the voice {request[1]}.")


def _answer(answer: Answer) -> None:
    pickle.dump(answer, sys.stdout.buffer)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    serve()
