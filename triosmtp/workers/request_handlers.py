"""The answers of a supervisor to the requests of its workers: what only one process can decide."""

from triosmtp.limits.limit_reached import LimitReached
from triosmtp.policy_service.question import Verdict
from triosmtp.server.service import Service
from triosmtp.workers.channel import RequestHandlers
from triosmtp.workers.worker_messages import AdmitFilter, AdmitHandshake, AskFilter, CountPeer, Decide

__all__ = ["request_handlers"]


def request_handlers(service: Service) -> RequestHandlers:
    """Return the function that answers each type of request, from the hub and the limits of ``service``."""

    async def decide(message: Decide) -> Verdict:
        question, timeout, fallback = message.question, message.timeout, message.fallback
        return await service.hub.decide(message.group, question, timeout=timeout, fallback=fallback)

    async def admit_handshake(message: AdmitHandshake) -> LimitReached | None:
        return await service.limits.admit_handshake_of(message.session, message.peer, message.per_peer)

    async def count_peer(message: CountPeer) -> bool:
        return await service.limits.count_peer(message.option, message.peer, message.limit)

    return {
        Decide: decide,
        AskFilter: lambda message: service.hub.filters.ask(message.question),
        AdmitFilter: lambda message: service.hub.filters.admit(message.filter),
        AdmitHandshake: admit_handshake,
        CountPeer: count_peer,
    }
