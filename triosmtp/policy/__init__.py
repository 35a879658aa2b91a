"""Policy: who decides about sessions and messages, and how policies are put together.

``session.py`` what they see, ``interface.py`` what they implement, ``chain.py`` how several are asked, ``load.py`` how
the configuration names them.
"""

from triosmtp.policy.chain import CONTINUE, Chain, Decision
from triosmtp.policy.interface import DONE, PHASES, Done, Phase, Policy
from triosmtp.policy.load import PolicyLoader
from triosmtp.policy.session import Session

__all__ = ["CONTINUE", "DONE", "PHASES", "Chain", "Decision", "Done", "Phase", "Policy", "PolicyLoader", "Session"]
