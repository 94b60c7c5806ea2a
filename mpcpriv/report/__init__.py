"""A result as people read it: text, files of tables, plots, HTML, PDF.

In reading order: `display.py` (which tables and plots an answer is), `numbers.py` (how numbers are printed),
`words.py` (what was promised), `report.py` (all of it together), and what is made of that: `text.py`,
`export.py`, `frames.py`, `plots.py`, `html.py`, `pdf.py`. Column names, categories and titles come from other
members: each of these shows them, and obeys none.
"""

from mpcpriv.report.report import Report

__all__ = ["Report"]
