# SPDX-License-Identifier: Apache-2.0
"""Runs inside a network namespace of its own, for test_forbidden_targets.py: every address there is this
machine's, a trap listens on all of them, a name server says what we want, and the whole stack runs in
between.  Prints, as JSON, what was refused, what was tried and what arrived.

    forbidden_inside.py FOLDER
"""

import ipaddress
import json
import os
import socket
import struct
import subprocess
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from forbidden_targets import PUBLIC, SPELLINGS, addresses, host, literal_urls  # noqa: E402
from testenv.api import chat  # noqa: E402
from testenv.stack import CONFIG, ROOT, Stack  # noqa: E402
from testenv.wait import wait_until  # noqa: E402

PORTS = (80, 443, 8080)
PROXY = "10.99.99.99"
A, CNAME, AAAA = 1, 5, 28


def run(*command):
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def own_network():
    """All addresses are local, so that whoever connects anywhere ends here."""
    run("ip", "link", "set", "lo", "up")
    run("ip", "route", "add", "local", "0.0.0.0/0", "dev", "lo")
    if os.path.exists("/proc/net/if_inet6"):
        run("ip", "-6", "route", "add", "local", "::/0", "dev", "lo")


def own_names(folder):
    files = {"/etc/resolv.conf": "nameserver 127.0.0.1\noptions attempts:1 timeout:2\n",
             "/etc/nsswitch.conf": "hosts: files dns\npasswd: files\ngroup: files\n",
             "/etc/hosts": "127.0.0.1 localhost\n::1 localhost ip6-localhost\n10.0.0.7 by-hosts.test\n"
                           "169.254.169.254 metadata.google.internal metadata\n127.0.0.1 loop-by-hosts.test\n"}
    for path, text in files.items():
        ours = os.path.join(folder, os.path.basename(path))
        with open(ours, "w", encoding="ascii") as file:
            file.write(text)
        if not os.path.exists(path):
            with open(path, "w", encoding="ascii"):
                pass
        run("mount", "--bind", ours, os.path.realpath(path))


class NameServer(threading.Thread):
    """answers[name] is a list of lists of addresses; each question of a kind takes the next, the last
    stays.  No name is known for longer than the moment (TTL 0)."""

    def __init__(self):
        super().__init__(daemon=True)
        self.answers = {}
        self.asked = {}
        self.peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.peer.bind(("127.0.0.1", 53))

    def run(self):
        while True:
            question, sender = self.peer.recvfrom(2048)
            self.peer.sendto(self.answer(question), sender)

    def answer(self, question):
        labels, at = [], 12
        while question[at]:
            labels.append(question[at + 1:at + 1 + question[at]].decode("ascii", "replace"))
            at += question[at] + 1
        name, end = ".".join(labels).lower(), at + 5
        (kind,) = struct.unpack(">H", question[at + 1:at + 3])
        stages = self.answers.get(name)
        found = []
        if stages and kind in (A, AAAA):
            turn = self.asked.get((name, kind), 0)
            self.asked[name, kind] = turn + 1
            found = [ipaddress.ip_address(text) for text in stages[min(turn, len(stages) - 1)]]
            found = [address for address in found if address.version == (4 if kind == A else 6)]
        records = b"".join(b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 0, len(address.packed)) + address.packed
                           for address in found)
        flags = 0x8180 if stages else 0x8183
        return question[:2] + struct.pack(">HHHHH", flags, 1, len(found), 0, 0) + question[12:end] + records


class Trap:
    """Listens on every address and notes to which one each connection came."""

    def __init__(self):
        self.arrived = []
        self.lock = threading.Lock()
        for port in PORTS:
            listener = socket.socket(socket.AF_INET6)
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("::", port))
            listener.listen(512)
            threading.Thread(target=self.accept, args=(listener,), daemon=True).start()

    def accept(self, listener):
        while True:
            peer, _ = listener.accept()
            address = ipaddress.ip_address(peer.getsockname()[0].partition("%")[0])
            with self.lock:
                self.arrived.append(str(address.ipv4_mapped or address))
            threading.Thread(target=self.serve, args=(peer,), daemon=True).start()

    def serve(self, peer):
        with peer:
            peer.settimeout(5)
            try:
                data = b""
                while b"\r\n\r\n" not in data:
                    chunk = peer.recv(65536)
                    if not chunk:
                        return
                    data += chunk
                peer.sendall(self.answer(data.split(b" ")[1]))
            except OSError:
                pass

    def answer(self, path):
        if path.startswith(b"/redirect"):
            return b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        if path.startswith(b"/fail"):
            return b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        return b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

    def take(self):
        with self.lock:
            seen, self.arrived = self.arrived, []
        return seen


def reachable(trap, targets):
    """Those whose connections the trap sees when nobody guards anything."""
    found = []
    for address in targets:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as peer:
            peer.settimeout(5)
            try:
                peer.connect((address, 8080))
                # Only once it has answered has the trap surely seen it.
                peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
                if peer.recv(100):
                    found.append(address)
            except OSError:
                pass
    trap.take()
    return found


def submit_refusals(stack):
    """url -> [status, code, param] at submit, and status as an endpoint."""
    api, admin, said = stack.api(), stack.admin(), {}
    for url in literal_urls():
        job = api.client.post("/v1/jobs", json={"request": chat(tokens=1), "webhook": {"url": url}})
        error = job.json().get("error") or {}
        endpoint = admin.client.post("/admin/v1/tenants/default/endpoints", json={"url": url})
        said[url] = [job.status_code, error.get("code"), error.get("param"), endpoint.status_code]
    return said


def deliveries(stack, urls, is_checked=True):
    """url -> [state, tries] once each was tried to its end.  Unless checked, the URL comes to the job behind
    the API's back, as from a time when the rules were others."""
    api, admin = stack.api(), stack.admin()
    given = urls if is_checked else ["http://public.test/"] * len(urls)
    admin.post_json("/admin/v1/pause", {"tenant": "default"})
    answers, summary = api.bulk([{"request": chat(tokens=1), "webhook": {"url": url}} for url in given])
    assert summary["accepted"] == len(urls), [a for a in answers if "error" in a]
    for answer, url in zip(answers, urls):
        if not is_checked:
            stack.sql.rows("UPDATE jobs SET webhook_url = %s WHERE id = %s", url, answer["id"][4:])
    admin.post_json("/admin/v1/resume", {"tenant": "default"})
    hexes = [answer["id"][4:] for answer in answers]
    query = "SELECT job, state, tries FROM deliveries WHERE job = ANY(%s::uuid[]) AND state <> 'waiting'"
    wait_until(lambda: len(stack.sql.rows(query, hexes)) == len(urls), 120, "all deliveries to end", interval_s=0.2)
    rows = {row["job"].hex: row for row in stack.sql.rows(query, hexes)}
    return {url: [rows[job]["state"], rows[job]["tries"]] for job, url in zip(hexes, urls)}


def name_for(names, stages):
    name = f"n{len(names.answers)}.test"
    names.answers[name] = stages
    return name


def config(folder):
    with open(CONFIG, encoding="utf-8") as file:
        text = file.read()
    text = text.replace("prices: ../../", f"prices: {ROOT}/")
    start = text.index("webhooks:")
    path = os.path.join(folder, "nightshift.yaml")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text[:start] + "webhooks:\n  allow_networks: []\n  schedule_s: [0, 1, 2]\n  timeout_ms: 3000\n")
    return path


def rebinding(names):
    """Names whose answer changes between, or holds both kinds."""
    bad = ["10.0.0.1", "127.0.0.1", "169.254.169.254", "::1", "fd00:ec2::254", "::ffff:10.0.0.1", "64:ff9b::a00:1", "0.0.0.0"]
    urls = []
    for address in bad:
        for stages in ([["8.8.8.8"], [address]], [["8.8.8.8"], ["8.8.8.8"], [address]], [["2003::1"], [address]],
                       [["8.8.8.8"], [address], ["8.8.8.8"], [address]]):
            urls.append(f"http://{name_for(names, stages)}:8080/fail")
        for both in (["8.8.8.8", address], [address, "8.8.8.8"], ["2003::1", address], [address, "2003::1", "8.8.8.8"]):
            urls.append(f"http://{name_for(names, [both])}/fail")
            urls.append(f"http://{name_for(names, [both])}/")
    return urls


def tell(stack, trap, names):
    forbidden = addresses()
    report = {"reachable": reachable(trap, forbidden), "public_reachable": reachable(trap, PUBLIC)}
    report["submit"] = submit_refusals(stack)
    report["submit_arrived"] = trap.take()

    by_name = {f"http://{name_for(names, [[address]])}:{PORTS[n % 3]}/": address for n, address in enumerate(forbidden)}
    hosts = ["http://localhost/", "http://LocalHost:8080/", "http://localhost./", "http://x.localhost/", "http://ip6-localhost/",
             "http://by-hosts.test/", "https://by-hosts.test/", "http://metadata.google.internal/computeMetadata/v1/",
             "http://metadata/", "http://loop-by-hosts.test:8080/"]
    report["names"] = deliveries(stack, [*by_name, *hosts])
    report["names_arrived"] = trap.take()

    literal = [f"http://{host(address)}:8080/" for address in forbidden]
    odd = [f"http://{spelling}/" for spelling in SPELLINGS if "@" not in spelling]
    report["unchecked"] = deliveries(stack, literal + odd, is_checked=False)
    report["unchecked_arrived"] = trap.take()

    report["rebinding"] = deliveries(stack, rebinding(names))
    report["rebinding_arrived"] = trap.take()
    report["redirect"] = deliveries(stack, [f"http://{name_for(names, [['8.8.8.8']])}/redirect"])
    report["redirect_arrived"] = trap.take()

    allowed = [f"http://{host(address)}/" for address in PUBLIC if address in report["public_reachable"]]
    allowed += [f"http://{name_for(names, [['8.8.8.8']])}/"]
    report["public"] = deliveries(stack, allowed)
    report["public_arrived"] = trap.take()
    return report


def main():
    folder = sys.argv[1]
    own_network()
    own_names(folder)
    trap, names = Trap(), NameServer()
    names.start()
    names.answers["public.test"] = [["8.8.8.8"]]
    # Nor does a proxy of the environment lead anywhere.
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        os.environ[name] = f"http://{PROXY}:8080"
    os.environ["no_proxy"] = "127.0.0.1"
    with Stack(broker="embedded", config=config(folder)) as stack:
        report = tell(stack, trap, names)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
