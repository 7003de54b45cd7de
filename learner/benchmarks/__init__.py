"""`onibus bench`: every figure of the README, measured side by side on this machine."""
