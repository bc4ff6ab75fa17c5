"""What a user does, start to end: load, audit, train, evaluate, judge, report. Parses no flags; prints nothing unless asked."""
