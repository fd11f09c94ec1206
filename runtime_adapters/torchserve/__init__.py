"""TorchServe behind the SPI."""
