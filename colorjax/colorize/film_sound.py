"""The sound of a film, copied packet by packet into another one while that grows."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from colorjax.colorize.film_reading import FilmReader, explained, open_film

# Sound that players take in an MP4; other sound is coded anew, at rates and in layouts of AAC.
_COPIED = {"aac", "mp3", "mp3float", "mp2", "mp2float", "ac3", "eac3", "alac", "flac", "opus"}
_RATES = {8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000}
_LAYOUTS = {"mono", "stereo", "3.0", "4.0", "5.0", "5.1", "7.1"}
_BIT_RATE = 96_000  # of a channel
_LATE = 1  # seconds by which the streams of a file may be apart


class Sound:
    """The sound of a film on its way into another.

    It is read from its file a second time, so that nothing of it waits in memory.

    Args:
      reader: of the film that has it.
      target: the `av.OutputContainer` that gets it.
      name: of the target, for errors.

    Raises:
      FilmError: here and in the methods, if it can't be read or written.
    """

    def __init__(self, reader: FilmReader, target: Any, name: Path) -> None:
        self._path, self._target, self._target_name = reader.path, target, name
        self._origin, span = reader.origin, reader.span
        self._start = Fraction(0) if span.start else None
        self._end = None if span.end is None else span.end - span.start
        with explained(self._path, "read"):
            self._container = open_film(self._path)
            streams = [stream for stream in self._container.streams.audio if stream.codec_context]
            self._tracks = {stream.index: _create_track(stream, target) for stream in streams}
        self._packets = self._read(streams)
        self._steps = self._copy() if streams else iter(())
        self._time: Fraction | None = next(self._steps, None)

    def copy_until(self, seconds: Fraction | None) -> None:
        """Copy what is to be heard until then, from the start of the new film; None for all."""
        while self._time is not None and (seconds is None or self._time <= seconds):
            self._time = next(self._steps, None)

    def close(self) -> None:
        """Close the file that is read."""
        self._container.close()

    def _copy(self) -> Iterator[Fraction]:
        """Yield the time of each packet, and copy it once the next time is asked for."""
        for packet in self._packets:
            track = self._tracks[packet.stream.index]
            if packet.pts is None or packet.dts is None:
                continue
            time = packet.pts * packet.time_base - self._origin
            if self._end is not None and time >= self._end + _LATE:
                break
            if self._is_inside(time):
                yield time
                self._mux(track, packet)
        for track in self._tracks.values():
            self._mux(track, None)

    def _read(self, streams: list[Any]) -> Iterator[Any]:
        with explained(self._path, "read"):
            if self._start is not None:
                self._container.seek(int(self._origin * 1_000_000))
            yield from self._container.demux(*streams)

    def _is_inside(self, time: Fraction) -> bool:
        is_early = self._start is not None and time < self._start
        return not is_early and (self._end is None or time < self._end)

    def _mux(self, track: "_CopiedTrack | _CodedTrack", packet: Any) -> None:
        with explained(self._path, "read"):
            packets = track.convert(packet, self._origin)
        with explained(self._target_name, "written"):
            self._target.mux(packets)


class _CopiedTrack:
    """A track whose packets stay as they are, but for their times."""

    def __init__(self, stream: Any, target: Any) -> None:
        self._stream = target.add_stream_from_template(stream)

    def convert(self, packet: Any, origin: Fraction) -> list[Any]:
        """Return what is to be written for a packet, or at the end for None."""
        if packet is None:
            return []
        shift = round(origin / packet.time_base)
        packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, self._stream
        return [packet]


class _CodedTrack:
    """A track that is coded anew as AAC."""

    def __init__(self, stream: Any, target: Any) -> None:
        source = stream.codec_context
        rate = source.sample_rate if source.sample_rate in _RATES else 48_000
        self._stream = target.add_stream("aac", rate=rate)
        layout = source.layout.name if source.layout.name in _LAYOUTS else "stereo"
        self._stream.codec_context.layout = layout
        self._stream.codec_context.bit_rate = _BIT_RATE * self._stream.codec_context.channels

    def convert(self, packet: Any, origin: Fraction) -> list[Any]:
        """Return what is to be written for a packet, or at the end for None."""
        if packet is None:
            return self._stream.encode()
        packets = []
        for frame in packet.decode():
            frame.pts -= round(origin / frame.time_base)
            packets += self._stream.encode(frame)
        return packets


def _create_track(stream: Any, target: Any) -> _CopiedTrack | _CodedTrack:
    track = _CopiedTrack if stream.codec_context.name in _COPIED else _CodedTrack
    return track(stream, target)
