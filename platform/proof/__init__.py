"""A storm over the platform, and a judge who shares no code with it: does it keep its promises, here?

Where to look, by what is asked:

    where a run takes place       survey (a look at a server first), occupy (keeps others away), place (makes a
                                  database, and clears it away)
    how a run goes                setup (how big and how bad), experiment (plays it), part (each thread of it)
    who asks for jobs             client, clients
    what is asked for             plan, families, terrain, workload (the tasks)
    who turns limits              knobs, changes (what was set when)
    who runs jobs                 fleet, timetable (the schedules)
    who does the damage           monkey, processes (which it may signal), proxy (loses answers)
    what is written down          history (by the database), diary (by handlers), watcher (by looking), onlooker (over
                                  which connections), evidence (all of it)
    what was promised             findings (names the rules), checker, replay, family_rules, limit_rules, level_rules,
                                  rate_rules, standstill_rules, quota_rules, schedule_rules, starts (what a claim can
                                  have seen of limits), reached (was there anything to see?)
    what is told of it            certificate, markdown

This door is a sign and no more: every process of a worker comes by here for its tasks (workload), and would load the
judge as well. So whoever wants something comes in by its module.
"""
