"""Where VTAB-1k lies in public: the mirrors known by name, and any http(s) address that a user gives."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from ...common.errors import PeftlabError, near


@dataclass(frozen=True)
class Mirror:
    """A public copy of VTAB-1k. `manual`: its host wants a browser."""

    url: str
    archive: str
    manual: bool = False


# Addresses as read in the named places; none of them has been tried. We know of no published sha256.
MIRRORS = {
    # V-PETL Bench (README of synbol/Parameter-Efficient-Transfer-Learning-Benchmark); about 4.7 GB
    "vtab-1k": Mirror("https://huggingface.co/datasets/XiN0919/VTAB-1k/resolve/main/vtab-1k.zip", "vtab-1k.zip"),
    # RepAdapter (SETUP_DATA.md of BenediktAlkin/vtab1k-pytorch)
    "vtab-1k-repadapter": Mirror(
        "https://drive.google.com/file/d/1yZKwiKdsBzTfBgnStRveYMokc7GMMd5p", "vtab-1k-repadapter.zip", manual=True
    ),
    # SSF (README of dongzelian/SSF)
    "vtab-1k-ssf": Mirror(
        "https://shanghaitecheducn-my.sharepoint.com/:f:/g/personal/liandz_shanghaitech_edu_cn/"
        "EnV6eYPVCPZKhbqi-WSJIO8BOcyQwDwRk6dAThqonQ1Ycw?e=J884Fp",
        "vtab-1k-ssf.zip",
        manual=True,
    ),
}


def find_mirror(name: str, url: str | None = None) -> Mirror:
    """The mirror of a name, or one at the user's http(s) address. Raises PeftlabError for another name or address.

    >>> find_mirror("vtab-1k").archive, find_mirror("vtab-1k", url="https://example.org/data.tar.gz").archive
    ('vtab-1k.zip', '0a7d64a2-data.tar.gz')
    """
    if name not in MIRRORS:
        raise PeftlabError(f"unknown data set {name!r}{near(name, MIRRORS)}")
    if url is None:
        return MIRRORS[name]
    require_http(url)
    # One archive name per address, so that neither a .part nor a recorded sha256 meets a file of another address.
    base = PurePosixPath(urlsplit(url).path).name or name
    return Mirror(url, f"{hashlib.sha256(url.encode()).hexdigest()[:8]}-{base}")


def require_http(url: str) -> None:
    """Raise PeftlabError for anything but an http or https address, in the ASCII that goes over the line."""
    try:
        parts = urlsplit(url)
        host, _ = (parts.hostname or "").encode("idna"), parts.port  # both raise ValueError where they cannot be
        valid = bool(parts.scheme in ("http", "https") and host and re.fullmatch("[!-~]+", url))
    except ValueError:
        valid = False
    if not valid:
        raise PeftlabError(
            f"{url!r}: only http and https addresses are fetched, in ASCII. Unpack local archives by hand"
        )
