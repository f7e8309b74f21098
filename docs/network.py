"""Draws network.png beside this file: a graph whose edges show the gradient of one sample."""

from pathlib import Path

import numpy as np

import deltaprop as dp
from deltaprop.cli_plot import small_graph

net = small_graph()
back = net.backward(net.forward(np.array([[1.0, -0.5, 2.0]])), np.array([[0.5, 1.0]]))
dp.plot.save(Path(__file__).with_suffix(".png"), net, back)
