"""All seats: which stream sits where, who joins and leaves, who is paused, and what all of them say together."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from common.channels import CHANNELS
from common.clock import SECOND_NS, iso, now_ns
from common.gate import Decision
from common.lag import Way
from common.producer import Producer
from common.session import Marked
from common.settings import Settings
from common.streams import STREAMS_SET, Stream, unknown
from common.wire import pack
from ingest.attempts import Attempts
from ingest.collector import Collector
from ingest.freshness import is_due
from ingest.jumps import Jump
from ingest.pace import CEILING_S, Pace
from ingest.plan import recorded, route_of, seats

log = logging.getLogger(__name__)

Symbol = tuple[str, str]
"""Market and symbol."""


class _Paces(defaultdict[Stream, Pace]):
    """What is known of each stream's pace; it outlives connections."""

    def __init__(self) -> None:
        super().__init__(Pace)


class Fleet:
    """Keeps every stream that is to be recorded on a connection.

    Args:
        settings: All settings.
        producer: Where frames go.
        group: Where the collectors run.
        stopping: Ends them.
    """

    def __init__(
        self, settings: Settings, producer: Producer, group: asyncio.TaskGroup, stopping: asyncio.Event
    ) -> None:
        self._settings = settings
        self._producer = producer
        self._group = group
        self._stopping = stopping
        self._attempts = Attempts()
        self._paces: dict[Stream, Pace] = _Paces()
        self._ways = {market: Way() for market in settings.markets}
        self._numbers: defaultdict[str, int] = defaultdict(int)
        self._seat_of: dict[Stream, Collector] = {}
        self._closed: dict[Symbol, Decision] = {}
        self._flagged: dict[Symbol, Decision] = {}
        self._retired = 0
        self._retired_dropped = 0
        self.collectors: list[Collector] = []

    # Who is recorded.

    def start(self, symbols: Mapping[str, Iterable[str]]) -> None:
        """Takes the symbols of each market that are recorded at the start, spread evenly over the connections."""
        streams = recorded(self._settings.channels, symbols)
        self._producer.register([*streams, *map(unknown, self._settings.markets)])
        for _, part in seats(streams, self._settings.ingest.streams_per_connection):
            self._seat(list(part))

    def join(self, market: str, symbols: Iterable[str]) -> None:
        """Records more symbols: on the connection of their route that has the most room."""
        streams = [
            stream for stream in recorded(self._settings.channels, {market: symbols}) if stream not in self._seat_of
        ]
        self._producer.register(streams)
        for stream in streams:  # known before its first frame, also on the connection to Redis that is open now
            self._producer.append(pack("SADD", STREAMS_SET, stream.key), always=True)
        for route, part in seats(streams, self._settings.ingest.streams_per_connection):
            waiting = list(part)
            for collector in sorted(self.collectors, key=lambda each: len(each.streams)):
                room = self._settings.ingest.streams_per_connection - len(collector.streams)
                if collector.route == route and collector.streams and room > 0:
                    self._sit(collector, waiting[:room])
                    del waiting[:room]
            if waiting:
                self._seat(waiting)

    def leave(self, market: str, symbols: Mapping[str, str]) -> None:
        """Records symbols no more, each with why in words."""
        for symbol, why in symbols.items():
            for collector, streams in self._seats_of((market, symbol)):
                collector.leave(streams, "halted", why)
                for stream in streams:
                    del self._seat_of[stream]

    def _seat(self, streams: list[Stream]) -> None:
        route = route_of(streams[0])
        self._numbers[str(route)] += 1
        collector = Collector(
            self._numbers[str(route)],
            route,
            settings=self._settings,
            producer=self._producer,
            attempts=self._attempts,
            paces=self._paces,
            way=self._ways[route.market],
        )
        self.collectors.append(collector)
        self._sit(collector, streams)
        task = self._group.create_task(collector.run(self._stopping), name=collector.name)
        task.add_done_callback(lambda _: self._retire(collector))

    def _sit(self, collector: Collector, streams: list[Stream]) -> None:
        for stream in streams:
            self._seat_of[stream] = collector
            closed = self._closed.get((stream.market, stream.symbol))
            if closed is not None:
                collector.paused[stream] = "gate", closed.reason
            flag = self._flagged.get((stream.market, stream.symbol))
            if flag is not None:
                collector.flagged[stream] = _mark(flag)
        collector.join(streams)

    def _retire(self, collector: Collector) -> None:
        """A seat that lost all its streams."""
        if not self._stopping.is_set():
            self._retired += collector.received
            self._retired_dropped += collector.dropped
            self.collectors.remove(collector)

    def _seats_of(self, symbol: Symbol) -> list[tuple[Collector, list[Stream]]]:
        by_seat: dict[Collector, list[Stream]] = {}
        for channel, kind in CHANNELS.items():
            stream = Stream(symbol[0], channel, symbol[1])
            if symbol[0] in kind.routes and stream in self._seat_of:
                by_seat.setdefault(self._seat_of[stream], []).append(stream)
        return list(by_seat.items())

    # What the gate says.

    def obey(self, shut: Mapping[Symbol, Decision]) -> None:
        """Pauses the symbols that the gate closed, marks those that it flags, and lets go of those that it opened.

        Args:
            shut: Every symbol that is closed or flagged now.
        """
        closed = {symbol: one for symbol, one in shut.items() if one.mode == "pause"}
        flagged = {symbol: one for symbol, one in shut.items() if one.mode == "flag"}
        for symbol in closed.keys() - self._closed.keys():
            log.warning("%s %s: the gate is closed, unsubscribing: %s", *symbol, closed[symbol].reason)
            for collector, streams in self._seats_of(symbol):
                collector.pause(streams, "gate", closed[symbol].reason)
        for symbol in self._closed.keys() - closed.keys():
            log.info("%s %s: the gate is open, subscribing again", *symbol)
            for collector, streams in self._seats_of(symbol):
                collector.resume(streams)
        for symbol in flagged.keys() - self._flagged.keys():
            for collector, streams in self._seats_of(symbol):
                for stream in streams:
                    collector.flag(stream, _mark(flagged[symbol]))
        for symbol in self._flagged.keys() - flagged.keys():
            for collector, streams in self._seats_of(symbol):
                for stream in streams:
                    collector.unflag(stream, now_ns())
        self._closed, self._flagged = closed, flagged

    # What happened to the machine.

    def jumped(self, jump: Jump) -> None:
        """After a sleep every connection is begun anew; a step of the clock is marked in every stream."""
        if jump.slept_s:
            words = f"the machine slept for {jump.slept_s:.1f} s"
            log.warning("%s, seen at %s: everything is connected anew", words, iso(jump.after_ns))
            for collector in self.collectors:
                collector.cut("suspend", words, jump.before_ns)
        if jump.stepped_s:
            words = f"the clock was stepped by {jump.stepped_s:+.3f} s"
            log.warning("%s, seen at %s", words, iso(jump.after_ns))
            for way in self._ways.values():
                way.forget()
            first_ns, last_ns = sorted((jump.before_ns, jump.after_ns))
            for collector in self.collectors:
                collector.stepped(Marked(first_ns, "suspend", last_ns, words))

    # What it says of itself.

    def beats(self) -> dict[str, str]:
        """Each living connection's sign of life, for `producer.BEATS`."""
        return {name: beat for collector in self.collectors for name, beat in collector.beats().items()}

    def latencies_ms(self, market: str) -> dict[str, float]:
        """Symbol to receive time minus event time, in ms, of what came in the last seconds."""
        found: dict[str, int] = {}
        for collector in self.collectors:
            if collector.route.market == market:
                for symbol, delay_ns in collector.delays().items():
                    found[symbol] = max(delay_ns, found.get(symbol, delay_ns))
        return {symbol: delay_ns / 1_000_000 for symbol, delay_ns in found.items()}

    def frames(self) -> Iterator[tuple[Stream, int]]:
        """Frames received so far, by stream."""
        for collector in self.collectors:
            yield from collector.frames().items()

    @property
    def received(self) -> int:
        """Frames received so far, of all streams."""
        return self._retired + sum(collector.received for collector in self.collectors)

    @property
    def dropped(self) -> int:
        """Frames received and not kept."""
        return self._retired_dropped + sum(collector.dropped for collector in self.collectors)

    @property
    def alive_ns(self) -> int:
        """When the exchange was last heard on any connection, pings included; 0 before."""
        return max((collector.alive_ns for collector in self.collectors), default=0)

    @property
    def is_paused(self) -> bool:
        """Whether nothing is to come: the gate has closed every stream, or there is none."""
        return all(stream in collector.paused for stream, collector in self._seat_of.items())

    @property
    def is_due(self) -> bool:
        """Whether a stream is subscribed that must deliver within minutes, if anything lives."""
        return any(
            stream not in collector.paused and is_due(CHANNELS[stream.channel], self._paces[stream], CEILING_S)
            for stream, collector in self._seat_of.items()
        )

    @property
    def paused(self) -> int:
        """How many streams the gate has closed."""
        return sum(len(collector.paused) for collector in self.collectors)


def _mark(flag: Decision) -> Marked:
    return Marked(max(flag.since_ns, now_ns() - SECOND_NS), "gate", reason=flag.reason)
