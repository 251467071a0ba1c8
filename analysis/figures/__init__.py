"""The figures, a module a concern; `analysis.plots` draws and saves them."""
