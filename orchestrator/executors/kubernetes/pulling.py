"""Why an image does not come, and whether it ever will, by the words of the registry and of the node's runtime.

The words differ: Docker's (https://github.com/moby/moby/blob/master/distribution/errors.go), containerd's
(https://github.com/containerd/containerd/tree/main/core/remotes/docker), CRI-O's
(https://github.com/containers/image/blob/main/docker/errors.go), and those of Go's network library in all of them.
"""

from __future__ import annotations

import re

# The registry, or the way to it, fails now: a name that is not resolved, a connection, a time-out, a 5xx, a rate limit.
PASSING = re.compile(
    r"no such host|server misbehaving|name resolution|dial (tcp|udp|unix)|lookup \S+( on \S+)?:|i/o timeout|time-?out"
    r"|timed out|deadline exceeded|context canceled|connection (refused|reset|closed)|broken pipe|\bEOF\b"
    r"|unreachable|no route to host|proxyconnect|too ?many ?requests|rate limit|pull ?QPS exceeded"
    r"|\b(408|425|429|5\d\d) |status(?: ?code)?:? (408|425|429|5\d\d)\b|bad gateway|service unavailable"
    r"|internal server error|temporar|try again|no space left|expired or is not yet valid",
    re.I,
)
# What the registry, or the runtime, will say again however often it is asked.
FINAL = re.compile(
    r"not found|manifest unknown|name unknown|no such (image|manifest)|does not exist|no image found"
    r"|no match for platform|no matching manifest|denied|unauthorized|forbidden|authentication required"
    r"|authorization failed|insufficient_scope|no basic auth credentials|invalid username/password"
    r"|status(?: ?code)?:? 40[134]\b"
    r"|unknown authority|HTTP response to HTTPS client|invalid reference|did not resolve to an alias"
    r"|ambiguous list|rejected by policy|signature",
    re.I,
)
# What a kubelet says instead of the reason between two tries, and of the tries in its events.
BACK_OFF = re.compile(r'^(Back-off pulling image "[^"]*"|Error: (ImagePullBackOff|ErrImagePull))?$')
PULL_FAILED = "Failed to pull image "
PREFIX = re.compile(rf'^({PULL_FAILED}|Back-off pulling image )"[^"]*": ')


def reason_in(message: str) -> str:
    """What went wrong, of a kubelet's message or event; empty where it says no more than that something did."""
    words = PREFIX.sub("", message.strip())
    return "" if BACK_OFF.match(words) else words


def is_final(reason: str, image: str) -> bool:
    """Whether waiting is of no use. What names neither kind may pass."""
    repository = image.partition("@")[0]
    # the image's own name may have any word in it, and CRI-O names a tag, which may be 500, by itself
    words = reason.replace(f"manifest {repository.rpartition(':')[2]} in ", "manifest in ")
    for name in sorted(
        {image, image.partition("/")[0], repository, repository.rpartition(":")[0], repository.rpartition("/")[2]},
        key=len,
    )[::-1]:
        words = words.replace(name, "IMAGE") if len(name) > 3 else words
    return not PASSING.search(words) and bool(FINAL.search(words))
