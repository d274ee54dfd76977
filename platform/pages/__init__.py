"""Pages for people: the operator's console, and the portal of a workspace's own people."""

from jobplatform.pages.mount import mount_pages
from jobplatform.pages.shell import PagesOptions, Shell
from jobplatform.pages.visitors import VERBS, Access, Visitor

__all__ = ["VERBS", "Access", "PagesOptions", "Shell", "Visitor", "mount_pages"]
