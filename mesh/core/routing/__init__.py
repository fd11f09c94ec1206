"""One call on its way to a copy: what comes next after each outcome, and which of several copies serves it."""
