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

This door is a sign and no more: every process of a worker comes by here for its tasks (workload), and would load the
judge as well. So whoever wants something comes in by its module.
"""
