"""How rows are measured and judged.

A group has contestants and rows. Its contestants run in turn, as often as BENCH_REPEATS says, so that
whatever else the machine does meets them alike; a row takes one number of one contestant from each turn and,
if it has a peer, the peer's number of the same turn. The row's value is the median over the turns, its
ratio the median of the turns' ratios; spread is the interquartile range (IQR) of the value, ratio_spread
that of the ratio.

Verdict: "met"; "missed"; "within spread" (missed, but the quartile on the good side meets it); "no target";
"skipped: why" (nothing measured) or "no peer: why"."""
import platform
import statistics
from contestants import Skip


class Row:
    def __init__(self, name, unit, contestant, metric, peer=None, minus_peer=False, ratio_least=None,
                 value_most=None, ratio_most=None):
        self.name, self.unit = name, unit
        self.contestant, self.metric, self.peer = contestant, metric, peer
        self.minus_peer = minus_peer    # the value is ours minus the peer's
        self.ratio_least = ratio_least  # target: ours / peer's at least
        self.value_most = value_most    # target: value at most
        self.ratio_most = ratio_most    # target: ours / peer's at most

    def target_text(self):
        if self.ratio_least is not None:
            return f"ratio >= {self.ratio_least}"
        if self.ratio_most is not None:
            return f"ratio <= {self.ratio_most}"
        return None if self.value_most is None else f"value <= {self.value_most}"


class Group:
    def __init__(self, config):
        self.config = config
        self.rows, self.contestants, self.skipped, self.daemons = [], {}, {}, []
        self.wanted = set()  # contestants that some chosen row asks for

    def daemon(self, make):
        daemon = make()
        self.daemons.append(daemon)
        return daemon

    def begin(self):
        raise NotImplementedError

    def end(self):
        for daemon in self.daemons:
            daemon.stop()

    def turns(self):
        """One dict a turn: contestant -> its numbers."""
        turns = []
        for turn in range(self.config.repeats):
            numbers = {}
            for name, contestant in list(self.contestants.items()):
                try:
                    numbers[name] = contestant.run(self.config.seconds, turn + 1)
                except Skip as reason:
                    self.skipped[name] = str(reason)
                    del self.contestants[name]
            turns.append(numbers)
        return turns


def quartiles(values):
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def judge(row, value, values, ratio, ratios):
    if row.ratio_least is not None and ratio is not None:
        best = quartiles(ratios)[1]
        return "met" if ratio >= row.ratio_least else "within spread" if best >= row.ratio_least else "missed"
    if row.ratio_most is not None and ratio is not None:
        best = quartiles(ratios)[0]
        return "met" if ratio <= row.ratio_most else "within spread" if best <= row.ratio_most else "missed"
    if row.value_most is not None:
        best = quartiles(values)[0]
        return "met" if value <= row.value_most else "within spread" if best <= row.value_most else "missed"
    return "no target"


def measure_row(row, group, turns):
    result = {"row": row.name, "unit": row.unit, "value": None, "spread": None, "peer": row.peer,
              "peer_value": None, "ratio": None, "ratio_spread": None, "target": row.target_text()}
    pairs = [(turn[row.contestant][row.metric], turn.get(row.peer, {}).get(row.metric))
             for turn in turns if row.contestant in turn]
    pairs = [(ours, peers) for ours, peers in pairs if ours is not None]
    paired = [(ours, peers) for ours, peers in pairs if peers]
    if not pairs or (row.minus_peer and not paired):
        missing = row.contestant if not pairs else row.peer
        result["verdict"] = f"skipped: {group.skipped.get(missing, 'nothing measured')}"
        return result
    values = [ours - peers for ours, peers in paired] if row.minus_peer else [ours for ours, _ in pairs]
    ratios = [ours / peers for ours, peers in paired]
    low, high = quartiles(values)
    result["value"], result["spread"] = statistics.median(values), high - low
    if ratios:
        low, high = quartiles(ratios)
        result["peer_value"] = statistics.median(peers for _, peers in paired)
        result["ratio"], result["ratio_spread"] = statistics.median(ratios), high - low
    if (row.ratio_least is not None or row.ratio_most is not None) and not ratios:
        result["verdict"] = f"no peer: {group.skipped.get(row.peer, 'nothing measured')}"
    else:
        result["verdict"] = judge(row, result["value"], values, result["ratio"], ratios)
    return result


def measure_group(group):
    try:
        try:
            group.begin()
            turns = group.turns()
        except Skip as reason:
            group.skipped = dict.fromkeys((row.contestant for row in group.rows), str(reason))
            turns = []
        return [measure_row(row, group, turns) for row in group.rows]
    finally:
        group.end()


def machine():
    cpu = platform.processor() or platform.machine()
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        for line in info:
            if line.startswith("model name"):
                cpu = line.split(":", 1)[1].strip()
                break
    return cpu, platform.release()


def number(value):
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def table(results):
    columns = [("row", lambda r: r["row"]), ("value", lambda r: number(r["value"])),
               ("IQR", lambda r: number(r["spread"])), ("unit", lambda r: r["unit"]),
               ("peer", lambda r: "-" if r["peer"] is None else f"{r['peer']} {number(r['peer_value'])}"),
               ("ratio", lambda r: "-" if r["ratio"] is None else f"{r['ratio']:.2f}"),
               ("target", lambda r: r["target"] or "-"), ("verdict", lambda r: r["verdict"])]
    lines = [[name for name, _ in columns]] + [[cell(r) for _, cell in columns] for r in results]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns) - 1)]
    for line in lines:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths)) + "  " + line[-1]
