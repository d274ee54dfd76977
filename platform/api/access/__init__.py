"""Access: who is asking, may they, and how often.

Where to look, by what is asked:

    who is asking                 guard (before every view), principals, tokens, job_tokens (of browsers)
    how often they may            request_rates, refused_deliveries
    whether this process may      admission
"""
