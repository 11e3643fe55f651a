"""Every process of a run finds its rank and the others in its environment."""

import pytest

from spark_trainer.train.topology import INTERFACES, Rendezvous, Topology


@pytest.mark.parametrize(("nodes", "processes"), [(1, 1), (1, 8), (2, 4)])
def test_ranks_are_numbered_through_all_nodes(nodes: int, processes: int) -> None:
    topology = Topology(nodes, processes, "cuda")
    found = [
        one
        for node in range(nodes)
        for one in topology.environments(Rendezvous(node, "10.0.0.1", 15242) if nodes > 1 else None)
    ]
    assert [int(one["RANK"]) for one in found] == list(range(topology.world_size))
    assert [int(one["LOCAL_RANK"]) for one in found] == [*range(processes)] * nodes
    assert {one["WORLD_SIZE"] for one in found} == {str(nodes * processes)}
    assert {one["LOCAL_WORLD_SIZE"] for one in found} == {str(processes)}


def test_a_single_node_opens_no_port_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(INTERFACES[0], raising=False)
    monkeypatch.setenv(INTERFACES[1], "eth7")
    [alone] = Topology(1, 1, "cpu").environments()
    assert (alone["MASTER_ADDR"], alone["MASTER_PORT"]) == ("127.0.0.1", "0")
    assert [alone[name] for name in INTERFACES] == ["lo", "eth7"]
    [other] = Topology(2, 1, "cpu").environments(Rendezvous(1, "10.0.0.1", 15242))
    assert (other["MASTER_ADDR"], other["MASTER_PORT"]) == ("10.0.0.1", "15242")
    assert not other.keys() & set(INTERFACES)
