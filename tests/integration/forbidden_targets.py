# SPDX-License-Identifier: Apache-2.0
"""Where a webhook must never go: every range that is not public, and ways to spell or hide an address in
it; and beside them addresses that are public, as the check on the check."""

import ipaddress

RANGES = """
0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 168.63.129.16/32 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24
192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 255.255.255.255/32
::/128 ::1/128 ::/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 2001::/32 2001:db8::/32 2002::/16 3fff::/20 5f00::/16 fc00::/7
fd00:ec2::254/128 fe80::/10 fec0::/10 ff00::/8 ::ffff:10.0.0.0/104 ::ffff:127.0.0.0/104 ::ffff:169.254.0.0/112
::ffff:192.168.0.0/112 64:ff9b::a00:0/104 64:ff9b::a9fe:0/112 2002:a00::/24 2002:7f00::/24 2002:a9fe::/32
""".split()

# Just beside the ranges, and some that are well known.
PUBLIC = """
1.0.0.0 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1 168.63.129.15 168.63.129.17
169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.0.3.0 192.88.98.255 192.88.100.0 192.167.255.255
192.169.0.0 198.17.255.255 198.20.0.0 198.51.99.255 198.51.101.0 203.0.112.255 203.0.114.0 223.255.255.255 8.8.8.8
2001:4860:4860::8888 2003::1 2606:4700::1111 2a00:1450::1 2000::1 3ffe::1
""".split()

SPELLINGS = """
127.1 127.0.1 0177.0.0.1 0x7f.1 0x7f.0x0.0x0.0x1 0x7f000001 2130706433 017700000001 00000177.0.0.01 0X7F.0.0.1 127.0.0.1.
10.1 0xa.1 012.0.0.1 012.1 0xa000001 167772161 01200000001 10.0.1 10.0.0.1. 169.254.43518 0xa9fea9fe 2852039166 0251.0376.0251.0376
0xa9.0xfe.0xa9.0xfe 192.168.257 0xc0a80101 3232235777 172.16.1 0xac100001 0 00 0x0 0.0 0.0.0 1 255 4294967295 0xffffffff
[::ffff:127.0.0.1] [::ffff:7f00:1] [0:0:0:0:0:ffff:127.0.0.1] [0:0:0:0:0:ffff:a9fe:a9fe] [::FFFF:10.0.0.1] [::127.0.0.1]
[::] [0:0:0:0:0:0:0:0] [::1] [0000:0000:0000:0000:0000:0000:0000:0001] [0:0:0:0:0:0:0:1] [::0.0.0.1] [64:ff9b::10.0.0.1]
[64:ff9b::a9fe:a9fe] [2002:a00:1::] [2002:7f00:1::1] [2001:0:4136:e378:8000:63bf:f5ff:fffe] [fe80::1] [fe80::1%25lo] [::1%25lo]
[fe80::1%lo] [FE80::1] [fd00:ec2::254] [FC00::1] %31%32%37.0.0.1 127%2e0%2e0%2e1 %5b::1%5d 10.0.0.1%00 user@10.0.0.1
user:word@10.0.0.1 example.com@10.0.0.1 10.0.0.1:80@example.com 10.0.0.1%23@example.com :@127.0.0.1 @127.0.0.1
""".split()

WHOLE = ["http:/10.0.0.1/", "http:10.0.0.1/", "http:///10.0.0.1/", "http:////10.0.0.1/", "http:\\\\10.0.0.1\\",
         "http://example.com\\@10.0.0.1/", "http://10.0.0.1\\@example.com/", "HTTP://10.0.0.1/", "hTTpS://127.0.0.1/",
         "//10.0.0.1/", "10.0.0.1", "file:///etc/passwd", "gopher://10.0.0.1/", "dict://10.0.0.1:6379/", "ftp://10.0.0.1/",
         "ldap://10.0.0.1/", "telnet://10.0.0.1/", "http+unix://%2ftmp%2fx/", "unix:/tmp/x", "javascript:alert(1)", "",
         " http://10.0.0.1/", "http://10.0.0.1/ ", "http://10.0.0.1\t/", "http://10.0.0.1\n/", "http://10.0.0.1\r\nx: y/",
         "http://\u2460\u2461\u2466.0.0.1/", "http://127\u30020\u30020\u30021/", "http://\uff11\uff12\uff17.0.0.1/",
         "http://10.0.0.1:0/", "http://10.0.0.1:65536/", "http://10.0.0.1:99999/", "http://10.0.0.1:-1/", "http://",
         "http://:80/", "http:///", "http://[::1/", "http://::1/", "http://[::ffff:10.0.0.1%25lo]/"]


def host(address):
    return f"[{address}]" if ":" in str(address) else str(address)


def addresses():
    """Three of each range: the first, the last, and one between."""
    found = {}
    for text in RANGES:
        network = ipaddress.ip_network(text)
        for number in (0, network.num_addresses // 3, network.num_addresses - 1):
            found[str(network[number])] = text
    return list(found)


def literal_urls():
    """Every URL that says by itself that it must not be called."""
    urls = []
    for number, address in enumerate(addresses()):
        urls.append((f"http://{host(address)}/", f"https://{host(address)}:443/x", f"http://{host(address)}:8080/?a=b")[number % 3])
    for spelling in SPELLINGS:
        urls.append(f"http://{spelling}/")
    return list(dict.fromkeys(urls + WHOLE))
