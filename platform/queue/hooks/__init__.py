"""Hooks: what others deliver to us, and webhooks: what we deliver to others.

Where to look, by what is asked:

    what others deliver   hooks, key, event, receive, forget_deliveries
    what we deliver       webhooks, deliveries, webhook_job, tell_webhooks, told
    what both obey        rules
"""
