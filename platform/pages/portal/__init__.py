"""The tenant's portal: a workspace's own syncs, jobs and schedules, for its own people and in their words."""

from jobplatform.pages.portal.activity import make_activity
from jobplatform.pages.portal.job import make_own_job
from jobplatform.pages.portal.schedules import make_own_schedules
from jobplatform.pages.portal.start import make_start
from jobplatform.pages.portal.syncs import make_syncs
from jobplatform.pages.shell import NavItem, Section

NAVIGATION = (
    NavItem("syncs.show_syncs", "Syncs", "sync"),
    NavItem("activity.list_activity", "Activity", "jobs"),
    NavItem("own_schedules.list_schedules", "Schedules", "schedules"),
)


def make_portal_sections() -> list[Section]:
    """New ones for each application: a blueprint is registered in one place."""
    return [make_start(), make_syncs(), make_activity(), make_own_job(), make_own_schedules()]


__all__ = ["NAVIGATION", "make_portal_sections"]
