"""The simulated exchange: one process that speaks the market-data protocol of Binance, and misbehaves when told to."""
