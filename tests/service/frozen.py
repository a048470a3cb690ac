"""Worlds that once broke a rule, as explicit lists of events that do not depend on the generator.

Each world was recorded from the seed that found it, and shrunk to the events without which no rule is broken.
"""

from provisioner.core.protocol.words import Step
from provisioner.rehearsal.ec2.conditions import Breakdown, Conditions, Interruption, Unheeded, ZoneTrouble
from tests.service.agents import Script
from tests.service.plans import Start, Stop, TurnClock, WorldPlan
from tests.service.trouble import Fate, Fault, Outage

SPOT = {"use_spot_instance": True}

#: Seed 100489, a bug in the product: the clock is turned back by 23 s between a run's start and its end, and `ended_at`
#: and `done_at` were earlier than `created_at`. The times of a run are now always in order. The seed turned the clock
#: back by 1.3 s more; with that difference the control plane now decides nothing.
CLOCK_TURNED_BACK = WorldPlan(
    deeds=(
        Start(
            at=136.75,
            name="job-0",
            spec=SPOT | {"retries": 2, "placement": {"instance_types": ["g5.2xlarge"], "spot_fallback": True}},
        ),
        Start(
            at=335.136,
            name="job-1",
            spec=SPOT
            | {"instance_type": "g6.xlarge", "placement": {"instance_types": ["g5.2xlarge"], "zones": ["us-east-1a"]}},
        ),
        TurnClock(at=453.799, ahead=18.268),
        Start(at=457.909, name="job-1", spec=SPOT | {"placement": {"spot_fallback": True}}),
        TurnClock(at=474.58, ahead=-4.5),
    ),
    conditions=Conditions(interruptions=(Interruption(at=5.482, notice=0.0),)),
    scripts=(Script(), Script(), Script(), Script(command=0.0)),
)

#: Seed 101349, a bug in the checker: the bucket was unreachable for all, and for the machine also before and after.
#: The checker subtracted the common time and counted the rest as time in which the machine could report.
CUT_OFF_LONGER_THAN_ALL = WorldPlan(
    deeds=(
        Start(
            at=3.787,
            name="job-0",
            spec={
                "retries": 2,
                "placement": {"instance_types": ["g6.xlarge"], "zones": ["us-east-1b"]},
                "owner": "rich",
            },
        ),
    ),
    scripts=(Script(boot=5000.0),),
    outages=(
        Outage(port="mailbox", begins=129.362, ends=1629.362),
        Outage(port="bucket", begins=570.659, ends=1470.659),
    ),
    busy=30.0,
)

#: Seed 101371, a bug in the checker: the bucket accepted the result, its answer was lost, and the machine broke down.
#: The checker knew only results whose answer had arrived, and called the run's success unfounded.
RESULT_WITHOUT_ANSWER = WorldPlan(
    deeds=(Start(at=287.126, name="job-2", spec={"instance_type": "g6.xlarge", "retry": {"rerun": "before_start"}}),),
    conditions=Conditions(breakdowns=(Breakdown(at=87.306, code="Server.InsufficientInstanceCapacity", times=3),)),
    scripts=(Script(boot=31.403, pull=53.053, command=0.0),),
    faults=(Fault(Fate.LOSE, "mailbox", "put", "machines/machine-1/result", 1),),
)

#: Seed 7300057, two bugs: that of the checker in seed 101349, and one in the product. A machine whose boot limit ended
#: during an outage of the bucket had only 60 s to report after the control plane could read again. But the user-data
#: may pause for 60 s between two tries to fetch the agent. Such a machine now has its boot limit once more.
#: BOOTS_DURING_AN_OUTAGE shows only the bug in the product.
BOOT_LIMIT_ENDS_IN_AN_OUTAGE = WorldPlan(
    deeds=(
        Start(
            at=0.0,
            name="job-1",
            spec=SPOT
            | {"instance_type": "g5.2xlarge", "placement": {"instance_types": ["g5.xlarge"], "spot_fallback": True}},
        ),
        Start(
            at=0.0,
            name="job-0",
            spec={
                "instance_type": "g5.2xlarge",
                "retries": 2,
                "placement": {"zones": ["us-east-1b"]},
                "limits": {"queue_time": "10m", "silence": "3m"},
            },
        ),
        Start(at=109.653, name="job-2", spec={"instance_type": "g6.xlarge"}),
    ),
    conditions=Conditions(boot_delay=68.357, end_delay=118.635),
    scripts=(Script(boot=36.451, command=94.327), Script(command=897.112)),
    outages=(
        Outage(port="mailbox", begins=493.596, ends=1800.0),
        Outage(port="bucket", begins=414.307, ends=1314.307),
        Outage(port="mailbox", begins=414.307, ends=1314.307),
    ),
    max_machines=2,
)

#: The bucket is unreachable while a machine boots slowly. The outage ends during the
#: longest pause between two tries to fetch the agent. The machine is healthy all the time.
BOOTS_DURING_AN_OUTAGE = WorldPlan(
    deeds=(Start(at=0.0, name="job"),),
    conditions=Conditions(boot_delay=120.0),
    scripts=(Script(boot=200.0),),
    outages=(Outage(port="bucket", begins=5.0, ends=381.5), Outage(port="mailbox", begins=5.0, ends=381.5)),
    busy=1.0,
)

#: Seed 600415, a bug in the product: a listing shows a machine as terminated, and the next listing, which has older
#: data, shows it as running. The bucket was unreachable, so the machine's node had no verdict. The machine was ended as
#: unclaimed; if the first listing had been wrong, a healthy run would have lost its machine.
TERMINATED_THEN_LISTED_RUNNING = WorldPlan(
    deeds=(
        Start(
            at=151.885,
            name="job-1",
            spec={
                "instance_type": "g6.xlarge",
                "use_spot_instance": True,
                "retries": 2,
                "placement": {"zones": ["us-east-1a", "us-east-1b", "us-east-1c"], "spot_fallback": True},
                "limits": {"queue_time": "never", "silence": "3m"},
                "owner": "rich",
                "retry": {"on": [], "backoff": "2m", "rerun": "always"},
            },
        ),
    ),
    conditions=Conditions(flap=40.0),
    outages=(
        Outage(port="mailbox", begins=134.068, ends=434.068),
        Outage(port="bucket", begins=229.151, ends=1129.151),
    ),
    busy=5.0,
)

#: Seed 616346, a bug in the product: EC2 refuses to terminate a machine whose run is over, and then the clock is wrong.
#: While its clock was wrong, the control plane decided nothing, and did not even repeat its earlier requests.
END_REFUSED_UNDER_A_WRONG_CLOCK = WorldPlan(
    deeds=(
        Start(
            at=0.0,
            name="job-2",
            spec={
                "placement": {"instance_types": ["g5.2xlarge"], "zones": ["us-east-1a", "us-east-1b", "us-east-1c"]},
                "owner": "rich",
            },
        ),
        Stop(at=3.307, run=0),
        Start(
            at=0.0,
            name="job-0",
            spec=SPOT
            | {
                "instance_type": "g6.xlarge",
                "placement": {"instance_types": ["g5.2xlarge"], "zones": ["us-east-1a"]},
                "limits": {"silence": "3m"},
                "owner": "rich",
            },
        ),
        TurnClock(at=194.031, ahead=19.135),
        TurnClock(at=1100.0, ahead=0.0),
    ),
    conditions=Conditions(zone_troubles=(ZoneTrouble(at=418.927, ends=1018.927, zone="us-east-1c"),)),
    faults=(
        Fault(Fate.CRASH_AFTER, "store", "live", "", 5),
        Fault(Fate.CRASH_AFTER, "store", "live", "", 7),
        Fault(Fate.HANG, "cloud", "launch", "", 3),
        Fault(Fate.HANG, "store", "live", "", 12),
    ),
    outages=(Outage(port="cloud", begins=350.177, ends=650.177),),
)

#: Seed 686750, a bug in the checker: EC2 accepts the end of a machine that was silent for too long and ignores it. The
#: machine reports again before the request is repeated. The checker judged the machine's health again.
HEARD_AGAIN_BEFORE_ITS_END = WorldPlan(
    deeds=(
        Start(
            at=0.0,
            name="job-2",
            spec=SPOT
            | {
                "retries": 2,
                "placement": {"zones": ["us-east-1a", "us-east-1b", "us-east-1c"], "spot_fallback": True},
                "limits": {"queue_time": "never", "silence": "3m"},
                "retry": {"on": [], "backoff": "2m", "rerun": "always"},
            },
        ),
    ),
    conditions=Conditions(boot_delay=26.881, unheeded=(Unheeded(times=3),)),
    scripts=(Script(boot=4.055, setup=45.609),),
    outages=(Outage(port="mailbox", begins=93.339, ends=300.0),),
)

#: Seed 998385, a bug in the product: a process hung while it read the records at the end of a pass. It took the time
#: after the read for that of the pass, so a run that was stored meanwhile, and had ended, seemed to come from a wrong
#: clock, and its `created_at` became later than its end.
STORED_WHILE_A_READ_HUNG = WorldPlan(
    deeds=(
        Start(
            at=0.0,
            name="job-1",
            spec=SPOT
            | {
                "instance_type": "g6.xlarge",
                "retries": 2,
                "placement": {"instance_types": [], "zones": ["us-east-1a"], "spot_fallback": True},
                "command": [f"echo {number}" for number in range(10)],
                "nprocs": 2,
                "list": {"limit": "20s"},
            },
        ),
        Start(
            at=273.072,
            name="job-1",
            spec=SPOT
            | {
                "instance_type": "g5.2xlarge",
                "retries": 2,
                "placement": {"instance_types": [], "spot_fallback": True},
                "retry": {"on": [], "backoff": "2m", "rerun": "before_start"},
            },
        ),
        TurnClock(at=895.567, ahead=-0.678),
        TurnClock(at=744.022, ahead=-14.102),
    ),
    scripts=(Script(fails=Step.SETUP),),
    faults=(
        Fault(Fate.HANG, "store", "live", "", 23),
        Fault(Fate.HANG, "store", "machines", "", 11),
        Fault(Fate.HANG, "store", "remembered", "agent 1", 3),
        Fault(Fate.HANG, "store", "live", "", 49),
        Fault(Fate.HANG, "store", "live", "", 58),
        Fault(Fate.HANG, "store", "live", "", 73),
        Fault(Fate.CRASH_AFTER, "bucket", "copy", "machines/machine-2/log/system/000000000000000", 1),
        Fault(Fate.CRASH_AFTER, "store", "id", "", 31),
    ),
)

FROZEN = {
    "100489": CLOCK_TURNED_BACK,
    "101349": CUT_OFF_LONGER_THAN_ALL,
    "101371": RESULT_WITHOUT_ANSWER,
    "7300057": BOOT_LIMIT_ENDS_IN_AN_OUTAGE,
    "600415": TERMINATED_THEN_LISTED_RUNNING,
    "616346": END_REFUSED_UNDER_A_WRONG_CLOCK,
    "686750": HEARD_AGAIN_BEFORE_ITS_END,
    "998385": STORED_WHILE_A_READ_HUNG,
    "boots during an outage": BOOTS_DURING_AN_OUTAGE,
}
