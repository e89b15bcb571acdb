"""What a comparison found, told: a table in the terminal and one self-contained HTML file."""

from timecell.report.html import write_html
from timecell.report.terminal import leaderboard, print_comparison

__all__ = ["leaderboard", "print_comparison", "write_html"]
