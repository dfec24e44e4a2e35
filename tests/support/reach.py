"""Times to reach from arrivals.parquet alone, apart from the program: a JSON object on standard output.

For every message of one part: sorted times in microseconds until holders have a third, two thirds and all of the weight.
"""
import json
import sys

import polars

table = polars.read_parquet(sys.argv[1])
weights = dict(table.select("receiver", "receiver_weight").unique().iter_rows())
total = sum(weights.values())
times = {"reach_1_3": [], "reach_2_3": [], "reach_all": []}
shares = {"reach_1_3": 1 / 3, "reach_2_3": 2 / 3, "reach_all": 1}
late = []
for (sender, index), rows in table.group_by("sender", "index"):
    intended = rows["intended_unix_nanos"][0]
    # The sender has its own message from the beginning.
    holders = [(0, sender)] + [
        (arrived - intended, receiver)
        for receiver, arrived in rows.select("receiver", "arrived_unix_nanos").iter_rows()
        if receiver != sender
    ]
    for name, share in shares.items():
        held = 0
        for time, node in sorted(holders):
            held += weights[node]
            if held >= total * share - 1e-6:
                times[name].append(time // 1000)
                break
    if times["reach_2_3"][-1] > int(sys.argv[2]):
        late.append([sender, index])
hops = dict(table.filter(polars.col("hops") > 0).group_by("hops").len().iter_rows())
print(json.dumps({**{name: sorted(all) for name, all in times.items()}, "late": sorted(late), "hops": hops}))
