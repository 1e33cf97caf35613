"""Rows of the block layer (block.*): CPU time of one operation, without a peer."""
import os
from contestants import Skip
from engine import Group, Row
from rt_rows import Case


class BlockGroup(Group):
    def __init__(self, config, rows):
        super().__init__(config)
        self.rows = rows

    def begin(self):
        program = os.path.join(os.path.dirname(self.config.caisson), "bench", "bench-block")
        if not os.access(program, os.X_OK):
            raise Skip(f"{program} is not there: build it first")
        for name in sorted(self.wanted):
            self.contestants[name] = Case(program, name)


def groups(config):
    yield BlockGroup(config, [
        Row("block.token", "ns CPU", "token", "ns", value_most=5),
        Row("block.token.8loops", "ns CPU", "token.8", "ns", peer="token", ratio_most=1.1)])
    yield BlockGroup(config, [
        Row("block.null", "ns CPU", "null", "ns", value_most=150),
        Row("block.filter", "ns CPU", "null.raw", "ns", peer="null", minus_peer=True, value_most=50)])
    yield BlockGroup(config, [
        Row("block.section", "ns CPU", "section", "ns"),
        Row("block.section.1000nodes", "ns CPU", "section.1000", "ns", peer="section", ratio_most=1.05)])
    yield BlockGroup(config, [
        Row("block.find.10", "ns CPU", "find.10", "ns"),
        Row("block.find.10000", "ns CPU", "find.10000", "ns", peer="find.10")])
