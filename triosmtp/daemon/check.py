"""What can be told of a configuration before it is served: certificates, policies and deliveries are looked at."""

from triosmtp.config import Config, problem_at
from triosmtp.errors import ConfigError, Problem
from triosmtp.server import Profile, Profiles, default_maildir, material_problem
from triosmtp.state import is_tmpfs, state_directory
from triosmtp.tls import MaterialError, build_context, load_material

__all__ = ["deep_problems", "surprises"]


def deep_problems(config: Config) -> list[Problem]:
    """Look at everything that ``config`` names and would need to be served.

    Gives errors (it would not start) and warnings (it would surprise), each with its place; ``config`` itself was
    checked when it was loaded.
    """
    try:
        profiles = Profiles(config, "localhost").prepare()
    except ConfigError as error:
        return list(error.problems)
    problems = [problem for profile in profiles for problem in _certificate_problems(profile)]
    return list(dict.fromkeys(problems + surprises(config)))


def _certificate_problems(profile: Profile) -> list[Problem]:
    if profile.tls is None:
        return []
    try:
        material = load_material(profile.tls)
        build_context(material)
    except MaterialError as error:
        return [material_problem(profile, error)]
    return [material_problem(profile, warning, "warning") for warning in material.warnings]


def surprises(config: Config) -> list[Problem]:
    """Give warnings about what is not wrong, but is seldom meant."""
    warnings: list[Problem] = []
    for listen in config.listens:
        settings = config.resolve(listen, None)
        for field, open_to_all in (
            ("open_relay", settings.open_relay),
            ("relay_domains", "*" in settings.relay_domains),
            ("relay_for_sending_domains", "*" in settings.relay_for_sending_domains),
        ):
            if open_to_all:
                warnings.append(problem_at(settings, field, "whoever connects may relay", "warning"))
        if not (settings.relay_domains or settings.open_relay):
            text = f'Listen "{listen.name}": no Relay_Domains: only postmaster and trusted peers are accepted'
            warnings.append(listen.problem(text, "warning"))
        if settings.deliver_to is None:
            text = f'Listen "{listen.name}": no Deliver_To: mail goes to {default_maildir()}'
            warnings.append(listen.problem(text, "warning"))
        spool = settings.spool_directory or state_directory() / "spool"
        if is_tmpfs(spool):
            warnings.append(problem_at(settings, "spool_directory", f"{spool} is in memory (tmpfs)", "warning"))
    return list(dict.fromkeys(warnings))
