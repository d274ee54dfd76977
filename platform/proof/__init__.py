"""A storm over the platform, and a judge who shares no code with it: does it keep its promises, here?

Where to look, by what is asked:

    where a run takes place       survey looks at a server first; place makes a database, and clears it away
    how a run goes                setup says how big and how bad; experiment plays it
    who asks for jobs             client, clients; plan, families, terrain say what is asked for, workload what runs
    who turns limits              knobs; changes remembers what was set when
    who runs jobs                 fleet, of processes; timetable, the schedules
    who does the damage           monkey, to the processes below it, with a proxy that loses answers
    what is written down          history by the database, diary by handlers, watcher by looking (onlooker:
                                  by which connections); gathered as evidence
    what was promised             findings names the rules; checker, replay, family_rules, limit_rules and
                                  schedule_rules apply them
    what is told of it            certificate, and markdown
"""

from jobplatform.proof.certificate import Certificate, Verdict, certify
from jobplatform.proof.checker import judge
from jobplatform.proof.experiment import Experiment
from jobplatform.proof.markdown import as_markdown, verdict_in_words
from jobplatform.proof.place import Place, in_database, in_given_database, on_given_server, on_own_server, scratch
from jobplatform.proof.setup import Setup
from jobplatform.proof.survey import Survey, is_pooled, look_at, settings_of, what_is_missing

__all__ = [
    "Certificate",
    "Experiment",
    "Place",
    "Setup",
    "Survey",
    "Verdict",
    "as_markdown",
    "certify",
    "in_database",
    "in_given_database",
    "is_pooled",
    "judge",
    "look_at",
    "on_given_server",
    "on_own_server",
    "scratch",
    "settings_of",
    "verdict_in_words",
    "what_is_missing",
]
