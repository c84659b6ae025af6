"""What several pages use: metrics, intervals, figures, templates."""
