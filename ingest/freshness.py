"""Which silence of a stream should not be; pure.

"Connected and subscribed" proves nothing: a subscription on the wrong route, or of a symbol that the exchange forgot,
is acknowledged and silent. So each stream is watched by its own pace, and a new one by what its kind is known to do.
"""

from common.channels import Channel
from ingest.pace import CEILING_S, Pace

FIRST_S = 25.0
"""A stream of a known kind that never delivered is silent after so long, where nothing is learned of it yet."""

KIN_S = 50.0
"""The same where others of its kind deliver: it may be a quiet book. Whatever is silent is named within a minute."""

RESUBSCRIBED_S = 10.0
"""How long a stream that was subscribed again may go on being silent before its connection is replaced."""


def limit_s(channel: Channel, pace: Pace, *, kin_deliver: bool) -> float | None:
    """How long a stream may be silent, in s; None where its silence proves nothing.

    Args:
        channel: Its kind.
        pace: What is learned of it.
        kin_deliver: Whether other streams of its kind deliver on the same connection: then one that has no beat and
            is not known yet may just be quiet.
    """
    if channel.is_sparse:
        return None
    if pace.is_guessed:
        return pace.limit_s
    if not kin_deliver:
        return FIRST_S
    return KIN_S if channel.pace_s is not None else CEILING_S


def is_due(channel: Channel, pace: Pace, within_s: float) -> bool:
    """Whether a stream that lives must deliver within so many seconds: by its learned pace, else by its kind's."""
    if channel.is_sparse:
        return False
    usual_s = pace.usual_s
    return usual_s <= within_s if usual_s is not None else channel.pace_s is not None
