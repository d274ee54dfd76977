"""The operator's console: every workspace's jobs, and all that decides when they run.

Where to look, by what is asked:

    the first page                overview
    jobs, one and many            jobs, job, error_groups, bulk
    what runs                     workspaces, queues, schedules, schedule_form, workers, tasks, connections, hooks,
                                  resources
    the platform                  alerts, workspace_alerts, plans, audit, health
    that something has changed    changes (pages look again)
    what several pages share      whose, connecting, searching, pausing, limits, rules (of alerts), typed,
                                  schedule_typed
"""

from jobplatform.pages.console.alerts import make_alerts
from jobplatform.pages.console.audit import make_audit
from jobplatform.pages.console.bulk import make_bulk
from jobplatform.pages.console.changes import make_changes
from jobplatform.pages.console.connections import make_connections
from jobplatform.pages.console.error_groups import make_errors
from jobplatform.pages.console.health import make_health
from jobplatform.pages.console.job import make_job
from jobplatform.pages.console.jobs import make_jobs
from jobplatform.pages.console.overview import make_overview
from jobplatform.pages.console.queues import make_queues
from jobplatform.pages.console.resources import make_resources
from jobplatform.pages.console.schedules import make_schedules
from jobplatform.pages.console.tasks import make_tasks
from jobplatform.pages.console.workers import make_workers
from jobplatform.pages.console.workspaces import make_workspaces
from jobplatform.pages.shell import NavItem, Section

NAVIGATION = (
    NavItem("overview.show_overview", "Overview", "overview"),
    NavItem("jobs.list_jobs", "Jobs", "jobs"),
    NavItem("errors.list_errors", "Errors", "errors"),
    NavItem("bulk.list_actions", "Bulk actions", "bulk"),
    NavItem("workspaces.list_workspaces", "Workspaces", "workspaces", "What runs"),
    NavItem("queues.list_queues", "Queues", "queues", "What runs"),
    NavItem("schedules.list_schedules", "Schedules", "schedules", "What runs"),
    NavItem("workers.list_workers", "Workers", "workers", "What runs"),
    NavItem("tasks.list_tasks", "Tasks", "tasks", "What runs"),
    NavItem("connections.list_connections", "Connections", "connections", "What runs"),
    NavItem("resources.list_resources", "Resources", "resources", "What runs"),
    NavItem("alerts.show_alerts", "Alerts", "alerts", "The platform"),
    NavItem("audit.list_audit", "Audit", "audit", "The platform"),
    NavItem("health.show_health", "Health", "health", "The platform"),
)


def make_console_sections() -> list[Section]:
    """New ones for each application: a blueprint is registered in one place."""
    return [
        make_overview(),
        make_jobs(),
        make_job(),
        make_bulk(),
        make_errors(),
        make_workspaces(),
        make_queues(),
        make_schedules(),
        make_workers(),
        make_tasks(),
        make_connections(),
        make_resources(),
        make_alerts(),
        make_audit(),
        make_health(),
        make_changes(),
    ]


__all__ = ["NAVIGATION", "make_console_sections"]
