"""A wide-area network on one machine: hosts in network namespaces, joined by a router in user space.

Each host is a network namespace of its own with one TUN device. The router, a process that runs this file,
reads the packets of all devices, holds each up-link to its rate with a token bucket per sender and a bounded
queue, and delivers them a delay later. It needs root on Linux and /dev/net/tun, and neither tc, ip nor
kernel modules. The namespaces have no names and nothing outside them is changed: they are gone with the
processes that hold them, however those end.

    with EmulatedWan(["alice", "bob"]) as wan:
        with wan.inside("alice"):
            subprocess.Popen(...)  # lives at wan.address("alice") and sees only the others' addresses
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType
from typing import Final, Self

DEVICE: Final = "wan0"
"""What every host calls its device."""
RATE: Final = 100e6
"""Bits per second of each up-link, counted over whole IP packets."""
DELAY: Final = 0.020
"""Seconds one way."""
_MTU: Final = 1500
_BURST: Final = 10 * _MTU
_QUEUE: Final = 0.1  # seconds of an up-link that its queue holds before it drops
_SUBNET: Final = "10.213.7"

_CONGESTION: Final = "/proc/sys/net/ipv4/tcp_congestion_control"

_CLONE_NEWNET: Final = 0x40000000
_TUNSETIFF: Final = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_SIOCSIFADDR, _SIOCSIFNETMASK, _SIOCSIFMTU, _SIOCSIFTXQLEN = 0x8916, 0x891C, 0x8922, 0x8943
_IFF_UP: Final = 0x1


class NoNamespaces(OSError):
    """This machine or user cannot have network namespaces or TUN devices; the text is one sentence."""


class EmulatedWan:
    """Hosts, each with an address, and the router between them, from `with` to its end.

    The namespaces are entered on the thread that asks; `inside` is for one thread at a time.

    Args:
        names: the hosts, at most 250.
        rate: bits per second of each up-link.
        delay: seconds one way.
        congestion: TCP's congestion control on all hosts, one that the machine allows in namespaces; None
            keeps the machine's.

    Raises:
        NoNamespaces: on entering, where they cannot be had.
    """

    def __init__(
        self, names: Sequence[str], rate: float = RATE, delay: float = DELAY, congestion: str | None = None
    ) -> None:
        self.names = tuple(names)
        self._congestion = congestion
        self._rate, self._delay = rate, delay
        self._namespaces: dict[str, int] = {}
        self._router: subprocess.Popen[bytes] | None = None
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            tuns = [stack.enter_context(_closing(self._host(name, stack))) for name in self.names]
            command = [sys.executable, "-S", __file__, str(self._rate), str(self._delay), *map(str, tuns)]
            # It ends when its standard input does, which it does with this process, whatever happens.
            self._router = subprocess.Popen(command, pass_fds=tuns, stdin=subprocess.PIPE)
            stack.callback(self._stop)
            self._cleanup = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.close()

    def address(self, name: str) -> str:
        """The IPv4 address of a host."""
        return f"{_SUBNET}.{1 + self.names.index(name)}"

    @contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """Meanwhile the sockets and processes that this thread makes are the host's."""
        with _restored_namespace():
            _enter(self._namespaces[name])
            yield

    def congestion(self) -> str:
        """TCP's congestion control on all hosts."""
        with self.inside(self.names[0]), open(_CONGESTION) as setting:
            return setting.read().strip()

    def round_trip(self, source: str, target: str, pings: int = 10) -> float:
        """The median time of ICMP echos in seconds; the answers are the target kernel's.

        Raises:
            TimeoutError: an answer did not come within a second.
        """
        with self.inside(source):
            raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        times = []
        with raw:
            raw.settimeout(1.0)
            for number in range(pings):
                echo = struct.pack("!BBHHH", 8, 0, 0, 0x5EED, number)
                echo = echo[:2] + struct.pack("!H", _checksum(echo)) + echo[4:]
                began = time.monotonic()
                raw.sendto(echo, (self.address(target), 0))
                while raw.recv(2048)[20:28] != b"\0\0" + _reply_checksum(number) + echo[4:]:
                    pass
                times.append(time.monotonic() - began)
        return sorted(times)[pings // 2]

    def throughput(self, source: str, target: str, seconds: float = 2.0) -> float:
        """Bits per second of one TCP connection as it arrives, after half a second of start-up."""
        with self.inside(target):
            listener = socket.create_server((self.address(target), 0))
        with listener:
            listener.settimeout(5.0)
            with self.inside(source):
                sender = socket.create_connection(listener.getsockname(), timeout=5.0)
            receiver, _ = listener.accept()
        with sender, receiver:
            receiver.settimeout(5.0)
            enough = time.monotonic() + 0.5 + seconds
            sending = threading.Thread(target=_flood, args=(sender, enough), daemon=True)
            sending.start()
            received, counted_from = 0, time.monotonic() + 0.5
            while (now := time.monotonic()) < enough:
                data = receiver.recv(1 << 16)
                if now >= counted_from:
                    received += len(data)
        sending.join(10.0)
        return 8 * received / seconds

    def _host(self, name: str, stack: ExitStack) -> int:
        with _restored_namespace():
            _check(_libc().unshare(_CLONE_NEWNET), "this user cannot make network namespaces")
            namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, namespace)
            self._namespaces[name] = namespace
            if self._congestion is not None:
                try:
                    with open(_CONGESTION, "w") as setting:
                        setting.write(self._congestion)
                except OSError as error:
                    raise NoNamespaces(
                        f"TCP's {self._congestion} cannot be had in a namespace here ({error.strerror})"
                    ) from None
            return _device(self.address(name))

    def _stop(self) -> None:
        router, self._router = self._router, None
        if router is not None:
            assert router.stdin is not None
            router.stdin.close()
            try:
                router.wait(5.0)
            except subprocess.TimeoutExpired:
                router.kill()
                router.wait()


def why_not() -> str | None:
    """Why an emulated network cannot be had here, as one sentence; None where it can."""
    try:
        with EmulatedWan(["one", "other"]) as wan:
            wan.round_trip("one", "other", pings=1)
    except (NoNamespaces, TimeoutError) as reason:
        return str(reason)
    return None


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(status: int, refusal: str) -> None:
    if status != 0:
        raise NoNamespaces(f"{refusal} ({os.strerror(ctypes.get_errno())})")


def _enter(namespace: int) -> None:
    _check(_libc().setns(namespace, _CLONE_NEWNET), "a network namespace cannot be entered")


@contextmanager
def _restored_namespace() -> Iterator[None]:
    """This thread is back where it was at the end."""
    if sys.platform != "linux":
        raise NoNamespaces(f"{sys.platform} has no network namespaces")
    if os.geteuid() != 0:
        raise NoNamespaces("network namespaces and TUN devices need root")
    try:
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NoNamespaces(f"this kernel shows no network namespaces ({error.strerror})") from None
    try:
        yield
    finally:
        try:
            _enter(before)
        finally:
            os.close(before)


@contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _device(address: str) -> int:
    """Makes a TUN device in this thread's namespace, and brings it and the loopback interface up."""
    try:
        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise NoNamespaces(f"/dev/net/tun cannot be opened ({error.strerror})") from None
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH14x", DEVICE.encode(), _IFF_TUN | _IFF_NO_PI))
            for request, value in ((_SIOCSIFMTU, _MTU), (_SIOCSIFTXQLEN, 2000)):
                fcntl.ioctl(control, request, struct.pack("16si12x", DEVICE.encode(), value))
            for request, text in ((_SIOCSIFADDR, address), (_SIOCSIFNETMASK, "255.255.255.0")):
                place = struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(text))
                fcntl.ioctl(control, request, struct.pack("16s16s", DEVICE.encode(), place))
            for device in ("lo", DEVICE):
                before = fcntl.ioctl(control, _SIOCGIFFLAGS, struct.pack("16sH14x", device.encode(), 0))
                (flags,) = struct.unpack_from("H", before, 16)
                wanted = struct.pack("16sH14x", device.encode(), flags | _IFF_UP)
                fcntl.ioctl(control, _SIOCSIFFLAGS, wanted)
    except OSError as error:
        os.close(tun)
        raise NoNamespaces(f"a TUN device cannot be made here ({error.strerror})") from None
    return tun


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _reply_checksum(number: int) -> bytes:
    return struct.pack("!H", _checksum(struct.pack("!BBHHH", 0, 0, 0, 0x5EED, number)))


def _flood(sender: socket.socket, until: float) -> None:
    block = bytes(1 << 16)
    try:
        while time.monotonic() < until:
            sender.sendall(block)
    except OSError:
        return  # the receiver has seen enough


def route(rate: float, delay: float, tuns: Sequence[int]) -> None:
    """Carries packets until standard input ends.

    A token bucket as a clock: `free[i]` is when the up-link has sent all that was given to it. A packet
    leaves then, or at once while the bucket holds tokens, and arrives `delay` later.
    """
    seconds_per_byte, burst = 8 / rate, _BURST * 8 / rate
    free = [0.0] * len(tuns)
    queues: list[deque[tuple[float, int, bytes]]] = [deque() for _ in tuns]
    sender_of = {tun: number for number, tun in enumerate(tuns)}
    watched = [0, *tuns]
    clock, read, write = time.monotonic, os.read, os.write
    while True:
        now = clock()
        due = None
        for queue in queues:
            while queue and queue[0][0] <= now:
                _, target, packet = queue.popleft()
                with suppress(OSError):  # the host is too slow or gone: networks lose packets
                    write(target, packet)
            if queue and (due is None or queue[0][0] < due):
                due = queue[0][0]
        ready, _, _ = select.select(watched, [], [], None if due is None else max(0.0, due - clock()))
        now = clock()
        for descriptor in ready:
            if descriptor == 0:
                return
            sender = sender_of[descriptor]
            for _ in range(32):
                try:
                    packet = read(descriptor, 2048)
                except BlockingIOError:
                    break
                number = packet[19] - 1 if len(packet) >= 20 and packet[0] >> 4 == 4 else -1
                if not 0 <= number < len(tuns) or free[sender] > now + _QUEUE:
                    continue  # not for a host (the kernel looks for IPv6 routers), or the queue is full
                free[sender] = max(free[sender], now - burst) + len(packet) * seconds_per_byte
                queues[sender].append((max(now, free[sender]) + delay, tuns[number], packet))


if __name__ == "__main__" and len(sys.argv) > 1:
    route(float(sys.argv[1]), float(sys.argv[2]), [int(tun) for tun in sys.argv[3:]])
