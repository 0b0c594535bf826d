"""Which IP addresses are ordinary ones out on the internet, and which lead inside."""

import ipaddress

# Not the standard library's is_global: it changes between Python versions and lets tunnels to private hosts through.
# Everything of IPv4 but these, from the IANA registry of special-purpose addresses:
FORBIDDEN_IPV4 = [
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT, and Alibaba's metadata at 100.100.100.200
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's host agent, on a public address
        "169.254.0.0/16",  # link-local, and most clouds' metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments, and Oracle's metadata at 192.0.0.192
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
]
# Nothing of IPv6 but global unicast, which leaves out loopback, embedded IPv4 (::ffff:0:0/96, 64:ff9b::/96,
# 64:ff9b:1::/48), unique local (with AWS's metadata at fd00:ec2::254), link-local, site-local, 5f00::/16, multicast ...
GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")
# ... and of that not these:
FORBIDDEN_IPV6 = [
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarks
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which embeds any IPv4 address
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
]


def is_public(address: str) -> bool:
    """Whether an IP address, as numbers, is an ordinary one out on the internet."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv4Address):
        return not any(ip in network for network in FORBIDDEN_IPV4)
    return ip in GLOBAL_IPV6 and not any(ip in network for network in FORBIDDEN_IPV6)
