"""Pages for people: the operator's console, and the portal of a workspace's own people.

Where to look, by what is asked (a name with a slash is a folder; that of the console has a map of its own):

    the pages                     console/ (operators), portal/ (a workspace's people)
    where they are mounted        mount, shell, nothing (for other paths)
    who looks, and may they       visitors, access
    how somebody signs in         signing_in, sessions, attempts
    how a form is trusted         forms, seen, going_back
    what is asked of the API      inner_api, acting
    what somebody is told         notices, problems, failing
    how it looks                  rendering, assets, charts, words
"""

from jobplatform.pages.mount import mount_pages
from jobplatform.pages.shell import PagesOptions, Shell
from jobplatform.pages.visitors import VERBS, Access, Visitor

__all__ = ["VERBS", "Access", "PagesOptions", "Shell", "Visitor", "mount_pages"]
