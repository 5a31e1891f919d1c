"""Who is in the demo and what to try first: plain data, shown by `make run`."""

# Everybody's, on a machine that only its owner reaches: the demo refuses any other address.
PASSWORD = "daypass"

PEOPLE = (
    ("alice", "Alice Adler", "asks: payments engineer"),
    ("erin", "Erin Eriksen", "asks: data engineer, and owns the data lake"),
    ("bob", "Bob Brandt", "approves: leads payments"),
    ("carol", "Carol Castro", "approves: leads payments, and is in security"),
    ("frank", "Frank Fischer", "approves: security"),
    ("dave", "Dave Dietrich", "audits: sees everything in the admin, changes nothing"),
    ("olivia", "Olivia Olsen", "operates: catalog, entitlements and people in the admin"),
)

THINGS_TO_TRY = (
    "As alice: Request access to ReadOnly in payments-prod. It is automatic: open the console or copy the keys.",
    "As alice: ask for Administrator in payments-prod; in a private window, as bob, approve it.",
    "As bob: Approvals. Grant Alice's pass more time; of what begins tomorrow, move the start under Change….",
    "As alice: accept what Carol asked for you. As carol: ask for ReadOnly in payments-prod for somebody else.",
    "As erin: ask for DataEngineer: alone in office hours, or with two who agree. Decide on Alice's: you own it.",
    "As erin: ask again for Administrator in web-staging: it excludes freelancers since, and says so.",
    "As dave: open the admin and follow what just happened, event by event.",
)
