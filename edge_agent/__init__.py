"""The agent that runs on a board. Needs numpy, onnxruntime, tokenizers, psutil, paho-mqtt and msgspec only."""
