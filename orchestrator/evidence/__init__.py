"""What auditors read out of the log: search, access as of an instant, reports, and the forms their tools take.

Pure: entries in, values out. Everything comes from the entries alone, in one pass, with memory for people and
applications and not for entries. Nothing here knows the database; only the names behind random subject ids, and the
values sealed under their keys, need a `Keyring`.
"""
