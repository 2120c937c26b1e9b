"""Flows and executions as pictures: text for Mermaid and Graphviz, SVG, and a page."""
