"""Systems for time series: rhythm, frequency, trend."""
