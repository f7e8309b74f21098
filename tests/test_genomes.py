"""Genomes of neat-python as graphs: the same outputs, and trained weights on their way back."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deltaprop as dp
from conftest import sample
from deltaprop import elementary as el
from deltaprop.graphs.genomes import _express
from genomes import config, evolved, neat_outputs

X = sample((20, 3), "float64")
Y = sample((20, 2), "float64", seed=1)
GAUSS = dp.Activation(
    "gauss", lambda z: el.exp(-5.0 * z * z), lambda z: -10.0 * z * el.exp(-5.0 * z * z)
)


@pytest.fixture
def settings(tmp_path: Path) -> Any:
    return config(tmp_path)


def graph_of(genome: Any, settings: Any, **options: Any) -> dp.Graph | None:
    """The genome as a graph, or None where no input leads to one of its outputs."""
    try:
        return dp.Graph.from_neat(genome, settings, backend="numba", **options)
    except dp.GraphError as error:
        assert "no path leads from an input to output" in str(error)
        return None


def by_hand(settings: Any, **edges: float) -> Any:
    """A genome of identity nodes 0 and 1 and such others as the edges name: a_b=weight."""
    config = settings.genome_config
    genome = evolved(settings, 0, mutations=0)
    genome.connections.clear()
    for innovation, (name, weight) in enumerate(edges.items()):
        ends = tuple(int(key.replace("m", "-")) for key in name.removeprefix("e").split("_"))
        gene = config.connection_gene_type(ends, innovation)
        gene.weight, gene.enabled = weight, True
        genome.connections[ends] = gene
        for key in ends:
            if key >= 0 and key not in genome.nodes:
                genome.nodes[key] = genome.create_node(config, key)
    for node in genome.nodes.values():
        node.activation, node.aggregation, node.response, node.bias = "identity", "sum", 1.0, 0.0
    return genome


def test_evolved_genomes_have_the_outputs_of_neats_own_network(settings: Any) -> None:
    seen = {"graphs": 0, "constants": 0, "skipping": 0}
    for seed in range(60):
        genome = evolved(settings, seed)
        graph = graph_of(genome, settings)
        if graph is not None:
            wanted = neat_outputs(genome, settings, X)
            np.testing.assert_allclose(graph.predict(X), wanted, rtol=1e-12, atol=1e-12)
            levels = graph.topology.levels
            seen["graphs"] += 1
            seen["constants"] += bool(_express(genome, settings, None).constants)
            seen["skipping"] += bool(
                np.any(levels[graph.topology.target] - levels[graph.topology.source] > 1)
            )
    assert min(seen.values()) > 20


def test_their_gradients_are_the_differences(tmp_path: Path) -> None:
    smooth, seen = config(tmp_path, activations="sigmoid tanh identity"), 0
    for seed in range(6):
        graph = graph_of(evolved(smooth, seed, mutations=15), smooth)
        if graph is not None:
            assert dp.gradcheck(graph, X, Y, loss="half_mse")
            seen += 1
    assert seen > 3


def test_float32_and_names(settings: Any) -> None:
    genome = by_hand(settings, em1_5=0.1, e5_0=2.0, em3_1=1.0)
    graph = dp.Graph.from_neat(genome, settings, dtype="float32")
    assert graph.dtype == np.float32
    assert graph[5, 0] == 2.0
    assert graph[-1, 5] == np.float32(0.1)
    names = graph.topology.names
    assert names[:3] == (-1, -2, -3)
    assert graph.topology.named(graph.topology.outputs) == [0, 1]


def test_a_node_that_leads_nowhere_and_a_disabled_connection_are_left_out(settings: Any) -> None:
    genome = by_hand(settings, em1_0=1.0, em2_0=4.0, em1_1=1.0, em1_7=1.0)
    genome.connections[-2, 0].enabled = False
    graph = dp.Graph.from_neat(genome, settings)
    assert set(graph.value_and_grad(X, Y)[1].edges) == {(-1, 0), (-1, 1)}


@pytest.mark.parametrize(("neat_name", "scale"), [("sigmoid", 5.0), ("tanh", 2.5), ("relu", 1.0)])
def test_response_bias_and_scale_are_folded(settings: Any, neat_name: str, scale: float) -> None:
    genome = by_hand(settings, em1_0=0.5, em1_1=1.0)
    node = genome.nodes[0]
    node.activation, node.response, node.bias = neat_name, -2.0, 0.25
    graph = dp.Graph.from_neat(genome, settings)
    assert graph[-1, 0] == scale * -2.0 * 0.5
    assert graph[0] == scale * 0.25


def test_constants_go_into_the_biases_they_lead_to(settings: Any) -> None:
    genome = by_hand(settings, em1_0=1.0, em1_1=1.0, e7_8=3.0, e8_0=2.0)
    genome.nodes[7].bias, genome.nodes[8].bias = 0.5, 1.0
    genome.nodes[8].aggregation, genome.nodes[8].activation = "max", "square"
    graph = dp.Graph.from_neat(genome, settings)
    assert graph[0] == 2.0 * (3.0 * 0.5 + 1.0) ** 2
    np.testing.assert_array_equal(graph.predict(X), neat_outputs(genome, settings, X))


# ------------------------------------------------------------------------------------- back


def test_a_trained_graph_goes_back_into_its_genome(settings: Any) -> None:
    genomes = [evolved(settings, seed) for seed in range(25)]
    graphs = [graph_of(genome, settings) for genome in genomes]
    pairs = [(genome, graph) for genome, graph in zip(genomes, graphs) if graph is not None]
    assert len(pairs) > 15
    for genome, graph in pairs:
        before = copy.deepcopy(genome)
        graph.parameters[:] += 0.1 * sample(len(graph.parameters), "float64", seed=2)
        graph.to_neat(genome, settings)
        outputs, wanted = neat_outputs(genome, settings, X), graph.predict(X)
        np.testing.assert_allclose(outputs, wanted, rtol=1e-11, atol=1e-11)
        again = dp.Graph.from_neat(genome, settings)
        np.testing.assert_allclose(again.parameters, graph.parameters, rtol=1e-12, atol=1e-12)
        assert {k: g.enabled for k, g in genome.connections.items()} == {
            k: g.enabled for k, g in before.connections.items()
        }
        genome.mutate(settings.genome_config)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_was_not_trained_keeps_its_bits(settings: Any, dtype: str) -> None:
    for seed in range(10):
        genome = evolved(settings, seed)
        graph = graph_of(genome, settings, dtype=dtype)
        if graph is not None:
            before = str(genome)
            graph.to_neat(genome, settings)
            assert str(genome) == before


def test_training_lowers_neats_own_error(settings: Any) -> None:
    genome = evolved(settings, 4)

    def error() -> float:
        return float(np.mean((np.array(neat_outputs(genome, settings, X)) - Y) ** 2))

    graph = dp.Graph.from_neat(genome, settings)
    before = error()
    for _ in range(50):
        graph.train_step(X, Y, loss="mse", learning_rate=0.02)
    graph.to_neat(genome, settings)
    assert error() < 0.95 * before
    assert error() == pytest.approx(graph.loss(X, Y, "mse"), rel=1e-9)


def test_a_response_of_0_becomes_1_once_weights_count(settings: Any) -> None:
    genome = by_hand(settings, em1_0=3.0, em2_0=4.0, em1_1=1.0, e7_0=2.0)
    genome.nodes[7].bias = 0.5
    genome.nodes[0].response, genome.nodes[0].bias = 0.0, 0.25
    graph = dp.Graph.from_neat(genome, settings)
    assert graph[-1, 0] == 0
    graph.to_neat(genome, settings)
    assert genome.nodes[0].response == 0
    graph[-1, 0] = 0.5
    graph.to_neat(genome, settings)
    assert genome.nodes[0].response == 1
    np.testing.assert_allclose(neat_outputs(genome, settings, X), graph.predict(X), rtol=1e-12)


def test_another_genome_is_refused_and_left_alone(settings: Any) -> None:
    graph = dp.Graph.from_neat(by_hand(settings, em1_0=1.0, em1_1=1.0), settings)
    graph.parameters[:] = 7
    more = by_hand(settings, em1_0=1.0, em1_1=1.0, em2_1=1.0)
    other = by_hand(settings, em1_0=1.0, em1_1=1.0)
    other.nodes[0].activation = "relu"
    hidden = by_hand(settings, em1_5=1.0, e5_0=1.0, em1_1=1.0)
    for genome, words in ((more, r"edges \(-2, 1\)"), (other, "unit 0"), (hidden, "units 5")):
        before = str(genome)
        with pytest.raises(dp.GraphError, match=words):
            graph.to_neat(genome, settings)
        assert str(genome) == before


# --------------------------------------------------------------------------------- refusals


def test_an_activation_of_neats_own_needs_one_of_ours(settings: Any) -> None:
    genome = by_hand(settings, em1_0=0.3, em2_0=0.7, em1_1=1.0)
    genome.nodes[0].activation = "gauss"
    with pytest.raises(dp.GraphError, match=r"node 0 has activation 'gauss'.*activations="):
        dp.Graph.from_neat(genome, settings)
    given = {"gauss": GAUSS}
    graph = dp.Graph.from_neat(genome, settings, activations=given)
    wanted = neat_outputs(genome, settings, X)
    np.testing.assert_allclose(graph.predict(X), wanted, rtol=1e-12, atol=1e-12)
    graph[-1, 0] = 0.4
    graph.to_neat(genome, settings, activations=given)
    assert genome.connections[-1, 0].weight == 0.4
    assert dp.Graph.from_neat(genome, settings, activations={"gauss": "silu"})[-1, 0] == 0.4


def test_a_name_that_the_config_gives_another_meaning_is_not_ours(settings: Any) -> None:
    genome = by_hand(settings, em1_0=1.0, em1_1=1.0)
    settings.genome_config.add_activation("relu", lambda z: max(0.0, z) ** 2)
    genome.nodes[0].activation = "relu"
    with pytest.raises(dp.GraphError, match="node 0 has activation 'relu'"):
        dp.Graph.from_neat(genome, settings)


@pytest.mark.parametrize("name", ["product", "max", "min", "maxabs", "median", "mean"])
def test_an_aggregation_of_one_input_is_a_sum_of_several_it_is_not(
    settings: Any, name: str
) -> None:
    genome = by_hand(settings, em1_0=-1.5, em1_1=1.0)
    genome.nodes[0].aggregation = name
    graph = dp.Graph.from_neat(genome, settings)
    np.testing.assert_array_equal(graph.predict(X), neat_outputs(genome, settings, X))
    genome = by_hand(settings, em1_0=-1.5, em2_0=1.0, em1_1=1.0)
    genome.nodes[0].aggregation = name
    with pytest.raises(dp.GraphError, match=f"node 0 has aggregation {name!r} of 2 inputs"):
        dp.Graph.from_neat(genome, settings)


def test_an_aggregation_of_the_users_own_is_refused_even_for_one_input(settings: Any) -> None:
    genome = by_hand(settings, em1_0=-1.5, em1_1=1.0)
    settings.genome_config.add_aggregation("twice", lambda x: 2 * sum(x))
    genome.nodes[0].aggregation = "twice"
    with pytest.raises(dp.GraphError, match="'twice' of 1 input"):
        dp.Graph.from_neat(genome, settings)


def test_cycles_are_named(tmp_path: Path) -> None:
    recurrent = config(tmp_path, feed_forward=False)
    genome = by_hand(recurrent, em1_5=1.0, e5_6=1.0, e6_5=1.0, e6_0=1.0, em1_1=1.0)
    with pytest.raises(dp.GraphError, match=r"cycle: (5 -> 6 -> 5|6 -> 5 -> 6)"):
        dp.Graph.from_neat(genome, recurrent)
    genome = by_hand(recurrent, em1_0=1.0, e0_0=1.0, em1_1=1.0)
    with pytest.raises(dp.GraphError, match="cycle: 0 -> 0"):
        dp.Graph.from_neat(genome, recurrent)


def test_outputs_without_a_path_are_named(settings: Any) -> None:
    genome = by_hand(settings, em1_0=1.0, e7_1=1.0)
    with pytest.raises(dp.GraphError, match=r"no path leads from an input to output 1$"):
        dp.Graph.from_neat(genome, settings)


def test_a_genome_that_lacks_a_node(settings: Any) -> None:
    genome = by_hand(settings, em1_5=1.0, e5_0=1.0, em1_1=1.0)
    del genome.nodes[5]
    with pytest.raises(dp.GraphError, match="nodes it lacks: 5"):
        dp.Graph.from_neat(genome, settings)


def test_without_neat_it_says_how_to_install_it(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    genome = by_hand(settings, em1_0=1.0, em1_1=1.0)
    monkeypatch.setitem(sys.modules, "neat.activations", None)
    with pytest.raises(ImportError, match="pip install neat-python"):
        dp.Graph.from_neat(genome, settings)
