"""What becomes of a stage, as pictures: groups, calm, maintenance, dependencies. What they mean is in timeline.py."""

from typing import Any

import pytest

from tests.evaluators.timeline import Timeline

G: dict[str, Any] = {"type": "group"}
IN: dict[str, Any] = {"group": "g"}


def one(**episodes: Any) -> dict[str, Any]:
    return {"a": {"episodes": episodes}}


def pair(**group: Any) -> dict[str, Any]:
    return {"g": {**G, **group}, "a": IN, "b": IN}


def trio(**group: Any) -> dict[str, Any]:
    return pair(**group) | {"c": IN}


def parent(**child: Any) -> dict[str, Any]:
    return {"db": {}, "a": {"depends_on": ["db"], **child}}


CALM = {"flapping": {"changes": 4, "within": "10m", "quiet": "3m"}}
Picture = tuple[str, dict[str, Any], dict[str, str], dict[str, str]]
PICTURES: list[Picture] = [
    # ---- episodes and their severity
    ("an episode lasts from the first bad to the next ok", one(), {"a": "..xx.."}, {"a": "ooOxCo"}),
    ("a warning that becomes critical is the same episode", one(), {"a": ".wwx."}, {"a": "oOwXC"}),
    ("a critical that is only a warning says so after two minutes", one(), {"a": ".xwww."}, {"a": "oOwwWC"}),
    ("and not if it gets worse again before", one(), {"a": ".xwxw."}, {"a": "oOwxwC"}),
    ("worse_after holds a rise back", one(worse_after="3m"), {"a": ".wxxxx.."}, {"a": "oOxxxXCo"}),
    ("what does not last is never said", one(worse_after="3m"), {"a": ".wxxww."}, {"a": "oOxxwwC"}),
    ("better_after 0s follows at once", one(better_after="0s"), {"a": ".xww."}, {"a": "oOWwC"}),
    ("silence neither opens nor ends", one(), {"a": ".xx   .."}, {"a": "oOx???Co"}),
    ("a report opens and ends it too", one(), {"a": "......", "reported a": "  xx"}, {"a": "ooOxCo"}),
    ("votes and reports share one", one(), {"a": ".xx...", "reported a": "  xx"}, {"a": "oOxxCo"}),
    ("reports are heard in silence", one(), {"a": ".     ", "reported a": "   xx"}, {"a": "o??Ox?"}),
    # ---- resolve delay, reopen window, inactivity
    (
        "a resolve delay waits for an ok that lasts",
        one(resolve_delay="3m"),
        {"a": ".x....."},
        {"a": "oOoooCo"},
    ),
    ("a relapse within it is the same one", one(resolve_delay="3m"), {"a": ".x.x...."}, {"a": "oOoxoooC"}),
    ("a relapse as a warning, too", one(resolve_delay="3m"), {"a": ".x.www.."}, {"a": "oOowwWoo"}),
    ("silence begins it anew", one(resolve_delay="3m"), {"a": ".x..   ...."}, {"a": "oOoo???oooC"}),
    (
        "bad again within the reopen window it goes on",
        one(reopen_window="5m"),
        {"a": ".x..x."},
        {"a": "oOCoRC"},
    ),
    ("bad again later it is another one", one(reopen_window="2m"), {"a": ".x..x."}, {"a": "oOCoOC"}),
    ("no reopen window reopens nothing", one(), {"a": ".x.x."}, {"a": "oOCOC"}),
    ("inactivity ends what nobody looks at", one(inactivity="3m"), {"a": ".x       "}, {"a": "oO???I???"}),
    (
        "that is no recovery, and nothing to reopen",
        one(inactivity="2m", reopen_window="1h"),
        {"a": ".x     x."},
        {"a": "oO??I??OC"},
    ),
    # ---- flapping
    (
        "many changes are one notice, and one when it is quiet",
        one(**CALM),
        {"a": ".x.x.x....."},
        {"a": "oOCOFxoooCo"},
    ),
    ("one that ends bad says so and stays open", one(**CALM), {"a": ".x.x.xxxxx."}, {"a": "oOCOFxxxfxC"}),
    ("one that ends as a warning says so", one(**CALM), {"a": ".x.x.wwwww."}, {"a": "oOCOFwwwfwC"}),
    ("it goes on as long as it is not quiet", one(**CALM), {"a": ".x.x.x.x.x...."}, {"a": "oOCOFxoxoxoooC"}),
    (
        "slow changes are no flapping",
        one(**CALM),
        {"a": ".x........x........x."},
        {"a": "oOCoooooooOCoooooooOC"},
    ),
    ("flapping off", one(flapping="off"), {"a": ".x.x.x.x"}, {"a": "oOCOCOCO"}),
    ("silence is no change", one(**CALM), {"a": ".x  .x  ."}, {"a": "oO??CO??F"}),
    (
        "a resolve delay goes on after flapping",
        one(**CALM, resolve_delay="5m"),
        {"a": ".x.x......."},
        {"a": "oOoxFoofoCo"},
    ),
    # ---- maintenance
    (
        "an outage within a window opens nothing",
        one(),
        {"a": "..xx...", "maintenance a": " ######"},
        {"a": "oossooo"},
    ),
    ("one that outlives it opens then", one(), {"a": "..xxxx.", "maintenance a": " ###"}, {"a": "oossOxC"}),
    (
        "one that began before stays open and ends in it",
        one(),
        {"a": ".xxx...", "maintenance a": "  #####"},
        {"a": "oOxxCoo"},
    ),
    ("one open may get worse in it", one(), {"a": ".wxx...", "maintenance a": "  #####"}, {"a": "oOXxCoo"}),
    ("a recovery in it ends it", one(), {"a": ".x.x...", "maintenance a": "  #####"}, {"a": "oOCsooo"}),
    (
        "changes in it are flapping only if it opens",
        one(**CALM),
        {"a": ".x.x.x.x.", "maintenance a": "#########"},
        {"a": "ososososo"},
    ),
    # ---- dependencies
    (
        "while its parent is down nothing opens",
        parent(),
        {"db": ".xxx...", "a": "..xx..."},
        {"db": "oOxxCoo", "a": "oossooo"},
    ),
    (
        "what is still bad after that opens",
        parent(),
        {"db": ".xxx...", "a": "..xxxx."},
        {"db": "oOxxCoo", "a": "oossOxC"},
    ),
    (
        "a parent's outage ends nothing",
        parent(),
        {"db": "..xxx..", "a": ".xx...."},
        {"db": "ooOxxCo", "a": "oOxCooo"},
    ),
    (
        "a parent that is only a warning suppresses nothing",
        parent(),
        {"db": ".wwwww.", "a": "..xx..."},
        {"db": "oOwwwwC", "a": "ooOxCoo"},
    ),
    (
        "one that is paused suppresses nothing",
        parent(),
        {"db": ".xxxxxx", "paused db": "  ####", "a": "..xx..."},
        {"a": "ooOxCoo"},
    ),
    (
        "one that is silent neither",
        parent(),
        {"db": ".      ", "a": "...xx.."},
        {"db": "o??????", "a": "oooOxCo"},
    ),
    (
        "one that was taken away neither",
        parent(),
        {"db": ".xxx...", "removed db": "   ###", "a": "..xxxx."},
        {"db": "oOxG???", "a": "oosOxxC"},
    ),
    (
        "a parent that nobody was due to look at is asked first",
        {"db": {"quorum": {"confirm": {}}}, "a": {"depends_on": ["db"]}},
        {"down db": "..xxx.", "a": "..xxx.", "db": ".. xx."},
        {"a": "oossso", "db": "ooOxxC"},
    ),
    # ---- groups
    ("any member is enough", pair(), {"a": "..xx..", "b": "......"}, {"g": "ooOxCo", "a": "ooxxoo"}),
    (
        "members that fail together are one",
        pair(),
        {"a": "..xx..", "b": "...xx."},
        {"g": "ooOxxC", "b": "oooxxo"},
    ),
    ("warnings apart", pair(), {"a": "..ww..", "b": "...xx."}, {"g": "ooOXxC"}),
    (
        "a late member is an update if so told",
        pair(late_members="update"),
        {"a": "..xxx.", "b": "...xx."},
        {"g": "ooOuxC"},
    ),
    (
        "once for each",
        trio(late_members="update"),
        {"a": "..xxxx.", "b": "...xxx.", "c": "....xx."},
        {"g": "ooOuuxC"},
    ),
    (
        "one that was covered for a while is not late",
        pair(late_members="update"),
        {"a": "..xxxxxx.", "b": ".........", "maintenance a": "    ##"},
        {"g": "ooOxxxxxC"},
    ),
    (
        "nor is one that looks better for a moment",
        {"db": {}, **pair(late_members="update"), "a": {**IN, "depends_on": ["db"]}},
        {"db": ".......", "a": "..xxwx.", "b": "......."},
        {"g": "ooOxwxC"},
    ),
    (
        "one whose parent is down at first is late when that is back",
        {"db": {}, **pair(late_members="update"), "a": {**IN, "depends_on": ["db"]}},
        {"db": "..xxx....", "a": "..xxxxxx.", "b": "..xxxxxx."},
        {"g": "ooOxxuxxC"},
    ),
    (
        "a majority of three",
        trio(quorum={"critical": "majority", "warning": "majority"}),
        {"a": "..xxx.", "b": "...xx.", "c": "......"},
        {"g": "oooOxC"},
    ),
    (
        "all of two",
        pair(quorum={"critical": "all", "warning": "all"}),
        {"a": "..xxx.", "b": "...x.."},
        {"g": "oooOCo"},
    ),
    (
        "half of four",
        {"g": {**G, "quorum": {"critical": "50%", "warning": "any"}}, **dict.fromkeys("abcd", IN)},
        {"a": "..xxx.", "b": "...xx.", "c": "......", "d": "......"},
        {"g": "ooOXxC"},
    ),
    (
        "a silent member may be bad: the group waits for it",
        pair(),
        {"a": "..x....", "b": ".    .."},
        {"g": "ooOxxCo", "b": "o????oo"},
    ),
    ("but it opens nothing", pair(), {"a": ".....", "b": ".    "}, {"g": "ooooo", "b": "o????"}),
    ("all silent it is unknown", pair(), {"a": "..    ..", "b": "..    .."}, {"g": "oo????oo"}),
    ("and its episode goes on", pair(), {"a": ".x    ..", "b": "..    .."}, {"g": "oO????Co"}),
    (
        "enough are known or nothing is",
        trio(quorum={"min_voters": 2}),
        {"a": "......", "b": "..    ", "c": "..    "},
        {"g": "oo????"},
    ),
    (
        "or it is held",
        trio(quorum={"min_voters": 2, "on_insufficient": "hold"}),
        {"a": "....x.", "b": "..    ", "c": "..    "},
        {"g": "oooooo"},
    ),
    (
        "a group has its own resolve delay",
        pair(episodes={"resolve_delay": "2m"}),
        {"a": ".x.....", "b": "...x..."},
        {"g": "oOoxooC"},
    ),
    (
        "a group flaps as one",
        pair(episodes=CALM),
        {"a": ".x...x.....", "b": "...x......."},
        {"g": "oOCOFxoooCo"},
    ),
    (
        "a report of the group is one more member",
        pair(quorum={"critical": "majority", "warning": "majority"}),
        {"a": "..xxx.", "b": "......", "reported g": "   x  "},
        {"g": "oooOCo"},
    ),
    (
        "members under maintenance open nothing",
        pair(),
        {"a": "..xxx..", "b": ".......", "maintenance a": "######"},
        {"g": "oosssoo", "a": "oosssoo"},
    ),
    (
        "nor do those that were bad before it began",
        trio(quorum={"critical": "majority", "warning": "majority"}),
        {"a": ".xxxxxx.", "b": "...xxxx.", "c": "........", "maintenance a": "  ###"},
        {"g": "ooossOxC", "a": "oxsssxxo"},
    ),
    (
        "others still do",
        pair(),
        {"a": "..xxxx.", "b": "...ww..", "maintenance a": "#######"},
        {"g": "oosOxxC"},
    ),
    (
        "one that outlives its window opens the group",
        pair(),
        {"a": "..xxxx.", "b": ".......", "maintenance a": "####"},
        {"g": "oossOxC"},
    ),
    (
        "and is the worse of two that are told",
        pair(),
        {"a": "..xxxx.", "b": "...www.", "maintenance a": "#####"},
        {"g": "oosOxXC"},
    ),
    (
        "a minority of members is an advisory",
        trio(quorum={"critical": "majority", "warning": "majority", "advisory_after": "2m"}),
        {"a": "..xxxx..", "b": "........", "c": "........"},
        {"g": "ooooAoao"},
    ),
    (
        "which an outage swallows",
        trio(quorum={"critical": "majority", "warning": "majority", "advisory_after": "2m"}),
        {"a": "..xxxxx..", "b": ".....xx..", "c": "........."},
        {"g": "ooooAOxCo"},
    ),
    (
        "what members need they share with their group",
        {"db": {}, "g": {**G, "depends_on": ["db"]}, "a": IN},
        {"db": "..xx...", "a": "..xxx.."},
        {"db": "ooOxCoo", "g": "oossOCo", "a": "oossxoo"},
    ),
    # ---- joining, leaving, regrouping, pausing and removing in the middle of an outage
    (
        "who joins while ok is a member",
        {"g": G, "a": {}},
        {"a": "....xx.", "in a": "  ggggg"},
        {"g": "??ooOxC", "a": "ooooxxo"},
    ),
    (
        "who joins while it is bad keeps its episode until it is ok",
        {"g": G, "a": {}},
        {"a": "..xxx..x.", "in a": "---gggggg"},
        {"g": "?????ooOC", "a": "ooOxxCoxo"},
    ),
    (
        "who leaves while it is bad votes no more at once, and owns nothing until it is ok",
        pair(),
        {"a": "..xxx..x", "b": "........", "in a": "ggg-----"},
        {"g": "ooOLoooo", "a": "ooxxxooO"},
    ),
    (
        "where others are bad the episode goes on, and recovers",
        pair(),
        {"a": "..xxx..", "b": "..xxx..", "in a": "ggg----"},
        {"g": "ooOxxCo"},
    ),
    (
        "who changes the group joins when it is ok",
        {"g": G, "h": G, "a": IN, "b": IN, "c": {"group": "h"}},
        {"a": "..xxx.x", "b": ".......", "c": ".......", "in a": "ggghhhh"},
        {"g": "ooOLooo", "h": "ooooooO"},
    ),
    (
        "a member that is paused takes its badness along",
        pair(),
        {"paused a": "    ##", "a": "..xxxx..", "b": "........"},
        {"g": "ooOxLooo"},
    ),
    (
        "and votes again with its first result after",
        pair(),
        {"paused a": "    ##", "a": "..xxxxxx.", "b": "........."},
        {"g": "ooOxLoOxC"},
    ),
    (
        "a member that is removed too",
        pair(),
        {"a": "..xxxx..", "b": "........", "removed a": "    #"},
        {"g": "ooOxLooo"},
    ),
    (
        "the last that leaves ends the episode as such",
        {"g": G, "a": IN},
        {"a": "..xx..", "in a": "ggg---"},
        {"g": "ooOL??"},
    ),
    ("paused, too", {"g": G, "a": IN}, {"paused a": "   #  ", "a": "..xx.."}, {"g": "ooOLoo"}),
    (
        "a group that is removed leaves its members without owner until they are ok",
        pair(),
        {"a": "..xxx.x", "b": ".......", "removed g": "   #"},
        {"g": "ooOG???", "a": "ooxxxoO"},
    ),
    (
        "a group that is paused is frozen",
        pair(),
        {"paused g": "    #", "a": "..xxxx..", "b": "........"},
        {"g": "ooOxDxC"[:5] + "xCo"},
    ),
    # ---- pausing and removing an owner
    ("pausing freezes", one(), {"paused a": "    #", "a": "..xxxxx."}, {"a": "ooOxDxxC"}),
    ("what is well afterwards recovers", one(), {"paused a": "    #", "a": "..xxx..."}, {"a": "ooOxDCoo"}),
    ("removing ends as removed", one(), {"a": "..xxxx", "removed a": "    #"}, {"a": "ooOxG?"}),
    (
        "a resolve delay is not served while paused",
        one(resolve_delay="3m"),
        {"paused a": "    ###", "a": "..x........"},
        {"a": "ooOoDoooooC"},
    ),
]


@pytest.mark.parametrize(
    ("specs", "seen", "said"), [pytest.param(*rest, id=title) for title, *rest in PICTURES]
)
def test_what_is_said_follows_what_is_seen(
    specs: dict[str, Any], seen: dict[str, str], said: dict[str, str]
) -> None:
    told = Timeline(specs).play(seen)
    assert {name: told[name] for name in said} == said
