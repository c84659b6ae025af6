"""`btc-ray doctor`: what this machine can do, each thing tried."""
