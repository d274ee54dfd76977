"""A storm over the platform, and a judge who shares no code with it: does it keep its promises, here?

Where to look, by what is asked:

    how a run goes                experiment: a Setup, and the Outcome
    who asks for jobs             client, clients; plan, families, terrain say what is asked for, workload what runs
    who turns limits              knobs; changes remembers what was set when
    who runs jobs                 fleet, of processes; timetable, the schedules
    who does the damage           monkey, with a proxy that loses answers
    what is written down          history by the database, diary by handlers, watcher by looking; gathered as evidence
    what was promised             findings names the rules; checker, replay, family_rules, limit_rules and
                                  schedule_rules apply them
    what is told of it            report
"""
