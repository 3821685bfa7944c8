"""Why an image pull fails, and whether a retry can help, by the words of the registry and of the node's runtime.

The words differ by runtime: Docker (https://github.com/moby/moby/blob/master/distribution/errors.go), containerd
(https://github.com/containerd/containerd/tree/main/core/remotes/docker), CRI-O
(https://github.com/containers/image/blob/main/docker/errors.go), and Go's network library in all of them.
"""

from __future__ import annotations

import re

# The registry or the network fails for now: name resolution, connection, timeout, 5xx, rate limit.
PASSING = re.compile(
    r"no such host|server misbehaving|name resolution|dial (tcp|udp|unix)|lookup \S+( on \S+)?:|i/o timeout|time-?out"
    r"|timed out|deadline exceeded|context canceled|connection (refused|reset|closed)|broken pipe|\bEOF\b"
    r"|unreachable|no route to host|proxyconnect|too ?many ?requests|rate limit|pull ?QPS exceeded"
    r"|\b(408|425|429|5\d\d) |status(?: ?code)?:? (408|425|429|5\d\d)\b|bad gateway|service unavailable"
    r"|internal server error|temporar|try again|no space left|expired or is not yet valid",
    re.I,
)
# Permanent errors of the registry or the runtime: a retry gives the same answer.
FINAL = re.compile(
    r"not found|manifest unknown|name unknown|no such (image|manifest)|does not exist|no image found"
    r"|no match for platform|no matching manifest|denied|unauthorized|forbidden|authentication required"
    r"|authorization failed|insufficient_scope|no basic auth credentials|invalid username/password"
    r"|status(?: ?code)?:? 40[134]\b"
    r"|unknown authority|HTTP response to HTTPS client|invalid reference|did not resolve to an alias"
    r"|ambiguous list|rejected by policy|signature",
    re.I,
)
# A kubelet's words in place of the reason, between two tries and in the events of its tries.
BACK_OFF = re.compile(r'^(Back-off pulling image "[^"]*"|Error: (ImagePullBackOff|ErrImagePull))?$')
PULL_FAILED = "Failed to pull image "
PREFIX = re.compile(rf'^({PULL_FAILED}|Back-off pulling image )"[^"]*": ')


def reason_in(message: str) -> str:
    """Returns the reason in a kubelet's message or event; empty if it names none."""
    words = PREFIX.sub("", message.strip())
    return "" if BACK_OFF.match(words) else words


def is_final(reason: str, image: str) -> bool:
    """Whether a retry cannot help. Unknown reasons count as temporary."""
    repository = image.partition("@")[0]
    # the image's own name may contain any word, and CRI-O prints the tag, such as `500`, separately
    words = reason.replace(f"manifest {repository.rpartition(':')[2]} in ", "manifest in ")
    for name in sorted(
        {image, image.partition("/")[0], repository, repository.rpartition(":")[0], repository.rpartition("/")[2]},
        key=len,
    )[::-1]:
        words = words.replace(name, "IMAGE") if len(name) > 3 else words
    return not PASSING.search(words) and bool(FINAL.search(words))
