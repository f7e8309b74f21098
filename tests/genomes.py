"""Genomes of neat-python for tests: evolved by its own mutations."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import neat
from neat.innovation import InnovationTracker

CONFIG = """
[NEAT]
fitness_criterion = max
fitness_threshold = 1000
pop_size = 10
reset_on_extinction = False
no_fitness_termination = True

[DefaultGenome]
activation_default = random
activation_mutate_rate = 0.2
activation_options = {activations}
aggregation_default = sum
aggregation_mutate_rate = 0.0
aggregation_options = sum
bias_init_mean = 0.0
bias_init_stdev = 1.0
bias_init_type = gaussian
bias_max_value = 30.0
bias_min_value = -30.0
bias_mutate_power = 0.5
bias_mutate_rate = 0.7
bias_replace_rate = 0.1
compatibility_disjoint_coefficient = 1.0
compatibility_weight_coefficient = 0.5
conn_add_prob = 0.6
conn_delete_prob = 0.15
enabled_default = True
enabled_mutate_rate = 0.05
enabled_rate_to_false_add = 0.0
enabled_rate_to_true_add = 0.0
feed_forward = {feed_forward}
initial_connection = {connection}
node_add_prob = 0.5
node_delete_prob = 0.1
num_hidden = 0
num_inputs = {inputs}
num_outputs = {outputs}
response_init_mean = 1.0
response_init_stdev = 0.3
response_init_type = gaussian
response_max_value = 30.0
response_min_value = -30.0
response_mutate_power = 0.2
response_mutate_rate = 0.5
response_replace_rate = 0.0
single_structural_mutation = False
structural_mutation_surer = default
weight_init_mean = 0.0
weight_init_stdev = 1.0
weight_init_type = gaussian
weight_max_value = 30
weight_min_value = -30
weight_mutate_power = 0.5
weight_mutate_rate = 0.8
weight_replace_rate = 0.1

[DefaultSpeciesSet]
compatibility_threshold = 3.0

[DefaultStagnation]
species_fitness_func = max
max_stagnation = 20
species_elitism = 2

[DefaultReproduction]
elitism = 2
survival_threshold = 0.2
min_species_size = 2
"""


def config(folder: Path, **options: Any) -> Any:
    """A neat.Config: three inputs and two outputs that are connected, unless options differ."""
    given = {
        "activations": "sigmoid tanh relu elu identity",
        "feed_forward": True,
        "connection": "full_direct",
        "inputs": 3,
        "outputs": 2,
        **options,
    }
    path = folder / "neat.ini"
    path.write_text(CONFIG.format(**given), encoding="utf-8")
    parts = neat.DefaultGenome, neat.DefaultReproduction, neat.DefaultSpeciesSet
    made = neat.Config(*parts, neat.DefaultStagnation, str(path))
    made.genome_config.innovation_tracker = InnovationTracker()
    return made


def evolved(settings: Any, seed: int, mutations: int = 30) -> Any:
    """A genome after so many mutations."""
    random.seed(seed)
    genome = neat.DefaultGenome(seed)
    genome.configure_new(settings.genome_config)
    for _ in range(mutations):
        genome.mutate(settings.genome_config)
    return genome


def neat_outputs(genome: Any, settings: Any, X: Any) -> list[list[float]]:
    """What neat's own network computes for each sample."""
    net = neat.nn.FeedForwardNetwork.create(genome, settings)
    return [net.activate(x) for x in X.tolist()]
