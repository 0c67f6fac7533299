"""A peer with python-zeroconf: browses, or claims a name, until it is killed. One event a line."""

import socket
import sys
import threading

from zeroconf import NonUniqueNameException, ServiceBrowser, ServiceInfo, Zeroconf

KIND = "_https._tcp.local."


def say(*words):
    print(*words, flush=True)


class Listener:
    """Resolves what it hears of, as often as it changes."""

    def add_service(self, zeroconf, kind, name):
        # Resolving waits for the network, which a listener must not.
        threading.Thread(target=self.resolve, args=(zeroconf, kind, name), daemon=True).start()

    update_service = add_service

    def resolve(self, zeroconf, kind, name):
        info = zeroconf.get_service_info(kind, name, timeout=60_000)
        if info is None:
            say("unresolved", name)
            return
        addresses = ",".join(sorted(info.parsed_addresses()))
        say("resolved", name.replace(" ", "_"), info.server, info.port, addresses)

    def remove_service(self, zeroconf, kind, name):
        say("gone", name.replace(" ", "_"))


def claim(zeroconf, name, address):
    """Has a service called `name`, on a machine of that name."""
    info = ServiceInfo(
        KIND,
        f"{name}.{KIND}",
        addresses=[socket.inet_aton(address)],
        port=443,
        server=f"{name}.local.",
    )
    try:
        zeroconf.register_service(info)
        say("claimed", name)
    except NonUniqueNameException:
        say("taken", name)


def main():
    what, address, *names = sys.argv[1:]
    zeroconf = Zeroconf(interfaces=[address])
    if what == "browse":
        ServiceBrowser(zeroconf, KIND, Listener())
        say("browsing")
    else:
        claim(zeroconf, names[0], address)
    threading.Event().wait()


main()
