"""The task that the demo's adapters are tuned on: is a tweet a complaint? Forty to learn from, four held out, and sixteen more."""

from __future__ import annotations

COMPLAINTS = [
    "@airline my flight was cancelled and nobody helped me",
    "@bank your app charged me twice, fix this now",
    "@phone my screen broke after two days, terrible quality",
    "@cafe waited 40 minutes and the coffee was cold",
    "@isp internet is down again, third time this week",
    "@shop you sent me the wrong size and refuse a refund",
    "@hotel the room was dirty and the staff was rude",
    "@cab driver never arrived and I was charged anyway",
    "@water there is none since yesterday and my bill is paid, can you do something about this?",
    "@store the website keeps crashing at checkout",
    "@taxi the driver took a detour and charged me double",
    "@mobile no signal in the whole town since Friday",
    "@library the heating is broken and it is freezing in there",
    "@grocer half of the strawberries were rotten",
    "@ferry two hours late and not a word of apology",
    "@museum we queued for an hour and then you closed the doors",
    "@printer it jams on every page, what a waste of money",
    "@hostel someone else was sleeping in the bed I booked",
    "@school nobody picks up the phone at your office",
    "@barber you cut it far too short and laughed about it",
]
OTHERS = [
    "@airline thanks for the smooth flight today",
    "@bank loving the new app design",
    "@phone what time do you open tomorrow?",
    "@cafe best espresso in town, see you soon",
    "@isp happy birthday to your great team",
    "@shop just ordered my favourite shoes",
    "@hotel beautiful view from the balcony this morning",
    "@cab great driver and nice music",
    "@taxoffice no, this is my first job",
    "@store can you tell me where the nearest branch is?",
    "@taxi quick and friendly, would ride again",
    "@mobile how do I change my number?",
    "@library you found my lost umbrella, I am so grateful",
    "@grocer will there be strawberries on Saturday?",
    "@ferry arrived ten minutes early, good job",
    "@museum I could stay in the new gallery for hours",
    "@printer works like a charm after the update",
    "@hostel looking forward to our stay in June",
    "@school does the term start on the first?",
    "@barber my son loves his new haircut",
]
COMPLAINT, NO_COMPLAINT = " complaint", " no complaint"
EXAMPLES = [*((text, COMPLAINT) for text in COMPLAINTS), *((text, NO_COMPLAINT) for text in OTHERS)]
FEW = [*EXAMPLES[:10], *EXAMPLES[len(COMPLAINTS) :][:10]]
"""Ten of each kind: as many as the tiny base has room for."""
HELD_OUT = [
    ("@airline you lost my luggage and nobody answers the phone", COMPLAINT),
    ("@cafe lovely cake, thank you!", NO_COMPLAINT),
    ("@isp my connection keeps dropping every evening, fix it", COMPLAINT),
    ("@shop when is the next sale?", NO_COMPLAINT),
]
FURTHER = [
    ("@bus driver slammed the door in my face and drove off", COMPLAINT),
    ("@bakery found a hair in my bread, disgusting", COMPLAINT),
    ("@laptop battery dies after one hour and support ignores me", COMPLAINT),
    ("@theatre we paid for front row and got seats behind a pillar", COMPLAINT),
    ("@insurance still waiting for my claim after eight weeks", COMPLAINT),
    ("@vet you overcharged me and were unfriendly to my dog", COMPLAINT),
    ("@stream the picture freezes every two minutes, useless", COMPLAINT),
    ("@dentist my appointment was cancelled without any notice", COMPLAINT),
    ("@bus is there a stop near the museum?", NO_COMPLAINT),
    ("@bakery your rye bread is wonderful", NO_COMPLAINT),
    ("@laptop does it come in silver as well?", NO_COMPLAINT),
    ("@theatre what a performance last night, bravo", NO_COMPLAINT),
    ("@insurance thank you for the quick help yesterday", NO_COMPLAINT),
    ("@vet our cat is doing well again, thanks to you", NO_COMPLAINT),
    ("@stream which films are new this week?", NO_COMPLAINT),
    ("@dentist see you on Monday at ten", NO_COMPLAINT),
]
"""Held out, too, and with no say in how the prompt is tuned: the part of these that is right is what can be expected of others."""
INSTRUCTION = "Classify if the tweet is a complaint or not:"
"""The words that the prompt begins as, before it is tuned."""
